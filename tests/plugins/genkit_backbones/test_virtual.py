"""Virtual batch normalization: by hand, and independent of the rest of the batch."""

import copy

import pytest
import torch
from torch import nn

import genkit
from genkit.engine.ema import MovingAverage
from genkit_backbones.virtual import REFERENCE, ReferenceLayers, VirtualBatchNorm

NETWORKS = {
    "mlp on vectors": ({"use": "mlp", "hidden_dims": [8, 6]}, (5,), (3,)),
    "mlp on images": ({"use": "mlp", "hidden_dims": [8]}, (2, 4, 4), (1,)),
    "cnn encoder": ({"use": "cnn", "channels": 4}, (1, 9, 9), (3,)),
    "cnn decoder": ({"use": "cnn", "channels": 4}, (3,), (1, 9, 9)),
    "cnn between images": ({"use": "cnn", "channels": 4}, (1, 5, 5), (2, 5, 5)),
}


def built(name, **options):
    node, shape_in, shape_out = NETWORKS[name]
    return genkit.build(
        "backbone", {**node, "normalization": "virtual_batch", **options}, shape_in, shape_out
    ), shape_in


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_an_output_does_not_depend_on_the_rest_of_the_batch(name, training):
    network, shape = built(name)
    network.start(torch.randn(80, *shape))
    network.train(training)
    x = torch.randn(6, *shape)
    together = network(x)
    assert together.std() > 0
    for i in range(6):
        assert torch.allclose(network(x[i : i + 1])[0], together[i], atol=1e-5)
    beside = torch.cat([x[:1], 100 * torch.randn(9, *shape)])
    assert torch.allclose(network(beside)[0], together[0], atol=1e-5)
    assert torch.allclose(network.train(not training)(x), together, atol=1e-6)


def normalized_by_hand(x, reference, weight, bias):
    """Salimans et al., section 3.5, one example and one feature at a time, in double precision."""
    x, reference = x.double(), reference.double()
    result = torch.empty_like(x)
    for i in range(len(x)):
        for c in range(x.shape[1]):
            per_example = [*(reference[r, c] for r in range(len(reference))), x[i, c]]
            mean = sum(values.mean() for values in per_example) / len(per_example)
            square = sum((values**2).mean() for values in per_example) / len(per_example)
            deviation = (square - mean**2 + 1e-5).sqrt()
            result[i, c] = (x[i, c] - mean) / deviation * weight[c] + bias[c]
    return result


@pytest.mark.parametrize("shape", [(3,), (3, 2, 4)], ids=["vectors", "images"])
def test_formula_by_hand(shape):
    layer = VirtualBatchNorm(3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, -0.5]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, 3.0]))
    reference, x = 2 + 3 * torch.randn(REFERENCE, *shape), -4 + 5 * torch.randn(4, *shape)
    y = layer(torch.cat([reference, x]))
    assert y.shape == (REFERENCE + 4, *shape)
    expected = normalized_by_hand(x, reference, layer.weight, layer.bias)
    assert torch.allclose(y[REFERENCE:].double(), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(3,), (3, 2, 4)], ids=["vectors", "images"])
def test_the_reference_itself_is_batch_normalized(shape):
    reference = 2 + 3 * torch.randn(REFERENCE, *shape)
    layer = nn.BatchNorm1d(3) if len(shape) == 1 else nn.BatchNorm2d(3)
    y = VirtualBatchNorm(3)(torch.cat([reference, torch.randn(5, *shape)]))
    assert torch.allclose(y[:REFERENCE], layer(reference), atol=1e-5)


def test_a_hidden_layer_is_normalized_beside_the_reference():
    network, _ = built("mlp on vectors", hidden_dims=[4], activation="tanh")
    network.start(torch.randn(64, 5))
    x = torch.randn(3, 5)
    first, norm, _, last = network.layers
    expected = normalized_by_hand(first(x), first(network.layers.reference), norm.weight, norm.bias).float()
    assert torch.allclose(network(x), last(torch.tanh(expected)), atol=1e-4)


@pytest.mark.parametrize("mean", [0.0, 3.0, 10.0])
def test_statistics_keep_their_digits_in_bf16(mean):
    x = mean + torch.randn(REFERENCE + 100, 4)
    error = VirtualBatchNorm(4)(x.bfloat16()).float() - VirtualBatchNorm(4)(x)
    assert error.abs().mean() < 0.03  # batch normalization's is half as much


def test_a_constant_feature_stays_finite():
    y = VirtualBatchNorm(2)(torch.full((REFERENCE + 3, 2), 1e3))
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_starts_from_the_first_inputs(name):
    network, shape = built(name)
    x = torch.randn(70, *shape)
    network.start(x)
    reference = network.layers.reference
    assert torch.equal(reference.flatten(1), x[:REFERENCE].flatten(1))
    before = network(x[:4])
    network.start(x[:10] + 1)
    assert torch.equal(reference.flatten(1), x[torch.arange(REFERENCE) % 10].flatten(1) + 1)
    assert not torch.allclose(network(x[:4]), before, atol=1e-3)


def test_a_single_example_can_start_it():
    network, shape = built("mlp on vectors")
    x = torch.randn(1, *shape)
    network.start(x)
    assert torch.equal(network.layers.reference, x.expand(REFERENCE, -1))
    assert torch.isfinite(network(torch.randn(2, *shape))).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_all_weights(name):
    network, shape = built(name)
    network(torch.randn(4, *shape)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    assert all(
        p.grad.abs().sum() > 0 for m in network.modules() if isinstance(m, VirtualBatchNorm) for p in (m.weight,)
    )
    assert not network.layers.reference.requires_grad


@pytest.mark.parametrize("name", NETWORKS)
def test_survives_a_state_dict_and_a_deepcopy(name):
    network, shape = built(name)
    network.start(torch.randn(64, *shape))
    assert torch.equal(network.state_dict()["layers.reference"], network.layers.reference)
    twin, _ = built(name)
    twin.load_state_dict(network.state_dict(), strict=True)
    x = torch.randn(3, *shape)
    assert torch.equal(twin(x), network(x))
    copied = copy.deepcopy(network)
    assert torch.equal(copied(x), network(x))
    copied.start(torch.zeros(1, *shape))
    assert torch.equal(twin(x), network(x))  # the copy has a reference of its own


def test_a_moving_average_has_the_models_reference():
    network = {"use": "mlp", "hidden_dims": [6], "normalization": "virtual_batch"}
    model = genkit.build("model", {"use": "generator", "latent_dim": 3, "network": network}, genkit.DataSpec((2,)))
    average = MovingAverage(model, 0.5)
    model.start(torch.zeros(64, 2))
    average.copy()
    z = torch.randn(4, 3)
    assert torch.equal(average.model.network.layers.reference, model.network.layers.reference)
    assert torch.equal(average.model.decode(z), model.decode(z))
    for _ in range(2):
        average.update()
    assert torch.equal(average.model.decode(z), model.decode(z))


def test_a_vae_starts_its_encoder_from_data_and_its_decoder_from_latents():
    node = {"use": "mlp", "hidden_dims": [6], "normalization": "virtual_batch"}
    options = {"use": "vae", "latent_dim": 3, "encoder": node, "decoder": node}
    model, x = genkit.build("model", options, genkit.DataSpec((1, 2, 2), levels=2)), torch.ones(64, 1, 2, 2)
    before = model.decoder.layers.reference.clone()
    model.start(x)
    assert torch.equal(model.encoder.layers.reference, x.flatten(1))
    assert not torch.equal(model.decoder.layers.reference, before)


@pytest.mark.parametrize("normalization", ["none", "batch", "layer", "group"])
def test_other_normalizations_carry_no_reference(normalization):
    network, shape = built("mlp on vectors", normalization=normalization)
    assert not isinstance(network.layers, ReferenceLayers)
    before = copy.deepcopy(network.state_dict())
    network.start(torch.randn(8, *shape))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any("reference" in name for name in before)


def test_a_normalization_follows_each_hidden_layer():
    network, _ = built("mlp on vectors")
    kinds = [nn.Linear, VirtualBatchNorm, nn.ReLU, nn.Linear, VirtualBatchNorm, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in network.layers] == kinds
    encoder, _ = built("cnn encoder")
    convolutions = [layer for layer in encoder.layers if isinstance(layer, nn.Conv2d)]
    assert sum(isinstance(layer, VirtualBatchNorm) for layer in encoder.layers) == len(convolutions) > 1
