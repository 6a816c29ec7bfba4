"""Optimizers are torch's; schedules are their formulas."""

import math

import pytest
import torch

import genkit
from genkit.registry import installed
from genkit.testing.common import examples

PLAIN = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


def trajectory(build):
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = build([weight])
    for _ in range(5):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()
    return weight.tolist()


@pytest.mark.parametrize("name", installed().names("optimizer"))
def test_optimizer_steps_as_torchs_own(name):
    ours = genkit.build("optimizer", {"use": name, "lr": 0.05, "weight_decay": 0.02})
    plain = trajectory(lambda p: PLAIN[name](p, lr=0.05, weight_decay=0.02, foreach=False))
    assert trajectory(ours.build) == pytest.approx(plain, rel=1e-5)


def factor(node, epoch, total=100):
    return genkit.build("schedule", node).factor(epoch, total)


@pytest.mark.parametrize(
    ("node", "epoch", "expected"),
    [
        ("constant", 50, 1),
        ({"use": "constant", "warmup_epochs": 4}, 1, 0.25),
        ("cosine", 0, 1),
        ("cosine", 50, 0.5),
        ("cosine", 100, 0),
        ({"use": "cosine", "final": 0.2}, 100, 0.2),
        ({"use": "cosine", "warmup_epochs": 10}, 5, 0.5),
        ({"use": "cosine", "warmup_epochs": 10}, 55, 0.5),
        ("cosine", 25, (1 + math.cos(math.pi / 4)) / 2),
        ({"use": "step", "epochs": 30, "gamma": 0.1}, 29.9, 1),
        ({"use": "step", "epochs": 30, "gamma": 0.1}, 60, 0.01),
        ({"use": "exponential", "gamma": 0.99}, 200.5, 0.99**200),
        ({"use": "stages", "epochs": [1, 3, 9], "gamma": 0.1}, 0.99, 1.0),
        ({"use": "stages", "epochs": [1, 3, 9], "gamma": 0.1}, 1, 0.1),
        ({"use": "stages", "epochs": [1, 3, 9], "gamma": 0.1}, 3.99, 0.1),
        ({"use": "stages", "epochs": [1, 3, 9], "gamma": 0.1}, 4, 0.01),
        ({"use": "stages", "epochs": [1, 3, 9], "gamma": 0.1}, 500, 0.01),
    ],
)
def test_schedule_is_its_formula(node, epoch, expected):
    assert factor(node, epoch) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", installed().names("schedule"))
def test_every_schedule_starts_at_the_full_rate_and_warms_up(name):
    for example in examples("schedule", name):
        plain = example.to_plain() | {"warmup_epochs": 0}
        assert factor(plain, 0) == 1
        assert factor({**plain, "warmup_epochs": 10}, 0) == 0
        assert factor({**plain, "warmup_epochs": 10}, 5) == pytest.approx(factor(plain, 5) * 0.5, rel=0.1)
