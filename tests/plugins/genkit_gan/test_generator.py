"""The generator: what it pushes a latent to, and what it does not claim."""

import pytest
import torch

import genkit
from genkit import Decodes, HasLogProb, LatentVariable, SamplesDifferentiably
from genkit.recipe import load_recipe

NETWORK = {"use": "mlp", "hidden_dims": [5], "activation": "tanh"}
IMAGES, VECTORS = genkit.DataSpec((2, 3, 4), levels=256), genkit.DataSpec((3,))


def built(spec, **options):
    return genkit.build("model", {"use": "generator", "latent_dim": 4, "network": NETWORK, **options}, spec)


def by_hand(model, z):
    hidden, _, output = model.network.layers
    return torch.tanh(z @ hidden.weight.T + hidden.bias) @ output.weight.T + output.bias


def test_vectors_are_the_networks_output_as_it_is():
    model, z = built(VECTORS), 10 * torch.randn(6, 4)
    assert torch.allclose(model.decode(z), by_hand(model, z), atol=1e-6)


def test_images_are_moved_into_the_datas_range():
    model, z = built(IMAGES), torch.randn(6, 4)
    expected = torch.sigmoid(2 * by_hand(model, z)).view(6, 2, 3, 4)  # (tanh x + 1) / 2
    assert torch.allclose(model.decode(z), expected, atol=1e-6)
    with torch.no_grad():
        model.network.layers[-1].weight.mul_(1000)
    x = model.rsample(50)
    assert x.min() == 0
    assert x.max() == 1


@pytest.mark.parametrize("prior", ["standard_normal", "uniform"])
def test_samples_are_decoded_latents_of_the_prior(prior):
    model = built(VECTORS, prior=prior)
    torch.manual_seed(1)
    x = model.rsample(6)
    torch.manual_seed(1)
    z = torch.randn(6, 4) if prior == "standard_normal" else 2 * torch.rand(6, 4) - 1
    assert torch.allclose(x, by_hand(model, z), atol=1e-6)
    assert model.latent_shape == (4,)
    assert model.sample_latent(3).shape == (3, 4)
    assert not model.sample_latent(3, temperature=0.0).any()


def test_samples_depend_on_all_of_its_parameters():
    model = built(IMAGES)
    own = list(model.sampling_parameters())
    assert {id(parameter) for parameter in own} == {id(parameter) for parameter in model.parameters()}
    gradients = torch.autograd.grad(model.rsample(6).square().sum(), own)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_the_network_starts_from_latents():
    model = built(VECTORS, network={**NETWORK, "normalization": "virtual_batch"}, prior="uniform")
    reference = model.network.layers.reference
    before = reference.clone()
    model.start(torch.full((70, 3), 9.0))
    assert reference.shape == (64, 4)
    assert not torch.equal(reference, before)
    assert reference.abs().max() <= 1  # of the uniform prior, not of the data
    assert len(reference.unique(dim=0)) == 64


def test_says_no_likelihood():
    model = built(IMAGES)
    assert isinstance(model, Decodes)
    assert isinstance(model, SamplesDifferentiably)
    assert not isinstance(model, HasLogProb | LatentVariable)


def test_objectives_that_need_a_likelihood_are_refused(small_recipe):
    recipe = {**small_recipe, "model": {"use": "generator"}, "evaluate": {}}
    with pytest.raises(genkit.RecipeError, match="elbo needs a model with LatentVariable, which generator has not"):
        load_recipe(recipe)


def test_a_context_is_refused():
    with pytest.raises(ValueError, match="context"):
        built(VECTORS).rsample(2, torch.zeros(2, 1))
