"""Workers: they read what this process would read, and end when the run does, not when a signal comes."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import toy
from torch.utils.data import Dataset

import genkit
from genkit import DataError, Split
from genkit.engine import Trainer, assemble
from genkit.engine.feed import Feed
from genkit.engine.folder import RunFolder
from genkit.engine.reading import leave_signals, signals_held
from genkit.recipe import load_recipe
from genkit.registry import Plugin, Registrar, load_registry

CPU = torch.device("cpu")


class Source(Dataset):
    """Examples by a function of their index."""

    def __init__(self, example, size=10):
        self.example = example
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return self.example(index)


def feed_of(example, workers=0, fixed=True, size=10):
    return Feed(Split(Source(example, size), torch.Tensor.float, fixed=fixed), CPU, workers)


def values(batches):
    return torch.cat([batch.x for batch in batches])


# ---- examples ----------------------------------------------------------------------------------------------------


def drawn(index):
    return torch.cat([torch.rand(1), torch.tensor([np.random.rand(), random.random()]).float()]), index


def test_an_example_that_is_drawn_depends_on_seed_epoch_and_index_alone():
    here, there = feed_of(drawn, 0, fixed=False), feed_of(drawn, 2, fixed=False)
    first = values(here.epoch(3, seed=1, epoch=0))
    assert torch.equal(values(there.epoch(3, seed=1, epoch=0)), first)
    assert torch.equal(values(there.epoch(3, seed=1, epoch=0, skip=2)), first[6:])
    assert torch.equal(values(here.epoch(5, seed=1, epoch=0)), first)
    assert not torch.equal(values(here.epoch(3, seed=1, epoch=1)).sort(0).values, first.sort(0).values)
    assert len(first.unique()) == first.numel()
    assert torch.equal(values(here.batches(4)), values(there.batches(3)))


def test_a_source_that_draws_moves_no_number_of_the_training():
    feed = feed_of(drawn, fixed=False)
    states = []
    for _ in range(2):
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        states.append((torch.rand(1).item(), np.random.rand(), random.random()))
        list(feed.epoch(3, seed=1, epoch=len(states)))
        states[-1] += (torch.rand(1).item(), np.random.rand(), random.random())
    assert states[0] == states[1]


def test_each_worker_computes_with_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = values(feed_of(lambda i: (torch.tensor([torch.get_num_threads()]), 0), workers=1).batches(10))
    finally:
        torch.set_num_threads(before)
    assert found.unique().tolist() == [1]


def test_no_more_workers_than_batches():
    found = values(feed_of(lambda i: (torch.tensor([os.getpid()]), 0), workers=3).batches(5))
    assert len(found.unique()) == 2
    assert os.getpid() not in found


# ---- what is damaged ---------------------------------------------------------------------------------------------


def damaged(index):
    if index == 7:
        raise DataError("photo 7 is damaged")
    return torch.zeros(1), 0


def broken(index):
    return [][index]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_damaged_is_named_without_a_workers_traceback(workers):
    batches = feed_of(damaged, workers).batches(3)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(DataError) as caught:
        next(batches)
    assert str(caught.value) == "photo 7 is damaged"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mistake_in_a_source_keeps_its_traceback(workers):
    with pytest.raises(IndexError, match=r"in broken\n(.*\n)*.*list index" if workers else "list index") as caught:
        next(feed_of(broken, workers).batches(3))
    assert not isinstance(caught.value, genkit.GenkitError)
    assert not multiprocessing.active_children(), "whoever keeps the error keeps the workers"


# ---- the same training -------------------------------------------------------------------------------------------


class Photos(genkit.Dataset):
    """The toy's bits, one by one."""

    @property
    def spec(self):
        return toy.Bits().spec

    def split(self, name):
        bits = toy.Bits().split(name).source
        return Split(Source(lambda i: (bits[i], -1), len(bits)), torch.Tensor.float)


@pytest.fixture
def train(tmp_path):
    """Trains the toy recipe; returns its weights and what was said of the data."""
    registry = toy.registry()
    Registrar(registry, Plugin("photos", "photos", "tests", "0"))("photos", Photos)

    def run(*overrides):
        assembly = assemble(load_recipe(toy.RECIPE, overrides, registry), CPU)
        trainer = Trainer(assembly, RunFolder(tmp_path / str(time.monotonic_ns())), load_registry([]).manager)
        trainer.run()
        weights = trainer.assembly.parts.model.state_dict()
        return torch.cat([weight.flatten() for weight in weights.values()]), trainer.describe().data

    return run


def test_weights_are_the_same_wherever_examples_come_from(train):
    expected, said = train()
    assert said == "160 examples on cpu (1.3 kB)"
    for cache, where in (("auto", "kept on cpu as uint8, read once"), ("none", "streamed")):
        for workers in (0, 2):
            weights, said = train("data=photos", f"train.cache={cache}", f"train.workers={workers}")
            assert torch.equal(weights, expected), (cache, workers)
            readers = "2 workers" if workers else "the training process"
            assert said.removesuffix(" (1.3 kB)") == f"160 examples {where} by {readers}"
    assert not torch.equal(train("seed=4")[0], expected)


# ---- signals -----------------------------------------------------------------------------------------------------


def wait_deaf(ready):
    leave_signals(0)
    ready.set()
    time.sleep(60)


@pytest.fixture
def worker():
    ready = multiprocessing.Event()
    process = multiprocessing.Process(target=wait_deaf, args=(ready,), daemon=True)
    process.start()
    assert ready.wait(30)
    yield process
    process.kill()
    process.join()


def test_a_worker_obeys_its_parent(worker):
    worker.terminate()
    worker.join(30)
    assert worker.exitcode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_obeys_nobody_else(worker, number):
    subprocess.run([sys.executable, "-c", f"import os; os.kill({worker.pid}, {number})"], check=True)
    worker.join(0.5)
    assert worker.is_alive()


def test_a_worker_that_hangs_does_not_hold_the_run_up(monkeypatch):
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    batches = feed_of(lambda i: (torch.zeros(1), time.sleep(60 * (i > 3)) or 0), workers=2).batches(2)
    next(batches)
    children = multiprocessing.active_children()
    assert len(children) == 2
    began = time.monotonic()
    del batches
    assert time.monotonic() - began < 5
    assert not [child for child in children if child.is_alive()]


def test_signals_wait_while_workers_start():
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with signals_held():
            os.kill(os.getpid(), signal.SIGINT)
            assert not heard
        assert heard == [signal.SIGINT]
        os.kill(os.getpid(), signal.SIGINT)
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGINT, before)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_signals_that_another_thread_takes_wait_too():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with signals_held():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # as if another thread had it
            os.kill(os.getpid(), signal.SIGTERM)
            assert not heard
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
