"""The contract of backbones."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from genkit.backbone import Backbone
from genkit.component import Factory
from genkit.dataset import Shape
from genkit.testing.component import constructed, contract, refused
from genkit.testing.keeping import nothing_drawn, seed, unchanged, unseeded, untouched
from genkit.testing.module import check_device, check_gradients, check_module, shake

SHAPES: list[tuple[Shape, Shape]] = [
    ((6,), (4,)),
    ((1, 28, 28), (10,)),
    ((3, 17, 12), (5,)),
    ((4,), (1, 28, 28)),
    ((3,), (3, 17, 12)),
    ((2, 8, 8), (3, 8, 8)),
]


@contract
def check_backbone(build: Factory[Backbone]) -> None:
    """Checks a backbone on every pair of shapes that it serves; it must serve one.

    A little way from its start, where a layer may be zero: shapes of several sizes and channel counts, finite values,
    an output that the input decides, gradients to it and to every parameter, determinism in evaluation mode and, under
    a seed, in training and construction; independence of the examples of a batch, float64, another device, the
    caller's tensor, torch's settings and the global random state untouched, modes, a checkpoint, an output layer that
    makes the output zero, a context used or refused.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    served = [pair for pair in SHAPES if not refused(lambda pair=pair: build(*pair))]
    assert served, f"{build.name} refuses every pair of shapes in {SHAPES}"
    for in_shape, out_shape in served:
        what = f"{build.name} from {in_shape} to {out_shape}"
        network = constructed(build, in_shape, out_shape, what=what)
        x = torch.randn(4, *in_shape)
        _check_start(network, x, what)
        shake(network)
        other = check_module(network, lambda i=in_shape, o=out_shape: build(i, o), what)
        _check_training(network, x, out_shape, what)
        _check_evaluation(network, x, what)
        _check_kept(network, other, x, what)
        _check_context(network, x, what)
        _check_output_layer(network, x, what)
        check_device(network, lambda moved, inputs: moved(inputs[0]), [x], what)


def _check_start(network: Backbone, x: Tensor, what: str) -> None:
    with torch.no_grad():
        y = copy.deepcopy(network).train()(x.clone())
    assert torch.isfinite(y).all(), f"{what}: at its start the output is not finite"


def _check_training(network: Backbone, x: Tensor, out_shape: Shape, what: str) -> None:
    twin = copy.deepcopy(network).train()
    with untouched(what), unchanged({"x": x}, what), unseeded(what):
        y = network.train()(x)
    assert y.shape == (4, *out_shape), f"{what}: the output has shape {tuple(y.shape)}, not {(4, *out_shape)}"
    assert torch.isfinite(y).all(), f"{what}: the output is not finite"
    seed()
    assert torch.equal(y, twin(x)), f"{what}: training mode does not follow the global seed"
    _check_gradients(network, x, what)


def _check_gradients(network: Backbone, x: Tensor, what: str) -> None:
    """They reach every parameter and the input, which something before it may be trained through."""
    x = x.clone().requires_grad_()
    y = network(x)
    (y * torch.randn_like(y)).sum().backward()  # weighed at random: the sum of normalized values does not move
    check_gradients(network, network.parameters(), what)
    assert x.grad is not None, f"{what}: no gradient reaches the input"
    assert torch.isfinite(x.grad).all(), f"{what}: the gradient of the input is not finite"
    assert x.grad.abs().sum() > 0, f"{what}: the gradient of the input is zero"


def _check_evaluation(network: Backbone, x: Tensor, what: str) -> None:
    network.eval()
    own = unchanged(network.state_dict(), what, "evaluation mode changes the network itself")
    with torch.no_grad():
        with untouched(what), unchanged({"x": x}, what), nothing_drawn(f"{what}: evaluation"), own:
            y = network(x)
        assert torch.equal(y, network(x)), f"{what}: two calls in evaluation mode differ"
        assert not torch.equal(y, network(torch.randn_like(x))), f"{what}: other inputs give the same output"
        alone = network(x[:1])
        assert torch.allclose(y[:1], alone, atol=1e-5), f"{what}: an example's output depends on the rest of the batch"
        exact = copy.deepcopy(network).double()(x.double())
        assert exact.dtype == torch.float64, f"{what}: float64 in, {exact.dtype} out"
        assert torch.allclose(exact.float(), y, atol=1e-3), f"{what}: float64 and float32 disagree"


def _check_kept(network: Backbone, other: Backbone, x: Tensor, what: str) -> None:
    """Another instance with the same state, running statistics included, computes the same."""
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        same = torch.equal(network.eval()(x), other.eval()(x))
    assert same, f"{what}: a checkpoint does not say all that the output depends on; use nn.Buffer"


def _check_context(network: Backbone, x: Tensor, what: str) -> None:
    """A context may change the output or be refused; it may not be ignored."""
    with torch.no_grad():
        try:
            one, other = network(x, torch.zeros(4, 3)), network(x, torch.ones(4, 3))
        except (ValueError, RuntimeError):
            return
    assert not torch.equal(one, other), f"{what}: a context is ignored; use it, or refuse it with refuse_context"


def _check_output_layer(network: Backbone, x: Tensor, what: str) -> None:
    """With a zero output layer the output is zero: owners start from there."""
    flat = copy.deepcopy(network).eval()
    layer = flat.output_layer
    if layer is None:
        return
    assert any(part is layer for part in flat.modules()), f"{what}: output_layer is no part of the network"
    with torch.no_grad():
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
        largest = flat(x).abs().max()
    assert largest == 0, f"{what}: with output_layer's weights and biases all zero the output is not zero ({largest})"
