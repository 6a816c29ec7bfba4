"""The estimate against what is independent of it, and the objective."""

import math

import pytest
import scipy.stats
import torch
from energy_distance.estimate import among, estimate
from energy_distance.kernels import Euclidean, Gaussian, Laplacian
from energy_distance.objective import EnergyDistance
from torch import Tensor

import genkit
from genkit.testing import check_objective, factory

KERNELS = [Euclidean(), Euclidean(exponent=1.3), Gaussian(), Laplacian(scales=[0.3, 2.0])]


def spread(mean: float, std: float) -> float:
    """The mean absolute value of a normal: that of a folded one."""
    return std * math.sqrt(2 / math.pi) * math.exp(-((mean / std) ** 2) / 2) + mean * math.erf(
        mean / std / math.sqrt(2)
    )


def likeness(mean: float, variance: float, scale: float) -> float:
    """The mean of a Gaussian kernel over a normal difference."""
    return scale / math.sqrt(scale**2 + variance) * math.exp(-(mean**2) / 2 / (scale**2 + variance))


def normals(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Numbers from N(0, 1) and from N(0.7, 1.5)."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, count, 1, generator=generator, dtype=torch.float64)
    return x, 0.7 + 1.5 * y


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)], ids=str)
def test_the_estimate_is_the_double_sum(kernel: object, shape: tuple) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(5, *shape, dtype=torch.float64), torch.rand(4, *shape, dtype=torch.float64)

    def mean(one: Tensor, other: Tensor, *, different: bool) -> float:
        pairs = [(i, j) for i in range(len(one)) for j in range(len(other)) if not different or i != j]
        return sum(kernel(one[i].view(1, -1), other[j].view(1, -1)).item() for i, j in pairs) / len(pairs)

    expected = mean(x, x, different=True) + mean(y, y, different=True) - 2 * mean(x, y, different=False)
    assert estimate(kernel, x, y).squared_distance.item() == pytest.approx(expected, abs=1e-7)


def test_the_estimate_is_scipys_but_for_the_pairs_of_an_example_with_itself() -> None:
    x, y = (values[:50] for values in normals(1, 60))
    y = y[:40]
    found = estimate(Euclidean(), x, y)
    biased = scipy.stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    # scipy's means count n zeros among n^2 pairs: they are (n - 1) / n of ours
    assert biased == pytest.approx((found.data * 49 / 50 + found.samples * 39 / 40 - 2 * found.across).item())


def test_the_energy_distance_of_two_normals_is_that_in_closed_form() -> None:
    closed = 2 * spread(0.7, math.sqrt(1 + 1.5**2)) - spread(0, math.sqrt(2)) - spread(0, 1.5 * math.sqrt(2))
    found = torch.stack([estimate(Euclidean(), *normals(seed, 500)).squared_distance for seed in range(40)])
    error = found.std().item() / math.sqrt(40)
    assert error < closed / 20
    assert found.mean().item() == pytest.approx(closed, abs=4 * error)


def test_the_discrepancy_of_two_normals_under_a_gaussian_is_that_in_closed_form() -> None:
    closed = likeness(0, 2, 0.8) + likeness(0, 2 * 1.5**2, 0.8) - 2 * likeness(0.7, 1 + 1.5**2, 0.8)
    kernel = Gaussian(scales=[0.8])
    found = torch.stack([estimate(kernel, *normals(seed, 500)).squared_distance for seed in range(40)])
    error = found.std().item() / math.sqrt(40)
    assert error < closed / 20
    assert found.mean().item() == pytest.approx(closed, abs=4 * error)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_the_estimate_is_unbiased_in_the_smallest_batches(kernel: object) -> None:
    """Of two examples and two samples of one distribution it is 0 on average; with the pairs of itself it is not."""
    torch.manual_seed(0)
    x, y = torch.randn(2, 800, 2, 2, dtype=torch.float64)
    found = torch.stack([estimate(kernel, *pair).squared_distance for pair in zip(x, y, strict=True)])
    error = found.std().item() / math.sqrt(len(found))
    assert abs(found.mean().item()) < 4 * error
    biased = found + torch.stack([(kernel(p, p).mean() - among(kernel, p)) * 2 for p in x])
    assert biased.mean().item() > 6 * error


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_its_gradient_is_that_of_differences(kernel: object) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda samples: estimate(kernel, x, samples).squared_distance, y, atol=1e-4)


def test_samples_that_fall_onto_the_data_have_a_finite_gradient() -> None:
    """Also in float32 and beyond 25 points, where torch multiplies matrices to get distances."""
    torch.manual_seed(0)
    x = torch.rand(40, 784)
    for kernel in KERNELS:
        y = x.clone().requires_grad_()
        estimate(kernel, x, y).squared_distance.backward()
        assert torch.isfinite(y.grad).all()
        assert y.grad.norm() < 10


@pytest.mark.parametrize("options", EnergyDistance.examples, ids=str)
def test_the_objective_keeps_the_contract(options: dict) -> None:
    check_objective(factory("objective", {"use": "energy_distance", **options}))


def generator(spec: genkit.DataSpec) -> genkit.GenerativeModel:
    """A small model whose samples are differentiable."""
    network = {"use": "mlp", "hidden_dims": [64, 64]}
    return genkit.build("model", {"use": "generator", "latent_dim": 2, "network": network}, spec)


def test_a_batch_of_one_example_still_teaches() -> None:
    model = generator(genkit.DataSpec((2,)))
    objective = EnergyDistance(model, kernel=genkit.Factory("euclidean", component=Euclidean))
    loss = objective.loss(model, genkit.Batch(torch.zeros(1, 2)))
    assert loss.total.item() == pytest.approx((loss.terms["repulsion"] - 2 * loss.terms["attraction"]).item())
    loss.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.sampling_parameters())


def two_modes(count: int) -> Tensor:
    """Points in the plane: three quarters near (1, 1), a quarter near (-1, -1)."""
    return 2.0 * (torch.rand(count, 1) < 0.75) - 1 + 0.1 * torch.randn(count, 2)


def distance(model: genkit.GenerativeModel) -> float:
    """The distance of what its samples add up to from what the data does, as scipy finds it."""
    samples, data = model.rsample(4000).detach(), two_modes(4000)
    return scipy.stats.energy_distance(samples.sum(1).numpy(), data.sum(1).numpy())


@pytest.mark.parametrize("kernel", ["euclidean", "gaussian"])
def test_a_model_learns_two_modes_and_how_often_each_comes(kernel: str) -> None:
    torch.manual_seed(0)
    model = generator(genkit.DataSpec((2,)))
    objective = genkit.build("objective", {"use": "energy_distance", "kernel": kernel}, model)
    (turn,), (parameters,) = objective.turns(model), objective.players(model).values()
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    progress = genkit.Progress(torch.tensor(0.0), torch.tensor(0.0))
    assert distance(model) > 0.7
    for _ in range(200):
        optimizer.zero_grad()
        turn.loss(genkit.Batch(two_modes(200)), progress).total.backward()
        optimizer.step()
    assert distance(model) < 0.3
    right = (model.rsample(4000).sum(1) > 0).float().mean().item()
    assert right == pytest.approx(0.75, abs=0.06)
