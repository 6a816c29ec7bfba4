"""Bits per dimension beside the entropy of data of which everything is known."""

import math

import pytest
import torch
from torch import Tensor

import genkit
from genkit import Dataset, GenerativeModel, HasEnergy, HasLogProb, LogProb, Split
from genkit.engine.feed import Feed

DIMS, STD, COUNT = 3, 2.0, 5000
SPEC = genkit.DataSpec((DIMS,))
ENTROPY = DIMS * (0.5 * math.log(2 * math.pi * math.e) + math.log(STD))
ERROR = (DIMS / 2 / COUNT) ** 0.5  # in nats: the energy of a normal has variance 1/2 for each dimension
BIT = DIMS * math.log(2)  # nats to a bit in each dimension


class Normal(GenerativeModel, HasLogProb):
    """Independent normals with one mean and the spread of the data."""

    def __init__(self, mean=0.0, tightness="exact"):
        super().__init__(SPEC)
        self.mean, self.tightness = mean, tightness

    def log_prob(self, x, context=None, num_samples=1):
        return LogProb(torch.distributions.Normal(self.mean, STD).log_prob(x).sum(1), self.tightness, "density")


class Known(Dataset, HasEnergy):
    """Independent normals."""

    spec = SPEC
    log_partition = 0.0

    def __init__(self, entropy=ENTROPY):
        self._entropy = entropy

    entropy = property(lambda self: self._entropy)

    def split(self, name):
        return Split(STD * torch.randn(COUNT, DIMS), Tensor.float)

    def energy(self, x):
        return -torch.distributions.Normal(0.0, STD).log_prob(x).sum(1)


def figures(model, dataset, count=COUNT):
    torch.manual_seed(3)
    view = Feed(Split(STD * torch.randn(count, DIMS), Tensor.float), torch.device("cpu"))
    subject = genkit.Subject(model, None, None, dataset, {"test": view}, epoch=0, batch_size=512)
    return {f.name: f for f in genkit.build("evaluator", "bits_per_dim", model).evaluate(subject, "test")}


def test_a_perfect_model_reaches_the_entropy():
    found = figures(Normal(), Known())
    assert list(found) == ["", "nats", "standard_error"]
    assert found["nats"].floor == ENTROPY
    assert found[""].floor == pytest.approx(ENTROPY / BIT)
    assert found["nats"].value == pytest.approx(ENTROPY, abs=4 * ERROR)
    assert found[""].value == pytest.approx(found["nats"].value / BIT)


def test_a_worse_model_is_above_it_by_its_divergence():
    found = figures(Normal(mean=1.0), Known())
    divergence = DIMS * 1.0 / (2 * STD**2)
    error = (DIMS / 2 + 2 * divergence) ** 0.5 / COUNT**0.5
    assert found["nats"].value - found["nats"].floor == pytest.approx(divergence, abs=4 * error)
    assert found["nats"].value - found["nats"].floor > divergence / 2


def test_the_standard_error_is_in_bits_per_dimension():
    error = figures(Normal(), Known())["standard_error"]
    assert error.value == pytest.approx(ERROR / BIT, rel=0.05)
    assert (error.unit, error.better, error.floor) == ("bits/dim", None, None)
    assert error.tag == "exact; density of continuous"
    few = figures(Normal(), Known(), count=50)["standard_error"]
    assert few.value == pytest.approx(ERROR * 10 / BIT, rel=0.3)


@pytest.mark.parametrize(
    ("tightness", "dataset"),
    [("exact", None), ("exact", Known(entropy=None)), ("lower bound", Known()), ("estimate", Known())],
)
def test_without_an_entropy_or_an_exact_likelihood_nothing_is_added(tightness, dataset):
    found = figures(Normal(tightness=tightness), dataset)
    assert list(found) == ["", "nats"]
    assert [figure.floor for figure in found.values()] == [None, None]


def test_an_entropy_of_zero_is_a_floor():
    found = figures(Normal(), Known(entropy=0.0))
    assert [found[name].floor for name in ("", "nats")] == [0.0, 0.0]
    assert "standard_error" in found


def test_one_example_has_no_standard_error():
    assert list(figures(Normal(), Known(), count=1)) == ["", "nats"]
