"""The posterior of any covariance against scipy's and torch's normals."""

import pytest
import scipy.stats
import torch
from torch.distributions import Independent, Laplace, MultivariateNormal, Normal, kl_divergence

import genkit
from genkit_vae.divergence import kl_per_group
from genkit_vae.full_covariance import FullCovariance

DIMS = 4


def encoded(count=3, dims=DIMS):
    return torch.randn(count, dims * (dims + 3) // 2, dtype=torch.float64)


def by_hand(row, dims=DIMS):
    """Mean and covariance of one example, element by element."""
    rest, triangle = iter(row[2 * dims :].tolist()), torch.zeros(dims, dims, dtype=torch.float64)
    for i in range(dims):
        for j in range(i):
            triangle[i, j] = next(rest)
        triangle[i, i] = row[dims + i].exp()
    return row[:dims], triangle @ triangle.T


@pytest.mark.parametrize("dims", [1, 2, DIMS])
def test_density_is_scipys(dims):
    parameters, z = encoded(dims=dims), torch.randn(3, dims, dtype=torch.float64)
    q = FullCovariance((dims,)).distribution(parameters)
    for row, point, nats in zip(parameters, z, q.log_prob(z), strict=True):
        mean, covariance = by_hand(row, dims)
        expected = scipy.stats.multivariate_normal(mean.numpy(), covariance.numpy()).logpdf(point.numpy())
        assert nats.item() == pytest.approx(expected, rel=1e-9)


def test_draws_have_the_moments():
    parameters = encoded(1)
    q = FullCovariance((DIMS,)).distribution(parameters)
    mean, covariance = by_hand(parameters[0])
    z = q.rsample((200_000,))[:, 0]
    errors = 5 * (covariance.diag() / len(z)).sqrt()
    assert ((z.mean(0) - mean).abs() <= errors).all()
    spread = torch.outer(covariance.diag(), covariance.diag()).add(covariance.square()).div(len(z)).sqrt()
    assert ((z.T.cov() - covariance).abs() <= 5 * spread).all()


def pair():
    """A posterior and a prior, each as the class of ours or torch's, and as a normal with a whole covariance."""
    parameters = encoded()
    q = FullCovariance((DIMS,)).distribution(parameters)
    moments = [by_hand(row) for row in parameters]
    whole = MultivariateNormal(torch.stack([m for m, _ in moments]), torch.stack([c for _, c in moments]))
    normals = Normal(torch.randn(DIMS, dtype=torch.float64), torch.rand(DIMS, dtype=torch.float64) + 0.5)
    diagonal = MultivariateNormal(normals.loc, torch.diag(normals.scale.square()))
    return q, Independent(normals, 1), whole, diagonal


def test_divergence_from_independent_normals_is_torchs_of_two_whole_ones():
    q, p, whole, diagonal = pair()
    groups = kl_per_group(q, p, q.rsample())
    assert groups.shape == (3, 1)
    assert torch.allclose(groups[:, 0], kl_divergence(whole, diagonal), rtol=1e-9)


def test_gradients_of_the_divergence_are_those_of_torchs():
    parameters = encoded().requires_grad_()
    q = FullCovariance((DIMS,)).distribution(parameters)
    normals = Normal(torch.ones(DIMS, dtype=torch.float64), torch.full((DIMS,), 0.7, dtype=torch.float64))
    (ours,) = torch.autograd.grad(kl_per_group(q, Independent(normals, 1), q.mean).sum(), parameters, retain_graph=True)
    whole = MultivariateNormal(normals.loc, torch.diag(normals.scale.square()))
    (torchs,) = torch.autograd.grad(kl_divergence(q, whole).sum(), parameters)
    assert torch.allclose(ours, torchs, rtol=1e-9, atol=1e-12)


def test_divergence_of_a_batch_of_priors_has_the_shape_of_both():
    q, _, whole, _ = pair()
    loc, scale = torch.randn(5, 1, DIMS, dtype=torch.float64), torch.rand(5, 1, DIMS, dtype=torch.float64) + 0.5
    nats = kl_divergence(q, Independent(Normal(loc, scale), 1))
    assert nats.shape == (5, 3)
    assert torch.allclose(nats, kl_divergence(whole, MultivariateNormal(loc, torch.diag_embed(scale.square()))))


def test_divergence_from_what_is_not_normal_is_estimated():
    q, _, _, _ = pair()
    p = Independent(Laplace(torch.zeros(DIMS, dtype=torch.float64), 1.0), 1)
    z = q.rsample()
    assert torch.equal(kl_per_group(q, p, z), (q.log_prob(z) - p.log_prob(z)).unsqueeze(1))


def test_of_a_standard_normal_itself_is_zero():
    q = FullCovariance((DIMS,)).distribution(torch.zeros(2, DIMS * (DIMS + 3) // 2))
    p = genkit.build("prior", "standard_normal", (DIMS,)).distribution()
    assert kl_per_group(q, p, q.mean).tolist() == [[0.0], [0.0]]


def test_images_are_refused_with_what_would_do():
    with pytest.raises(genkit.RecipeError, match=r"vectors, not of shape \(2, 3, 3\); diagonal would do"):
        genkit.build("posterior", "full_covariance", (2, 3, 3))


def test_reaches_the_marginal_where_the_exact_posterior_is_correlated():
    """A linear-Gaussian model: with the exact posterior every importance weight is p(x), whatever the draw."""
    linear = {"use": "mlp", "hidden_dims": []}
    likelihood = {"use": "gaussian", "scale": 0.5}
    node = {"use": "vae", "latent_dim": 2, "encoder": linear, "decoder": linear, "likelihood": likelihood}
    vae = genkit.build("model", {**node, "posterior": "full_covariance"}, genkit.DataSpec((3,))).double()
    w = torch.tensor([[1.0, 0.5], [0.3, -0.8], [-0.2, 0.7]], dtype=torch.float64)
    covariance = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + 4 * w.T @ w)
    assert covariance[0, 1].abs() > 0.01
    triangle = torch.linalg.cholesky(covariance)
    decoder, encoder = vae.decoder.layers[0], vae.encoder.layers[0]
    with torch.no_grad():
        decoder.weight.copy_(w)
        decoder.bias.zero_()
        encoder.weight.zero_()
        encoder.weight[:2] = 4 * covariance @ w.T
        encoder.bias.copy_(torch.cat([torch.zeros(2), triangle.diagonal().log(), triangle[1:, 0]]))
        x = torch.randn(6, 3, dtype=torch.float64)
        marginal = MultivariateNormal(torch.zeros(3).double(), w @ w.T + 0.25 * torch.eye(3)).log_prob(x)
        assert torch.allclose(vae.log_prob(x, num_samples=3).nats, marginal, rtol=1e-6)
        bound = torch.stack([vae.log_prob(x).nats for _ in range(4000)])
    assert ((bound.mean(0) - marginal).abs() <= 5 * bound.std(0) / 4000**0.5).all()
