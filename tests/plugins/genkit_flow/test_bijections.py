"""Every registered bijection: one test for each thing that all of them promise, from the registry."""

import copy

import pytest
import torch

from genkit.registry import installed
from genkit.testing.common import check_gradients, check_state_round_trip, examples, refused

SHAPES = ((2,), (5,), (6,), (2, 4, 4), (1, 4, 6))
CONTEXTS = (None, (3,), (2, 4, 4))
NAMES = installed().names("bijection")
BATCH = 7


def served(name):
    """Every example of a bijection on every shape and context that it serves."""
    for build in examples("bijection", name):
        for shape in SHAPES:
            for context_shape in CONTEXTS:
                if not refused(lambda b=build, s=shape, c=context_shape: b(s, c)):
                    yield build, shape, context_shape


CASES = [
    pytest.param(build, shape, context, id=f"{name}-{number}-{shape}-{context}")
    for name in NAMES
    for number, build in enumerate(examples("bijection", name))
    for used, shape, context in served(name)
    if used.options == build.options
]


def far_from_identity(build, shape, context_shape, dtype=torch.float64):
    """A bijection with random parameters, latents, and a context."""
    torch.manual_seed(0)
    bijection = build(shape, context_shape).to(dtype)
    with torch.no_grad():
        for parameter in bijection.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    z = 1.5 * torch.randn(BATCH, *bijection.out_shape, dtype=dtype)
    context = None if context_shape is None else torch.randn(BATCH, *context_shape, dtype=dtype)
    return bijection, z, context


def ways(bijection, z, context):
    """Each way that it goes, with an input for it: data are made from latents, so that they are in its domain."""
    assert bijection.one_way != "forward", "no such bijection yet: make data here"
    yield bijection.inverse, z
    if bijection.one_way is None:
        yield bijection, bijection.inverse(z, context)[0].detach()


def one(context, index):
    return None if context is None else context[index : index + 1]


@pytest.mark.parametrize("name", NAMES)
def test_a_bijection_serves_vectors_or_images(name):
    shapes = {shape for _, shape, _ in served(name)}
    assert len(shapes) >= 2


@pytest.mark.parametrize(("build", "shape", "context_shape"), CASES)
def test_log_det_is_that_of_the_jacobian(build, shape, context_shape):
    """Autograd's Jacobian, float64, 1e-6 relative."""
    bijection, z, context = far_from_identity(build, shape, context_shape)
    for way, inputs in ways(bijection, z, context):
        for index in range(3):

            def flat(v, way=way, shape=inputs.shape[1:], index=index):
                return way(v.view(1, *shape), one(context, index))[0].flatten()

            jacobian = torch.autograd.functional.jacobian(flat, inputs[index].flatten())
            expected = torch.linalg.slogdet(jacobian).logabsdet
            log_det = way(inputs[index : index + 1], one(context, index))[1]
            assert log_det.shape == (1,)
            assert log_det.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(("build", "shape", "context_shape"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 2e-3)])
def test_inverse_undoes_forward(build, shape, context_shape, dtype, tolerance):
    bijection, z, context = far_from_identity(build, shape, context_shape, dtype)
    x, log_det = bijection.inverse(z, context)
    assert x.shape == (BATCH, *shape)
    assert x.dtype == dtype
    assert log_det.shape == (BATCH,)
    if bijection.one_way is not None:
        with pytest.raises(NotImplementedError, match="goes only from"):
            bijection(x, context)
        return
    back, opposite = bijection(x, context)
    assert back.shape == z.shape
    assert (back - z).abs().max() < tolerance * z.abs().max()
    assert (log_det + opposite).abs().max() < tolerance * log_det.abs().max().clamp(min=1)


@pytest.mark.parametrize(("build", "shape", "context_shape"), CASES)
def test_gradients_reach_every_parameter_and_the_input(build, shape, context_shape):
    bijection, z, context = far_from_identity(build, shape, context_shape)
    for way, inputs in ways(bijection, z, context):
        inputs = inputs.clone().requires_grad_()
        bijection.zero_grad(set_to_none=True)
        outputs, log_det = way(inputs, context)
        (outputs.square().flatten(1).sum(1) + log_det.square()).sum().backward()
        assert torch.isfinite(inputs.grad).all()
        if list(bijection.parameters()):
            check_gradients(bijection, bijection.parameters(), f"{build.name}, {way}")


@pytest.mark.parametrize(("build", "shape", "context_shape"), CASES)
def test_examples_do_not_touch_each_other_and_inputs_stay(build, shape, context_shape):
    bijection, z, context = far_from_identity(build, shape, context_shape)
    for way, inputs in ways(bijection, z, context):
        before = inputs.clone()
        whole, log_det = way(inputs, context)
        assert torch.equal(inputs, before)
        for index in (0, BATCH - 1):
            alone, own = way(inputs[index : index + 1], one(context, index))
            assert torch.allclose(alone[0], whole[index], atol=1e-10)
            assert own.item() == pytest.approx(log_det[index].item(), abs=1e-10)


@pytest.mark.parametrize(("build", "shape", "context_shape"), CASES)
def test_state_survives_a_checkpoint(build, shape, context_shape):
    bijection, z, context = far_from_identity(build, shape, context_shape)
    check_state_round_trip(bijection, lambda: build(shape, context_shape).double(), build.name)
    other = build(shape, context_shape).double()
    other.load_state_dict(bijection.state_dict())
    assert torch.equal(other.inverse(z, context)[0], bijection.inverse(z, context)[0])
    copied = copy.deepcopy(bijection)
    assert torch.equal(copied.inverse(z, context)[1], bijection.inverse(z, context)[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_context_is_used_wherever_something_is_conditioned(name):
    """What has a network or amortized parameters gives other values under another context; the rest lets it pass."""
    fixed = {"actnorm", "affine", "invertible_linear", "logit", "permutation", "repeat", "split", "squeeze"}
    cases = [case for case in served(name) if case[2] == (3,)]
    assert cases
    for build, shape, context_shape in cases:
        bijection, z, context = far_from_identity(build, shape, context_shape)
        same = torch.equal(bijection.inverse(z, context)[0], bijection.inverse(z, context + 1)[0])
        assert same is (name in fixed)
