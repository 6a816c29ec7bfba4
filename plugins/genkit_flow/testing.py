"""The contract of bijections: what each must keep, whoever wrote it.

Example:
    .. code-block:: python

        from genkit.testing import factory
        from genkit_flow.testing import check_bijection

        def test_my_bijection_keeps_the_contract():
            check_bijection(factory("bijection", {"use": "my_bijection"}))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genkit import Factory, Shape
from genkit.testing.common import check_gradients, check_state_round_trip, refused
from genkit_flow.bijection import Bijection

SHAPES: tuple[Shape, ...] = ((2,), (5,), (6,), (2, 4, 4), (1, 4, 6))
CONTEXTS: tuple[Shape | None, ...] = (None, (3,), (2, 4, 4))
BATCH = 7
Build = Factory[Bijection]
Way = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]


def check_bijection(build: Build) -> None:
    """Checks a bijection on vectors and images, with and without a context, wherever it serves them.

    At random parameters: log-determinants are those of autograd's Jacobian, one way undoes the other, gradients reach
    every parameter, examples do not touch each other, inputs stay as they are, the state survives a checkpoint.

    Raises:
        AssertionError: It breaks the contract; the message says where.
    """
    cases = list(served(build))
    assert cases, f"{build.name} refuses all shapes: {', '.join(map(str, SHAPES))}"
    for shape, context_shape in cases:
        for check in CHECKS:
            check(build, shape, context_shape)


def served(build: Build) -> Iterator[tuple[Shape, Shape | None]]:
    """The shapes of examples and contexts that a bijection serves."""
    for shape in SHAPES:
        for context_shape in CONTEXTS:
            if not refused(lambda s=shape, c=context_shape: build(s, c)):
                yield shape, context_shape


def far_from_start(
    build: Build, shape: Shape, context_shape: Shape | None, dtype: torch.dtype = torch.float64
) -> tuple[Bijection, Tensor, Tensor | None]:
    """A bijection with random parameters, latents for it, and a context."""
    torch.manual_seed(0)
    bijection = build(shape, context_shape).to(dtype)
    with torch.no_grad():
        for parameter in bijection.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    z = 1.5 * torch.randn(BATCH, *bijection.out_shape, dtype=dtype)
    context = None if context_shape is None else torch.randn(BATCH, *context_shape, dtype=dtype)
    return bijection, z, context


def _ways(bijection: Bijection, z: Tensor, context: Tensor | None) -> Iterator[tuple[Way, Tensor]]:
    """Each way that it goes with inputs for it; data are made from latents where that way is open."""
    if bijection.one_way == "forward":
        yield bijection, torch.rand(BATCH, *bijection.in_shape, dtype=z.dtype)
        return
    yield bijection.inverse, z
    if bijection.one_way is None:
        yield bijection, bijection.inverse(z, context)[0].detach()


def _one(tensor: Tensor | None, index: int) -> Tensor | None:
    return None if tensor is None else tensor[index : index + 1]


def check_log_det(build: Build, shape: Shape, context_shape: Shape | None) -> None:
    """The log-determinant is that of autograd's Jacobian: float64, 1e-6 relative."""
    bijection, z, context = far_from_start(build, shape, context_shape)
    for way, inputs in _ways(bijection, z, context):
        for index in range(3):

            def flat(v: Tensor, way: Way = way, like: Tensor = inputs, index: int = index) -> Tensor:
                return way(v.view(1, *like.shape[1:]), _one(context, index))[0].flatten()

            jacobian = torch.autograd.functional.jacobian(flat, inputs[index].flatten())
            expected = torch.linalg.slogdet(jacobian).logabsdet  # pyright: ignore[reportArgumentType]
            log_det = way(inputs[index : index + 1], _one(context, index))[1]
            assert log_det.shape == (1,), f"{build} on {shape}: a log-determinant has shape {tuple(log_det.shape)}"
            error = (log_det - expected).abs().item()
            assert error < 1e-8 + 1e-6 * expected.abs(), f"{build} on {shape}: log-determinant off by {error:.2g} nats"


def check_inverse(build: Build, shape: Shape, context_shape: Shape | None) -> None:
    """One way undoes the other in float64 and in float32, log-determinants cancel; a one-way bijection says so.

    At random parameters slopes span orders of magnitude: in float32 no more than 2% can be asked for.
    """
    for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 2e-2)):
        bijection, z, context = far_from_start(build, shape, context_shape, dtype)
        if bijection.one_way is not None:
            _check_closed_way(bijection, z, context, f"{build}")
            continue
        x, log_det = bijection.inverse(z, context)
        back, opposite = bijection(x, context)
        what = f"{build} on {shape}, {dtype}"
        assert x.shape == (BATCH, *shape), f"{what}: inverse gives shape {tuple(x.shape)}"
        assert x.dtype == back.dtype == log_det.dtype == dtype, f"{what}: precision is not kept"
        error = (back - z).abs().max() / z.abs().max()
        assert error < tolerance, f"{what}: forward does not undo inverse, error {error:.2g}"
        rest = (log_det + opposite).abs().max() / log_det.abs().max().clamp(min=1)
        assert rest < tolerance, f"{what}: the log-determinants of both ways do not cancel, {rest:.2g} is left"


def _check_closed_way(bijection: Bijection, z: Tensor, context: Tensor | None, what: str) -> None:
    closed = bijection.inverse if bijection.one_way == "forward" else bijection
    try:
        closed(z, context)
    except NotImplementedError:
        return
    raise AssertionError(f"{what} goes only {bijection.one_way}, so the other way must raise NotImplementedError")


def check_gradient_flow(build: Build, shape: Shape, context_shape: Shape | None) -> None:
    """Gradients reach every parameter and the input, and are finite."""
    bijection, z, context = far_from_start(build, shape, context_shape)
    for way, inputs in _ways(bijection, z, context):
        inputs = inputs.clone().requires_grad_()
        bijection.zero_grad(set_to_none=True)
        outputs, log_det = way(inputs, context)
        (outputs.square().flatten(1).sum(1) + log_det.square()).sum().backward()
        assert inputs.grad is not None, f"{build} on {shape}: no gradient reaches the input"
        assert torch.isfinite(inputs.grad).all(), f"{build} on {shape}: the input's gradient is not finite"
        if list(bijection.parameters()):
            check_gradients(bijection, bijection.parameters(), f"{build} on {shape}")


def check_independence(build: Build, shape: Shape, context_shape: Shape | None) -> None:
    """Examples do not touch each other, and the caller's tensor stays as it is."""
    bijection, z, context = far_from_start(build, shape, context_shape)
    for way, inputs in _ways(bijection, z, context):
        before = inputs.clone()
        whole, log_det = way(inputs, context)
        assert torch.equal(inputs, before), f"{build} on {shape}: the caller's tensor was changed"
        for index in (0, BATCH - 1):
            alone, own = way(inputs[index : index + 1], _one(context, index))
            same = torch.allclose(alone[0], whole[index], atol=1e-10) and torch.allclose(
                own[0], log_det[index], atol=1e-10
            )
            assert same, f"{build} on {shape}: an example depends on the others of its batch"


def check_state(build: Build, shape: Shape, context_shape: Shape | None) -> None:
    """A second instance that takes the state maps alike."""
    bijection, z, context = far_from_start(build, shape, context_shape)
    check_state_round_trip(bijection, lambda: build(shape, context_shape).double(), f"{build} on {shape}")
    other = build(shape, context_shape).double()
    other.load_state_dict(bijection.state_dict())
    for (way, inputs), (same_way, _) in zip(_ways(bijection, z, context), _ways(other, z, context), strict=True):
        same = torch.equal(way(inputs, context)[0], same_way(inputs, context)[0])
        assert same, f"{build} on {shape}: a state dict does not say all that the map depends on"


CHECKS = (check_log_det, check_inverse, check_gradient_flow, check_independence, check_state)
