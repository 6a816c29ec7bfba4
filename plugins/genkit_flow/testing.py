"""The contracts of bijections and dequantizers: what each must keep, whoever wrote it.

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

from genkit import DataSpec, Factory, Shape
from genkit.testing import (
    check_device,
    check_gradients,
    check_module,
    constructed,
    contract,
    data_like,
    nothing_drawn,
    refused,
    seed,
    unchanged,
    unseeded,
    untouched,
)
from genkit.testing.common import SPECS
from genkit_flow.bijection import Bijection
from genkit_flow.dequantizer import Dequantizer

SHAPES: tuple[Shape, ...] = ((2,), (5,), (6,), (2, 4, 4), (1, 4, 6))
CONTEXTS: tuple[Shape | None, ...] = (None, (3,), (2, 4, 4))
BATCH = 7
Build = Factory[Bijection]
Way = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]


@contract
def check_bijection(build: Build) -> None:
    """Checks a bijection on vectors and images, with and without a context, wherever it serves them.

    At random parameters: log-determinants are those of autograd's Jacobian, one way undoes the other, gradients reach
    every parameter, examples do not touch each other, a context is used where there are weights for it, inputs stay as
    they are, nothing is drawn, another device is served, modes reach all, and a checkpoint says all that the map
    depends on. Construction follows the global seed.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    cases = list(served(build))
    assert cases, f"{build.name} refuses all shapes: {', '.join(map(str, SHAPES))}"
    for shape, context_shape in dict(cases).items():  # one context for each shape will do here
        what = f"{build} on {shape}"
        made = constructed(build, shape, context_shape, what=what)
        assert made.in_shape == shape, f"{what}: call super().__init__(shape, context_shape)"
        _check_device(build, shape, context_shape)
    for shape, context_shape in cases:
        with untouched(f"{build} on {shape}"):
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
    seed()
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
            pair = way(inputs[index : index + 1], _one(context, index))
            wanted = "a pair is wanted, outputs and one log-determinant an example"
            assert isinstance(pair, tuple), f"{build} on {shape}: it gives a {type(pair).__name__}; {wanted}"
            assert len(pair) == 2, f"{build} on {shape}: it gives {len(pair)} things; {wanted}"
            log_det = pair[1]
            of = tuple(log_det.shape)
            assert of == (1,), f"{build} on {shape}: a log-determinant has shape {of} for one example; {wanted}"
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
    """Examples do not touch each other, nothing is drawn, and the caller's tensors stay as they are."""
    bijection, z, context = far_from_start(build, shape, context_shape)
    what = f"{build} on {shape}"
    given = {} if context is None else {"context": context}
    for way, inputs in _ways(bijection, z, context):
        with unchanged({"input": inputs, **given}, what), nothing_drawn(what):
            whole, log_det = way(inputs, context)
        for index in (0, BATCH - 1):
            alone, own = way(inputs[index : index + 1], _one(context, index))
            same = torch.allclose(alone[0], whole[index], atol=1e-10) and torch.allclose(
                own[0], log_det[index], atol=1e-10
            )
            assert same, f"{what}: an example depends on the others of its batch"


def check_state(build: Build, shape: Shape, context_shape: Shape | None) -> None:
    """A second instance that takes the state from a checkpoint maps alike."""
    bijection, z, context = far_from_start(build, shape, context_shape)
    what = f"{build} on {shape}"
    other = check_module(bijection, lambda: build(shape, context_shape).double(), what)
    for (way, inputs), (same_way, _) in zip(_ways(bijection, z, context), _ways(other, z, context), strict=True):
        same = torch.equal(way(inputs, context)[0], same_way(inputs, context)[0])
        assert same, f"{what}: a state dict does not say all that the map depends on"


def check_context(build: Build, shape: Shape, context_shape: Shape | None) -> None:
    """One that is made for a context, with weights for it or not without one, maps otherwise under another context."""
    if context_shape is None or not _made_for(build, shape, context_shape):
        return
    bijection, z, context = far_from_start(build, shape, context_shape)
    assert context is not None
    for way, inputs in _ways(bijection, z, context):
        one, other = way(inputs, context), way(inputs, context + 1)
        same = torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
        assert not same, f"{build} on {shape}: it is made for a context {context_shape}, and ignores it"


def _made_for(build: Build, shape: Shape, context_shape: Shape) -> bool:
    """Whether a context's shape decides what the bijection is made of; others may let a context pass."""
    if refused(lambda: build(shape, None)):
        return True
    without, within = build(shape, None).state_dict(), build(shape, context_shape).state_dict()
    return {k: v.shape for k, v in without.items()} != {k: v.shape for k, v in within.items()}


def _check_device(build: Build, shape: Shape, context_shape: Shape | None) -> None:
    """Moved to another device, it maps there."""
    bijection, z, context = far_from_start(build, shape, context_shape)

    def map_there(moved: Bijection, given: list[Tensor]) -> tuple[Tensor, Tensor]:
        x, there = given[0], given[1] if context is not None else None
        return (moved if moved.one_way == "forward" else moved.inverse)(x, there)

    inputs = torch.rand(BATCH, *shape, dtype=z.dtype) if bijection.one_way == "forward" else z
    given = [inputs, *([] if context is None else [context])]
    check_device(bijection, map_there, given, f"{build} on {shape}")


CHECKS = (check_log_det, check_inverse, check_gradient_flow, check_independence, check_context, check_state)


# ---- dequantizers ------------------------------------------------------------------------------------------------

SMALL = {
    "small images of four levels": DataSpec((1, 2, 2), levels=4),
    "vectors of five levels": DataSpec((3,), levels=5),
}
MANY = 20_000


@contract
def check_dequantizer(build: Factory[Dequantizer]) -> None:
    r"""Checks a dequantizer on every kind of data that it serves; it must serve one.

    Values stay in the cells of their levels and come back from them, and from their centres; noise follows the global
    seed and has a density that belongs to it: on small data the mean of :math:`1 / q(u \mid x)` is the volume of the
    noise, 1. Gradients reach every parameter; what changes the data says so in its label. The caller's tensors stay as
    they are; modes, another device, a checkpoint.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    specs = {**SPECS, **SMALL}
    names = [name for name, spec in specs.items() if not refused(lambda spec=spec: build(spec))]
    assert names, f"{build.name} refuses all of: {', '.join(specs)}"
    for name in names:
        spec, what = specs[name], f"{build.name} on {name}"
        dequantizer = constructed(build, spec, what=what)
        assert dequantizer.spec == spec, f"{what}: call super().__init__(spec)"
        with torch.no_grad():  # away from the start, where noise is often uniform
            for parameter in dequantizer.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        x = data_like(spec, BATCH)
        with untouched(what):
            _check_cells(dequantizer, x, what)
            _check_noise(dequantizer, x, what)
        if name in SMALL:
            _check_volume(dequantizer, spec, what)
        other = check_module(dequantizer, lambda spec=spec: build(spec), what)
        same = torch.equal(_dequantized(dequantizer, x)[1], _dequantized(other, x)[1])
        assert same, f"{what}: a checkpoint does not say all that the noise depends on"
        check_device(dequantizer, lambda moved, given: moved.quantize(moved.dequantize(given[0])[0]), [x], what)


def _dequantized(dequantizer: Dequantizer, x: Tensor, number: int = 1) -> tuple[Tensor, Tensor]:
    with unseeded("dequantize", number):
        return dequantizer.dequantize(x)


def _check_cells(dequantizer: Dequantizer, x: Tensor, what: str) -> None:
    with unchanged({"x": x}, what):
        y, bound = _dequantized(dequantizer, x)
    assert y.shape == x.shape, f"{what}: y has shape {tuple(y.shape)}, not {tuple(x.shape)}"
    assert bound.shape == (len(x),), f"{what}: the second result has shape {tuple(bound.shape)}, not (B,)"
    assert torch.isfinite(y).all(), f"{what}: y is not finite"
    assert torch.isfinite(bound).all(), f"{what}: the second result, a log-density, is not finite"
    changes = not torch.equal(y, x)
    label = dequantizer.label
    assert label or not changes, f"{what}: it changes the data, and its label, part of a likelihood's tag, is empty"
    assert changes or not label, f"{what}: it changes nothing, and its label {label!r} would say otherwise"
    if dequantizer.spec.levels is not None:
        low, levels = (x * (dequantizer.spec.levels - 1)).round(), dequantizer.spec.levels
        within = (y * levels >= low - 1e-4) & (y * levels < low + 1 + 1e-4)
        assert within.all(), f"{what}: a value leaves the cell of its level, [i / L, (i + 1) / L)"
    for name, value in (("y", y), ("the centre of its cell", dequantizer.centre(x))):
        back = dequantizer.quantize(value)
        assert torch.allclose(back, x, atol=1e-5), f"{what}: quantize does not give a value back from {name}"


def _check_noise(dequantizer: Dequantizer, x: Tensor, what: str) -> None:
    dequantizer.zero_grad(set_to_none=True)
    (first, bound), (again, same), (other, _) = (_dequantized(dequantizer, x, number) for number in (1, 1, 2))
    follows = torch.equal(first, again) and torch.equal(bound, same)
    assert follows, f"{what}: noise does not follow the global seed"
    if dequantizer.label:
        stays = torch.equal(first, other)
        assert not stays, f"{what}: another seed gives the same noise; draw with torch's global generator"
    trained = [parameter for parameter in dequantizer.parameters() if parameter.requires_grad]
    if trained:
        (first.square().sum() + bound.sum()).backward()
        check_gradients(dequantizer, trained, what)


def _check_volume(dequantizer: Dequantizer, spec: DataSpec, what: str) -> None:
    r"""With noise from :math:`q`, the mean of :math:`1 / q` is the volume that the noise fills."""
    x = data_like(spec, 1).expand(MANY, *spec.shape)
    with torch.no_grad():
        _, bound = _dequantized(dequantizer, x)
    inverse = (bound.double() + (dequantizer.log_cells if spec.levels else 0.0)).exp()
    mean, error = inverse.mean().item(), 5 * inverse.std().item() / MANY**0.5 + 1e-3
    assert abs(mean - 1) < error, (
        f"{what}: -D log L - log q(u|x) is not that of its noise: 1 / q has the mean {mean:.4g}, and the volume is 1"
    )
