"""The contract of backbones."""

from __future__ import annotations

import torch

from genkit.backbone import Backbone
from genkit.component import Factory
from genkit.dataset import Shape
from genkit.engine.seeds import random_states
from genkit.testing.common import check_gradients, check_state_round_trip, refused, same_random_states

SHAPES: list[tuple[Shape, Shape]] = [
    ((6,), (4,)),
    ((1, 28, 28), (10,)),
    ((3, 17, 12), (5,)),
    ((4,), (1, 28, 28)),
    ((3,), (3, 17, 12)),
    ((2, 8, 8), (3, 8, 8)),
]


def check_backbone(build: Factory[Backbone]) -> None:
    """Checks a backbone on every pair of shapes that it serves; it must serve one.

    Shapes, finite values, gradients to every parameter, determinism in evaluation mode, independence of the
    examples of a batch, float64, the caller's tensor and the global random state untouched, state dict, and a
    context used or refused.
    """
    served = [pair for pair in SHAPES if not refused(lambda pair=pair: build(*pair))]
    assert served, f"{build.name} refuses every pair of shapes in {SHAPES}"
    for in_shape, out_shape in served:
        torch.manual_seed(0)
        what = f"{build.name} from {in_shape} to {out_shape}"
        network = build(in_shape, out_shape)
        x = torch.randn(4, *in_shape)
        _check_training(network, x, out_shape, what)
        _check_evaluation(network, x, what)
        _check_context(network, x, what)
        check_state_round_trip(network, lambda i=in_shape, o=out_shape: build(i, o), what)


def _check_training(network: Backbone, x: torch.Tensor, out_shape: Shape, what: str) -> None:
    before = x.clone()
    y = network.train()(x)
    assert y.shape == (4, *out_shape), f"{what}: the output has shape {tuple(y.shape)}"
    assert torch.isfinite(y).all(), f"{what}: the output is not finite"
    assert torch.equal(x, before), f"{what}: the caller's tensor was changed"
    y.square().sum().backward()
    check_gradients(network, network.parameters(), what)


def _check_evaluation(network: Backbone, x: torch.Tensor, what: str) -> None:
    network.eval()
    with torch.no_grad():
        states = random_states(x.device)
        y = network(x)
        assert torch.equal(y, network(x)), f"{what}: two calls in evaluation mode differ"
        assert same_random_states(states), f"{what}: evaluation draws random numbers"
        alone = network(x[:1])
        assert torch.allclose(y[:1], alone, atol=1e-5), f"{what}: an example's output depends on the rest of the batch"
        exact = network.double()(x.double())
        assert exact.dtype == torch.float64, f"{what}: float64 in, {exact.dtype} out"
        assert torch.allclose(exact.float(), y, atol=1e-3), f"{what}: float64 and float32 disagree"
        network.float()


def _check_context(network: Backbone, x: torch.Tensor, what: str) -> None:
    """A context may change the output or be refused; it may not be ignored."""
    with torch.no_grad():
        try:
            one, other = network(x, torch.zeros(4, 3)), network(x, torch.ones(4, 3))
        except (ValueError, RuntimeError):
            return
    assert not torch.equal(one, other), f"{what}: a context is ignored; use it, or refuse it with refuse_context"
