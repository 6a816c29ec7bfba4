"""The reverse divergence between normals, where it is known by hand."""

import math

import pytest
import torch
from torch import nn

import genkit
from genkit import Batch, Dataset, GenerativeModel, HasEnergy, Progress, SamplesWithLogProb
from genkit.registry import Plugin, Registrar, load_registry
from genkit_objectives import reverse_kl

SPEC = genkit.DataSpec((2,))
LOG_Z = 1.7
MEAN, STD = torch.tensor([1.0, -0.5]), torch.tensor([0.5, 2.0])  # the model's
TARGET_MEAN, TARGET_STD = torch.tensor([0.0, 0.5]), torch.tensor([1.0, 1.5])
KL = ((TARGET_STD / STD).log() + (STD.square() + (MEAN - TARGET_MEAN).square()) / (2 * TARGET_STD.square()) - 0.5).sum()


class Gaussian(GenerativeModel, SamplesWithLogProb):
    """Independent normals, and a parameter that samples do not depend on."""

    def __init__(self, spec=SPEC, mean=MEAN, std=STD):
        super().__init__(spec)
        self.mean = nn.Parameter(mean.clone())
        self.log_std = nn.Parameter(std.log())
        self.idle = nn.Parameter(torch.zeros(3))

    def sampling_parameters(self):
        return [self.mean, self.log_std]

    def rsample(self, num_samples, context=None):
        return self.mean + self.log_std.exp() * torch.randn(num_samples, 2)

    def rsample_with_log_prob(self, num_samples, context=None):
        x = self.rsample(num_samples, context)
        return x, torch.distributions.Normal(self.mean, self.log_std.exp()).log_prob(x).sum(1)


class Unknown(Dataset):
    """Data that nothing is known of."""

    def __init__(self):
        pass

    spec = SPEC

    def split(self, name):
        return None


class Energy(Unknown, HasEnergy):
    """The energy of normals, raised so that the logarithm of its partition is LOG_Z."""

    def __init__(self, *, log_partition: float | None = LOG_Z):
        self._log_partition = log_partition

    log_partition = property(lambda self: self._log_partition)
    entropy = None

    def energy(self, x):
        return -torch.distributions.Normal(TARGET_MEAN, TARGET_STD).log_prob(x).sum(1) - LOG_Z


def loss_of(model, size=6, epoch=0.0, dataset=None, data=0.0, **options):
    objective = genkit.build("objective", {"use": "reverse_kl", **options}, model)
    objective.prepare(dataset or Energy())
    (turn,) = objective.turns(model)
    torch.manual_seed(1)
    return turn.loss(Batch(torch.full((size, 2), data)), Progress(torch.tensor(0.0), torch.tensor(epoch)))


def test_is_the_divergence_between_normals():
    sizes = 40_000
    loss = loss_of(Gaussian(), sizes)
    torch.manual_seed(1)
    x, log_q = Gaussian().rsample_with_log_prob(sizes)
    error = (log_q + Energy().energy(x)).std().item() / sizes**0.5
    assert error < 0.01
    assert KL.item() == pytest.approx(math.log(2) + 1 / 8 - math.log(4 / 3) + 11 / 18, abs=1e-5)
    assert loss.terms["reverse_kl"].item() == pytest.approx(KL.item(), abs=4 * error)
    assert loss.terms["free_energy"].item() == pytest.approx(KL.item() - LOG_Z, abs=4 * error)
    assert loss.total.item() == pytest.approx(loss.terms["free_energy"].item(), rel=1e-6)


def test_a_perfect_model_has_the_floor_at_every_sample():
    for size in (1, 7):
        loss = loss_of(Gaussian(mean=TARGET_MEAN, std=TARGET_STD), size)
        assert loss.terms["free_energy"].item() == pytest.approx(-LOG_Z, abs=1e-5)
        assert loss.terms["reverse_kl"].item() == pytest.approx(0.0, abs=1e-5)


def test_gradients_are_those_of_the_divergence():
    model = Gaussian()
    loss_of(model, 40_000).total.backward()
    by_mean = (MEAN - TARGET_MEAN) / TARGET_STD.square()
    by_log_std = (STD / TARGET_STD).square() - 1
    assert torch.allclose(model.mean.grad, by_mean, atol=0.02)
    assert torch.allclose(model.log_std.grad, by_log_std, atol=0.04)


def test_training_reaches_the_target():
    model = Gaussian()
    objective = genkit.build("objective", "reverse_kl", model)
    objective.prepare(Energy())
    (turn,) = objective.turns(model)
    optimizer = torch.optim.Adam(objective.players(model)["model"], lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        turn.loss(Batch(torch.zeros(64, 2)), Progress(torch.tensor(0.0), torch.tensor(0.0))).total.backward()
        optimizer.step()
    assert loss_of(model, 1000).terms["reverse_kl"].item() == pytest.approx(0.0, abs=0.01)
    assert torch.allclose(model.mean, TARGET_MEAN, atol=0.1)
    assert torch.allclose(model.log_std.exp(), TARGET_STD, atol=0.1)


def test_takes_as_many_samples_as_the_batch_has_examples_and_none_of_its_data():
    model, asked = Gaussian(), []
    drawn = model.rsample_with_log_prob
    model.rsample_with_log_prob = lambda num_samples: (asked.append(num_samples), drawn(num_samples))[1]
    assert loss_of(model, 5).total == loss_of(model, 5, data=9.0).total
    loss_of(model, 8)
    assert asked == [5, 5, 8]


def test_the_divergence_is_said_where_the_partition_is_known():
    model = Gaussian()
    objective = genkit.build("objective", "reverse_kl", model)
    assert set(objective.turns(model)[0].units) == {"free_energy", "reverse_kl"}
    assert set(objective.turns(model)[0].units.values()) == {"nats"}
    known, unknown = loss_of(model), loss_of(model, dataset=Energy(log_partition=None))
    assert list(known.terms) == ["free_energy", "reverse_kl"]
    assert list(unknown.terms) == ["free_energy"]
    assert unknown.terms["free_energy"] == known.terms["free_energy"]
    assert list(loss_of(model, dataset=Energy(log_partition=0.0)).terms) == ["free_energy", "reverse_kl"]


@pytest.mark.parametrize(("epoch", "weight"), [(0.0, 0.01), (2.5, 0.26), (9.9, 1.0), (10.0, 1.0), (50.0, 1.0)])
def test_warmup_weighs_the_energy_in_the_loss_alone(epoch, weight):
    plain, loss = loss_of(Gaussian()), loss_of(Gaussian(), epoch=epoch, warmup_epochs=10)
    torch.manual_seed(1)
    x, log_q = Gaussian().rsample_with_log_prob(6)
    expected = (log_q + weight * Energy().energy(x)).mean()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.terms == plain.terms


def test_moves_what_samples_depend_on():
    model = Gaussian()
    (moved,) = genkit.build("objective", "reverse_kl", model).players(model).values()
    assert [id(parameter) for parameter in moved] == [id(model.mean), id(model.log_std)]


def test_data_without_an_energy_is_refused_with_what_would_do(monkeypatch):
    registry = load_registry([])
    register = Registrar(registry, Plugin("tests", "tests", "tests", "0"))
    register("unknown", Unknown)
    monkeypatch.setattr(reverse_kl, "installed", lambda: registry)
    objective = genkit.build("objective", "reverse_kl", Gaussian())
    with pytest.raises(
        ValueError, match=r"is known and finite .* that of Unknown is not; .* would do: none that is installed"
    ):
        objective.prepare(Unknown())
    register("energy", Energy)
    with pytest.raises(ValueError, match=r"that of Unknown is not; datasets that would do: energy$"):
        objective.prepare(Unknown())


def test_discrete_data_is_refused():
    spec = genkit.DataSpec((2,), levels=256)
    with pytest.raises(genkit.RecipeError, match="takes continuous data, but the data has 256 levels"):
        genkit.build("objective", "reverse_kl", Gaussian(spec))


def test_keeps_nothing_of_its_own():
    objective = genkit.build("objective", "reverse_kl", Gaussian())
    objective.prepare(Energy())
    assert not objective.state_dict()
    assert not list(objective.parameters())
