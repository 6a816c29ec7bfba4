"""What is asked of bijections beyond their contract, and that breaking the contract is seen."""

import math

import pytest
import torch

from genkit.component import Factory
from genkit.registry import installed
from genkit.testing import factory
from genkit.testing.common import examples
from genkit_flow.bijection import Bijection
from genkit_flow.bijections.planar import solve
from genkit_flow.testing import check_bijection, far_from_start, served

NAMES = installed().names("bijection")
CASES = [
    pytest.param(build, shape, context, id=f"{name}-{number}-{shape}-{context}")
    for name in NAMES
    for number, build in enumerate(examples("bijection", name))
    for shape, context in served(build)
]


@pytest.mark.parametrize("name", NAMES)
def test_every_bijection_serves_two_shapes_at_least(name):
    assert len({shape for build in examples("bijection", name) for shape, _ in served(build)}) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_context_is_used_wherever_something_is_conditioned(name):
    """What has a network or amortized parameters gives other values under another context; the rest lets it pass."""
    fixed = {"actnorm", "affine", "invertible_linear", "logit", "permutation", "repeat", "split", "squeeze"}
    cases = [(b, s, c) for b in examples("bijection", name) for s, c in served(b) if c == (3,)]
    assert cases
    for build, shape, context_shape in cases:
        bijection, z, context = far_from_start(build, shape, context_shape)
        same = torch.equal(bijection.inverse(z, context)[0], bijection.inverse(z, context + 1)[0])
        assert same is (name in fixed)


@pytest.mark.parametrize(("build", "shape", "context_shape"), CASES)
def test_second_derivatives_are_those_of_finite_differences(build, shape, context_shape):
    bijection, z, context = far_from_start(build, shape, context_shape)
    inverse, forward = (lambda v: bijection.inverse(v, context)), (lambda v: bijection(v, context))
    ways = {"inverse": [inverse], "forward": [forward], None: [inverse, forward]}[bijection.one_way]
    for way in ways:
        inputs = inverse(z)[0] if way is forward and len(ways) == 2 else z
        torch.autograd.gradgradcheck(way, inputs.detach().requires_grad_(), fast_mode=True)


def test_data_comes_back_through_log_scales_of_twenty():
    """Far beyond what the contract's check from latents can ask for: there the shift swallows what is scaled down."""
    build = factory("bijection", {"use": "affine_coupling", "mask": "channel", "flip": True, "bounded": False})
    largest = 0.0
    for shape, context_shape in served(build):
        coupling, x, context = far_from_start(build, shape, context_shape, torch.float32)
        kept, _ = coupling.partition.part(x)
        largest = max(largest, coupling._theta(kept, context)[:, 0].abs().max().item())
        z, log_det = coupling(x, context)
        back, opposite = coupling.inverse(z, context)
        assert (back - x).abs().max() < 1e-5 * x.abs().max()
        assert torch.allclose(log_det, -opposite, rtol=1e-5, atol=1e-3)
    assert largest > 20


def test_third_derivatives_of_planars_root():
    y = torch.tensor([0.7, -1.3, 2.1], dtype=torch.float64, requires_grad=True)
    b, slope = torch.tensor([[0.1, -0.4, 0.3], [2.0, 0.3, 5.0]], dtype=torch.float64)

    def second(y):
        (first,) = torch.autograd.grad(solve(y, b, slope).sum(), y, create_graph=True)
        return torch.autograd.grad(first.sum(), y, create_graph=True)[0]

    torch.autograd.gradcheck(second, y)


# ---- the checks can fail -------------------------------------------------------------------------------------------


class Scaled(Bijection):
    """Right: z = s x with a learned scale; each child below breaks one promise."""

    def __init__(self, shape, context_shape, /):
        super().__init__(shape, context_shape)
        self.log_scale = torch.nn.Parameter(torch.tensor(0.3))

    def log_det(self, x):
        return (self.log_scale * math.prod(self.in_shape)).expand(len(x))

    def forward(self, x, context=None):
        return x * self.log_scale.exp(), self.log_det(x)

    def inverse(self, z, context=None):
        return z * (-self.log_scale).exp(), -self.log_det(z)


class WrongLogDet(Scaled):
    """Off by a hundredth."""

    __init__ = Scaled.__init__

    def log_det(self, x):
        return 1.01 * super().log_det(x)


class WrongInverse(Scaled):
    """Off on the way back."""

    __init__ = Scaled.__init__

    def inverse(self, z, context=None):
        return z * (-self.log_scale).exp() + 1e-2, -self.log_det(z)


class NoGradient(Scaled):
    """Cuts the gradient off."""

    __init__ = Scaled.__init__

    def forward(self, x, context=None):
        return x * self.log_scale.detach().exp(), self.log_det(x).detach()


class InPlace(Scaled):
    """Works in the caller's tensor."""

    __init__ = Scaled.__init__

    def forward(self, x, context=None):
        with torch.no_grad():
            scaled = x.mul_(self.log_scale.exp())
        return scaled + 0 * self.log_scale, self.log_det(x)


class ByBatch(Scaled):
    """Looks at the whole batch."""

    __init__ = Scaled.__init__

    def forward(self, x, context=None):
        return (x + x.mean(0).detach()) * self.log_scale.exp(), self.log_det(x)


class Forgetful(Scaled):
    """Depends on a number that no state dict holds."""

    made = 0

    def __init__(self, shape, context_shape, /):
        super().__init__(shape, context_shape)
        Forgetful.made += 1
        self.offset = float(Forgetful.made)

    def inverse(self, z, context=None):
        return z * (-self.log_scale).exp() - self.offset, -self.log_det(z)

    def forward(self, x, context=None):
        return (x + self.offset) * self.log_scale.exp(), self.log_det(x)


class SecretlyOpen(Scaled):
    """Says that it goes one way, and goes both."""

    __init__ = Scaled.__init__

    one_way = "forward"


class Draws(Scaled):
    """Draws on its way."""

    __init__ = Scaled.__init__

    def inverse(self, z, context=None):
        torch.rand(1)
        return super().inverse(z, context)


class Remains(Scaled):
    """Keeps a tensor that does not move."""

    def __init__(self, shape, context_shape, /):
        super().__init__(shape, context_shape)
        self.ones = torch.ones(shape)

    def inverse(self, z, context=None):
        return super().inverse(z * self.ones, context)


class Picky(Scaled):
    """Refuses everything."""

    def __init__(self, shape, context_shape, /):
        raise ValueError("nothing fits")


def test_a_right_bijection_passes():
    check_bijection(Factory("scaled", {}, Scaled))


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (WrongLogDet, "log-determinant off by"),
        (WrongInverse, "does not undo inverse"),
        (NoGradient, "does not require grad|no gradient reaches"),
        (InPlace, "the caller's tensor was changed|cannot|leaf|does not undo|off by|in-place"),
        (ByBatch, "depends on the others|does not undo"),
        (Forgetful, "a state dict does not say all"),
        (SecretlyOpen, "the other way must raise NotImplementedError"),
        (Draws, "draws random numbers"),
        (Remains, "a part stays behind: ones is a plain attribute"),
        (Picky, "refuses all shapes"),
    ],
)
def test_a_broken_bijection_is_found(broken, complaint):
    with pytest.raises((AssertionError, RuntimeError), match=complaint):
        check_bijection(Factory("broken", {}, broken))
