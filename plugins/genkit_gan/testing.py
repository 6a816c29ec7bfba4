"""The contracts of adversarial losses and regularizers: what each must keep, whoever wrote it.

Example:
    .. code-block:: python

        from genkit.testing import factory
        from genkit_gan.testing import check_adversarial_loss

        def test_my_loss_keeps_the_contract():
            check_adversarial_loss(factory("adversarial_loss", {"use": "my_loss"}))
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from genkit import Factory, Progress, Shape
from genkit.testing import (
    check_gradients,
    check_state_round_trip,
    contract,
    models_for,
    nothing_drawn,
    unchanged,
    unseeded,
    untouched,
)
from genkit_gan.loss import AdversarialLoss
from genkit_gan.regularizer import (
    CriticInput,
    CriticLabels,
    CriticPenalty,
    CriticWeights,
    ModelPenalty,
    Regularizer,
    Scored,
)

NUM = 12
SHAPES: tuple[Shape, ...] = ((3,), (1, 6, 6), (3, 4, 6))
REAL, FAKE = (1, 2, 5), (4, 2, 2)
"""How often data and samples take each of three points, of 8 times."""


# ---- losses ------------------------------------------------------------------------------------------------------


@contract
def check_adversarial_loss(build: Factory[AdversarialLoss]) -> None:
    """Checks an adversarial loss on scores, and what it says of the kind of game that it plays.

    Both losses are finite scalars, also far away, and means over the batch; nothing is drawn or changed. The critic's
    drives scores of real data up and those of samples down where they are on the wrong side, the model's drives those
    of samples up. A loss that ``compares`` looks at real data, any other does not; ``labels`` can be smoothed; the best
    scores of one with ``log_ratio`` are log-ratios up to a constant; ``boundary`` parts right from wrong.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    what = build.name
    with untouched(what), unseeded(what):
        loss = build()
        for dtype in (torch.float32, torch.float64):
            _check_scalars(loss, torch.randn(NUM, dtype=dtype), torch.randn(NUM, dtype=dtype), what)
    _check_far_away(loss, what)
    _check_directions(loss, what)
    _check_compares(loss, what)
    _check_labels(loss, what)
    _check_accuracy(loss, what)
    if loss.log_ratio:
        _check_log_ratio(loss, what)


def _losses(loss: AdversarialLoss) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    return {
        "critic_loss": lambda real, fake: loss.critic_loss(real, fake),
        "model_loss": lambda real, fake: loss.model_loss(fake, real),
    }


def _check_scalars(loss: AdversarialLoss, real: Tensor, fake: Tensor, what: str) -> None:
    with unchanged({"real": real, "fake": fake}, what), nothing_drawn(what):
        values = {name: compute(real, fake) for name, compute in _losses(loss).items()}
    for name, compute in _losses(loss).items():
        value = values[name]
        assert value.shape == (), f"{what}: {name} has shape {tuple(value.shape)}; return the mean over the batch"
        assert torch.isfinite(value), f"{what}: {name} is {value.item()}"
        assert value.dtype == real.dtype, f"{what}: {name} of {real.dtype} scores is {value.dtype}"
        twice = compute(real.repeat(2), fake.repeat(2))
        same = torch.allclose(value, twice, rtol=1e-4, atol=1e-6)
        assert same, f"{what}: {name} of the same scores twice is another: it must be a mean over the batch, not a sum"


def _check_far_away(loss: AdversarialLoss, what: str) -> None:
    for sign in (-200.0, 200.0):
        real, fake = torch.full((NUM,), sign, requires_grad=True), torch.full((NUM,), -sign, requires_grad=True)
        for name, compute in _losses(loss).items():
            value = compute(real, fake)
            assert torch.isfinite(value), f"{what}: {name} is {value.item()} for scores of {sign:g} and {-sign:g}"
            gradients = torch.autograd.grad(value, [real, fake], allow_unused=True)
            finite = all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)
            assert finite, f"{what}: {name} has a gradient that is not finite for scores of {sign:g} and {-sign:g}"


def _check_directions(loss: AdversarialLoss, what: str) -> None:
    """Where the critic is wrong: real data scored low, samples high; and where the model is found out."""
    real = -torch.rand(NUM) - 0.1
    fake = torch.rand(NUM) + 0.1
    real.requires_grad_(), fake.requires_grad_()
    of_real, of_fake = torch.autograd.grad(loss.critic_loss(real, fake), [real, fake])
    assert (of_real < 0).all(), f"{what}: the critic's loss does not drive low scores of real data up"
    assert (of_fake > 0).all(), f"{what}: the critic's loss does not drive high scores of samples down"
    low = (-torch.rand(NUM) - 0.1).requires_grad_()
    (of_model,) = torch.autograd.grad(loss.model_loss(low, torch.rand(NUM)), low)
    assert (of_model < 0).all(), f"{what}: the model's loss does not drive low scores of samples up"


def _check_compares(loss: AdversarialLoss, what: str) -> None:
    fake, real = torch.randn(NUM), torch.randn(NUM)
    depends = not torch.equal(loss.model_loss(fake, real), loss.model_loss(fake, real + 1))
    if loss.compares:
        assert depends, f"{what}: it says that it compares, and the model's loss does not look at scores of real data"
        return
    assert not depends, f"{what}: the model's loss looks at the scores of real data; say so: compares = True"
    alone = torch.equal(loss.model_loss(fake), loss.model_loss(fake, real))
    assert alone, f"{what}: the model's loss is another without scores of real data, which it is not given"


def _check_labels(loss: AdversarialLoss, what: str) -> None:
    """Smoothing lowers the score that suits real data best."""
    if not loss.labels:
        return
    scores = torch.linspace(-8, 8, 1601)
    best: list[float] = []
    for label in (0.9, 0.6):
        of_each = torch.stack([loss.critic_loss(score.view(1), torch.zeros(1), label) for score in scores])
        best.append(scores[of_each.argmin()].item())
    assert best[1] < best[0], (
        f"{what}: with labels, a smaller label must lower the best score of real data; it is {best[0]:.2f} under 0.9 "
        f"and {best[1]:.2f} under 0.6"
    )


def _check_accuracy(loss: AdversarialLoss, what: str) -> None:
    line = loss.boundary or 0.0
    high, low = torch.full((NUM,), line + 1), torch.full((NUM,), line - 1)
    for real, fake, wanted in ((high, low, 1.0), (low, high, 0.0)):
        found = loss.accuracy(real, fake)
        assert found.shape == (), f"{what}: accuracy has shape {tuple(found.shape)}, not ()"
        assert found == wanted, f"{what}: accuracy is {found.item():g} where {wanted:g} of the decisions are right"


def _check_log_ratio(loss: AdversarialLoss, what: str) -> None:
    """On three points, where the best critic can be found: a convex problem in three numbers."""
    data, samples = torch.tensor(REAL), torch.tensor(FAKE)
    scores = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    real = torch.arange(3).repeat_interleave(data).repeat_interleave(8)  # every pair
    fake = torch.arange(3).repeat_interleave(samples).repeat(8)
    optimizer = torch.optim.LBFGS([scores], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        value = loss.critic_loss(scores[real], scores[fake])
        value.backward()
        return value.item()

    optimizer.step(closure)
    found, wanted = scores.detach(), (data / samples).log()
    error = ((found - found[0]) - (wanted - wanted[0])).abs().max().item()
    assert error < 1e-3, (
        f"{what}: it says log_ratio, but its best scores are off the log-ratio by {error:.2g}, a constant aside"
    )


# ---- regularizers ------------------------------------------------------------------------------------------------


@contract
def check_regularizer(build: Factory[Regularizer]) -> None:
    """Checks a regularizer at the place where it acts, on vectors and images.

    Penalties are finite scalars with gradients to the critic or to the model; changes of the input have the shape that
    they announce, do what ``group`` and ``joint`` say, let gradients through, and draw nothing when nothing is trained;
    changes of weights leave a network that trains and can be kept; a label lies in (0, 1]. All follow the global seed
    and leave the caller's tensors as they are.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    what = build.name
    with untouched(what), unseeded(what):
        made = build()
    places = [place for place in PLACES if isinstance(made, place)]
    names = ", ".join(place.__name__ for place in PLACES)
    assert places, f"{what}: it acts nowhere; inherit the class of the place where it acts, one of {names}"
    with untouched(what):
        for place in places:
            PLACES[place](build, what)


def _network(inputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.Softplus(), nn.Linear(8, 1))


def _scored(critic: nn.Module, x: Tensor) -> Scored:
    x = x.clone().requires_grad_()
    return Scored(x, critic(x).squeeze(1))


def _check_critic_penalty(build: Factory[Regularizer], what: str) -> None:
    for shape in SHAPES:
        where = f"{what} on {shape}"
        made = build()
        assert isinstance(made, CriticPenalty)
        network = _network(torch.Size(shape).numel())
        real, fake = torch.rand(NUM, *shape), torch.rand(NUM, *shape) - 0.5
        values: list[Tensor] = []
        for _ in range(2):
            with unchanged({"real": real, "fake": fake}, where), unseeded(where, 1):
                scored = _scored(network, real), _scored(network, fake)
                values.append(made.penalty(lambda x, network=network: network(x).squeeze(1), *scored))
        _check_scalar(values[0], where)
        assert torch.equal(*values), f"{where}: the penalty does not follow the global seed"
        network.zero_grad(set_to_none=True)
        values[0].backward()
        reached = [p for p in network.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
        assert reached, f"{where}: no gradient of the penalty reaches the critic's parameters"
        finite = all(torch.isfinite(parameter.grad).all() for parameter in reached if parameter.grad is not None)
        assert finite, f"{where}: the penalty's gradient is not finite"


def _check_scalar(value: Tensor, what: str) -> None:
    assert value.shape == (), f"{what}: the penalty has shape {tuple(value.shape)}, not ()"
    assert torch.isfinite(value), f"{what}: the penalty is {value.item()}"


def _check_model_penalty(build: Factory[Regularizer], what: str) -> None:
    tried = 0
    for name, model in models_for(build):
        tried += 1
        made, where = build(), f"{what} with {name}"
        assert isinstance(made, ModelPenalty)
        values: list[Tensor] = []
        for _ in range(2):
            with unchanged(dict(model.named_parameters()), where, "it changes the model"), unseeded(where, 1):
                values.append(made.penalty(model, NUM))
        _check_scalar(values[0], where)
        assert torch.equal(*values), f"{where}: the penalty does not follow the global seed"
        model.zero_grad(set_to_none=True)
        values[0].backward()
        reached = [parameter for parameter in model.parameters() if parameter.grad is not None]
        assert reached, f"{where}: no gradient of the penalty reaches the model's parameters"
        check_gradients(model, reached, where, each_moves=False)
    assert tried, f"no installed model has what {what} requires"


def _check_input(build: Factory[Regularizer], what: str) -> None:
    for shape in SHAPES:
        where = f"{what} on {shape}"
        made = build()
        assert isinstance(made, CriticInput)
        count = 4 * made.group
        x = torch.randn(count, *shape, requires_grad=True)
        for progress in (None, Progress(torch.tensor(5.0), torch.tensor(0.5))):
            values: list[Tensor] = []
            for _ in range(2):
                with unchanged({"x": x}, where), unseeded(where, 1):
                    values.append(made.apply(x, progress))
            wanted = (4, *made.shape(shape))
            found = tuple(values[0].shape)
            assert found == wanted, f"{where}: the critic sees shape {found}, and shape() and group announce {wanted}"
            assert torch.isfinite(values[0]).all(), f"{where}: what the critic sees is not finite"
            assert torch.equal(*values), f"{where}: what the critic sees does not follow the global seed"
            (gradient,) = torch.autograd.grad(values[0].square().sum(), x)
            reached = (gradient != 0).flatten(1).any(1)
            assert reached.all(), f"{where}: no gradient reaches the examples"
        with nothing_drawn(f"{where}: progress is None, so nothing is trained; apply"):
            made.apply(x, None)
        _check_joint(made, x.detach(), where)


def _check_joint(made: CriticInput, x: Tensor, what: str) -> None:
    """Whether what stands for one example depends on another."""
    moved = x.clone()
    moved[-1] += 1
    one, other = made.apply(x, None), made.apply(moved, None)
    depends = made.group > 1 or not torch.equal(one[:-1], other[:-1])
    assert made.joint or not depends, f"{what}: a score depends on more than one example; say so: joint = True"
    assert depends or not made.joint, f"{what}: it says joint, and no score depends on more than one example"


def _check_weights(build: Factory[Regularizer], what: str) -> None:
    made = build()
    assert isinstance(made, CriticWeights)
    plain, x = _network(5), torch.randn(NUM, 5)

    def changed() -> nn.Module:
        network = copy.deepcopy(plain)
        with unseeded(what, 1):
            made.apply(network)
        return network

    network = changed()
    with unchanged({"x": x}, what):
        y = network(x)
    assert y.shape == (NUM, 1), f"{what}: the changed network gives shape {tuple(y.shape)}, not {(NUM, 1)}"
    assert torch.isfinite(y).all(), f"{what}: the changed network's output is not finite"
    assert not torch.equal(y, plain(x)), f"{what}: it changes nothing of a network with linear maps"
    y.square().sum().backward()
    check_gradients(network, network.parameters(), f"{what}, changed network")
    other = check_state_round_trip(network, changed, what)
    same = torch.equal(network.eval()(x), other.eval()(x))
    assert same, f"{what}: a checkpoint does not say all that the changed network depends on"


def _check_label(build: Factory[Regularizer], what: str) -> None:
    made = build()
    assert isinstance(made, CriticLabels)
    label = made.real_label
    assert 0 < label <= 1, f"{what}: the label of real data is {label}; it must lie in (0, 1], that of samples is 0"


PLACES: dict[type[Regularizer], Callable[[Factory[Regularizer], str], None]] = {
    CriticPenalty: _check_critic_penalty,
    ModelPenalty: _check_model_penalty,
    CriticInput: _check_input,
    CriticWeights: _check_weights,
    CriticLabels: _check_label,
}
