"""Random numbers by purpose, and states that come back whole."""

import random

import numpy as np
import torch

from genkit.engine.seeds import derive_seed, isolated, random_states, restore_random_states

CPU = torch.device("cpu")


def draw():
    return torch.rand(3).tolist(), np.random.standard_normal(3).tolist(), random.gauss(0, 1), random.random()


def test_isolated_draws_are_repeatable_and_leave_no_trace():
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    np.random.standard_normal()  # leaves half a pair behind in the generator
    random.gauss(0, 1)
    states = random_states(CPU)
    expected = draw()
    restore_random_states(states, CPU)
    with isolated(7, CPU):
        first = draw()
    with isolated(7, CPU):
        assert draw() == first
    with isolated(8, CPU):
        assert draw() != first
    assert draw() == expected


def test_isolation_survives_an_error():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    try:
        with isolated(7, CPU):
            torch.rand(5)
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.rand(1), expected)


def test_purposes_have_seeds_of_their_own():
    seeds = {derive_seed(seed, *purpose) for seed in (0, 1) for purpose in (("a",), ("b",), ("a", 1), ("a", 2))}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(42, "order", 0) == derive_seed(42, "order", 0)
