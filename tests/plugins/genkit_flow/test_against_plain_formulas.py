"""The flows of the MNIST recipes against the same formulas, written down with nothing of genkit's."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import conv2d, elu, logsigmoid

from genkit import DataSpec
from genkit.recipe import load_recipe

RECIPES = Path(__file__).parents[3] / "recipes"
ALPHA, LEVELS, LAYERS = 1e-5, 256, 3
TENSORS = 2 + 6 * LAYERS + 2 + 1  # of a coupling: convolutions, three gated layers with norms, a convolution, the bound


def gated_convolutions(weights, x):
    """A convolution, gated residual layers with normalization over channels, and a convolution."""
    weights = list(weights)
    x = conv2d(x, *weights[:2], padding=1)
    for layer in range(LAYERS):
        wide, wide_bias, narrow, narrow_bias, gain, offset = weights[2 + 6 * layer : 8 + 6 * layer]
        h = conv2d(torch.cat([elu(x), elu(-x)], 1), wide, wide_bias, padding=1)
        value, gate = conv2d(torch.cat([elu(h), elu(-h)], 1), narrow, narrow_bias).chunk(2, 1)
        x = x + value / (1 + (-gate).exp())
        x = (x - x.mean(1, True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt() * gain + offset
    return conv2d(torch.cat([elu(x), elu(-x)], 1), *weights[-2:], padding=1)


def scale_and_shift(weights, x):
    """The log-scales within their bounds, and the shifts."""
    *network, log_bound = weights
    log_scale, shift = gated_convolutions(network, x).chunk(2, 1)
    return torch.tanh(log_scale / log_bound.exp()) * log_bound.exp(), shift


def board(x, *, flip):
    """1 at the pixels that change: those with an even sum of row and column, or the others."""
    mask = torch.zeros_like(x[:1, :1])
    mask[..., 0::2, 0::2] = mask[..., 1::2, 1::2] = 1
    return 1 - mask if flip else mask


def checkerboard(weights, x, *, flip):
    mask = board(x, flip=flip)
    log_scale, shift = scale_and_shift(weights, x * (1 - mask))
    return (x + mask * shift) * (mask * log_scale).exp(), (mask * log_scale).sum((1, 2, 3))


def checkerboard_back(weights, z, condition, *, flip):
    mask = board(z, flip=flip)
    log_scale, shift = scale_and_shift(weights, torch.cat([z * (1 - mask), condition], 1))
    return z * (-mask * log_scale).exp() - mask * shift, -(mask * log_scale).sum((1, 2, 3))


def channels(weights, x, *, flip):
    kept, changed = x.chunk(2, 1)[:: -1 if flip else 1]
    log_scale, shift = scale_and_shift(weights, kept)
    changed = (changed + shift) * log_scale.exp()
    return torch.cat([changed, kept] if flip else [kept, changed], 1), log_scale.sum((1, 2, 3))


def squeeze(x):
    """Four channels for each, the corners of a square row by row."""
    corners = [x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return torch.stack(corners, 2).flatten(1, 2)


def normal(z):
    return -(z.square() + math.log(2 * math.pi)).flatten(1).sum(1) / 2


def one_scale(couplings, y):
    total = 0
    for number, weights in enumerate(couplings):
        y, log_det = checkerboard(weights, y, flip=number % 2 == 1)
        total = total + log_det
    return total + normal(y)


def three_scales(couplings, y):
    total = 0
    for number, weights in enumerate(couplings):
        if number in (2, 4):
            y = squeeze(y)
        y, log_det = (checkerboard if number < 2 else channels)(weights, y, flip=number % 2 == 1)
        total = total + log_det
        if number == 3:
            done, y = y.chunk(2, 1)
            total = total + normal(done)
    return total + normal(y)


def uniform(couplings, index):
    assert not couplings
    return torch.rand(index.shape, dtype=index.dtype), 0


def variational(couplings, index):
    """Noise from logistic noise, through couplings that see the image in [-1, 1], and minus its log-density."""
    v = torch.rand(index.shape, dtype=index.dtype).logit()
    log_q = (logsigmoid(v) + logsigmoid(-v)).sum((1, 2, 3))
    for number, weights in reversed(list(enumerate(couplings))):
        v, log_det = checkerboard_back(weights, v, index / 127.5 - 1, flip=number % 2 == 1)
        log_q = log_q - log_det
    return torch.sigmoid(v), (logsigmoid(v) + logsigmoid(-v)).sum((1, 2, 3)) - log_q


@pytest.mark.parametrize(
    ("recipe", "noise", "density"),
    [
        ("flow_mnist", uniform, one_scale),
        ("flow_mnist_vardeq", variational, one_scale),
        ("flow_mnist_multiscale", variational, three_scales),
    ],
)
def test_likelihood_and_gradients_are_those_of_the_plain_formulas(recipe, noise, density):
    torch.manual_seed(0)
    model = load_recipe(RECIPES / f"{recipe}.yaml").model(DataSpec((1, 28, 28), LEVELS)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    index = torch.randint(LEVELS, (2, 1, 28, 28)).double()
    chain, dequantizer = (
        [parameters[at : at + TENSORS] for at in range(0, len(parameters), TENSORS)]
        for parameters in (list(model.chain.parameters()), list(model.dequantizer.parameters()))
    )

    torch.manual_seed(1)
    u, log_weight = noise(dequantizer, index)
    p = ALPHA + (1 - 2 * ALPHA) * (index + u) / LEVELS
    log_slope = (1 - 2 * ALPHA) / (p * (1 - p))
    expected = density(chain, p.log() - (1 - p).log()) + log_slope.log().sum((1, 2, 3))
    expected = expected + log_weight - 784 * math.log(LEVELS)

    torch.manual_seed(1)
    nats = model.log_prob(index / (LEVELS - 1)).nats
    torch.testing.assert_close(nats, expected, rtol=1e-9, atol=0)
    gradients = [torch.autograd.grad(figure.sum(), list(model.parameters())) for figure in (nats, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)
