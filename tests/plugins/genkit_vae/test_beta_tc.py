"""The three parts of the divergence: their sum, their definitions, and what they are where mixtures are normal."""

import math

import pytest
import torch
from linear_gaussian import gradient, loss_of, mean_and_error, one_level, two_levels
from torch.distributions import MultivariateNormal, Normal

import genkit
from genkit import GenkitError

MODELS = pytest.mark.parametrize("make", [one_level, two_levels])
SHAPES = pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
PARTS = ("mutual_information", "total_correlation", "dimension_kl")


@MODELS
@SHAPES
def test_with_weights_of_one_it_is_the_sampled_evidence_lower_bound_exactly(make, full):
    model = make(full=full)
    x = model.marginal.sample((6,))
    ours = loss_of(model, x, "beta_tc", seed=3, beta=1.0)
    theirs = loss_of(model, x, "elbo", seed=3, closed_form=False)
    assert ours.total.item() == pytest.approx(theirs.total.item(), rel=1e-12)
    assert ours.terms["negative_elbo"].item() == pytest.approx(theirs.total.item(), rel=1e-12)
    assert sum(ours.terms[part].item() for part in PARTS) == pytest.approx(theirs.terms["kl"].item(), rel=1e-12)
    found = gradient(model, model, x, "beta_tc", seed=3, beta=1.0)
    expected = gradient(model, model, x, "elbo", seed=3, closed_form=False)
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-10)


@MODELS
def test_weights_weigh_the_parts(make):
    model = make()
    x = model.marginal.sample((6,))
    loss = loss_of(model, x, "beta_tc", alpha=0.5, beta=3.0, gamma=2.0)
    parts = [loss.terms[part].item() for part in PARTS]
    weighed = 0.5 * parts[0] + 3 * parts[1] + 2 * parts[2]
    assert loss.total.item() == pytest.approx(loss.terms["reconstruction"].item() + weighed, rel=1e-12)


def by_hand(model, x, z):
    """log q(z_i | x_j) and, apart for each dimension, log q(z_id | x_j) or its estimate, in loops."""
    size, first = len(x), model.sizes[0]
    pairs = torch.zeros(size, size, dtype=torch.float64)
    marginals = torch.zeros(size, size, z.shape[1], dtype=torch.float64)
    joint = model.joint_posterior(x)
    covariance = joint.covariance_matrix[0]  # of all examples
    for i in range(size):
        for j in range(size):
            pairs[i, j] = MultivariateNormal(joint.mean[j], covariance).log_prob(z[i])
            for d in range(z.shape[1]):
                if d < first:
                    at = Normal(joint.mean[j, d], covariance[d, d].sqrt())
                else:  # given the other example's own lower level
                    encoder = model.encoders[1]
                    mean = encoder.weight[d - first] @ z[j, :first] + encoder.bias[d - first]
                    at = Normal(mean, encoder.covariance[d - first, d - first].sqrt())
                marginals[i, j, d] = at.log_prob(z[i, d])
    return pairs, marginals


@MODELS
@SHAPES
def test_parts_are_those_of_the_batchs_mixture(make, full):
    model = make(full=full)
    x = model.marginal.sample((4,))
    loss = loss_of(model, x, "beta_tc", seed=3)
    torch.manual_seed(3)
    z = model.posterior(x).rsample().detach()
    pairs, marginals = by_hand(model, x, z)
    log_q = pairs.exp().mean(1).log()
    log_product = marginals.exp().mean(1).log().sum(1)
    expected = {
        "mutual_information": pairs.diagonal() - log_q,
        "total_correlation": log_q - log_product,
        "dimension_kl": log_product - model.joint_prior.log_prob(z),
    }
    for part, values in expected.items():
        assert loss.terms[part].item() == pytest.approx(values.mean().item(), rel=1e-9)


@MODELS
def test_the_size_of_the_data_set_shifts_the_papers_terms(make):
    """The paper's weights are 1 / N B where ours are 1 / B."""
    model, size, total = make(), 4, 1000
    x = model.marginal.sample((size,))
    torch.manual_seed(3)
    z = model.posterior(x).rsample().detach()
    pairs, marginals = by_hand(model, x, z)
    log_constant = math.log(total * size)
    log_q = pairs.logsumexp(1) - log_constant
    log_product = (marginals.logsumexp(1) - log_constant).sum(1)
    paper = [(pairs.diagonal() - log_q).mean(), (log_q - log_product).mean(),
             (log_product - model.joint_prior.log_prob(z)).mean()]  # fmt: skip
    ours = loss_of(model, x, "beta_tc", seed=3).terms
    dims = z.shape[1]
    shifts = [math.log(total), (dims - 1) * math.log(total), -dims * math.log(total)]
    for part, value, shift in zip(PARTS, paper, shifts, strict=True):
        assert value.item() - ours[part].item() == pytest.approx(shift, rel=1e-9)
    assert sum(shifts) == pytest.approx(0, abs=1e-9)


def test_the_size_of_the_data_set_is_in_no_gradient():
    model, size, total = one_level(), 5, 1000
    x = model.marginal.sample((size,))
    torch.manual_seed(3)
    q = model.posterior(x)
    z = q.rsample()
    given = q.base_dist.log_prob(z.unsqueeze(1))  # (B, B, D)
    log_q = given.sum(-1).logsumexp(1) - math.log(total * size)
    log_product = (given.logsumexp(1) - math.log(total * size)).sum(1)
    log_given, log_prior = q.log_prob(z), -0.5 * z.square().sum(1)
    divergence = 0.5 * (log_given - log_q) + 3 * (log_q - log_product) + 2 * (log_product - log_prior)
    paper = (divergence - model.likelihood(z).log_prob(x)).mean()
    slopes = torch.autograd.grad(paper, list(model.parameters()))
    expected = torch.cat([slope.flatten() for slope in slopes])
    found = gradient(model, model, x, "beta_tc", seed=3, alpha=0.5, beta=3.0, gamma=2.0)
    assert expected.abs().max() > 0.1
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_posteriors_that_do_not_depend_on_the_example_share_no_information():
    model = one_level()
    with torch.no_grad():
        model.encoders[0].weight.zero_()
    loss = loss_of(model, model.marginal.sample((6,)), "beta_tc")
    assert loss.terms["mutual_information"].item() == pytest.approx(0, abs=1e-12)
    assert loss.terms["total_correlation"].item() == pytest.approx(0, abs=1e-12)
    kl = loss.terms["negative_elbo"].item() - loss.terms["reconstruction"].item()
    assert loss.terms["dimension_kl"].item() == pytest.approx(kl, rel=1e-10)


def test_posteriors_far_apart_share_all_that_a_batch_can_tell():
    model = one_level()
    with torch.no_grad():
        model.encoders[0].weight.mul_(1e4)
    loss = loss_of(model, model.marginal.sample((6,)), "beta_tc")
    assert loss.terms["mutual_information"].item() == pytest.approx(math.log(6), rel=1e-10)


def test_of_one_correlated_normal_the_total_correlation_is_the_closed_form():
    """Minus half the log-determinant of its correlations: the first order of a mixture of posteriors that are alike."""
    model = one_level(full=True)
    with torch.no_grad():
        model.encoders[0].weight.zero_()
        model.encoders[0].tril.copy_(torch.tensor([[1.0, 0.0], [0.9, 0.5]]))
        x = model.marginal.sample((200,))
        runs = torch.stack([loss_of(model, x, "beta_tc").terms["total_correlation"] for _ in range(60)])
    covariance = model.encoders[0].covariance
    scale = covariance.diagonal().sqrt()
    exact = -0.5 * (covariance / scale.outer(scale)).logdet()
    mean, error = mean_and_error(runs)
    assert error < 0.03 * exact
    assert (mean - exact).abs() < 4 * error


def test_latents_in_lockstep_cost_total_correlation_and_independent_ones_none():
    """Posteriors on a diagonal line of the plane, and on a grid."""
    model = one_level()
    size = 64
    with torch.no_grad():
        model.encoders[0].weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        model.encoders[0].bias.zero_()
        model.encoders[0].tril.copy_(0.1 * torch.eye(2))
        line = torch.linspace(-20, 20, size, dtype=torch.float64)
        side = torch.linspace(-20, 20, 8, dtype=torch.float64)
        grid = torch.cartesian_prod(side, side)
        found = [loss_of(model, torch.cat([plane, torch.zeros(size, 1)], 1), "beta_tc").terms["total_correlation"]
                 for plane in (torch.stack([line, line], 1), grid)]  # fmt: skip
    # on the line either dimension tells the other: log 64, less what neighbours' overlap leaves open
    assert 0.9 * math.log(size) < found[0].item() < math.log(size) + 0.2
    assert found[1].item() == pytest.approx(0, abs=1e-6)


def test_a_batch_of_one_is_its_own_mixture():
    for make in (one_level, two_levels):
        loss = loss_of(make(), torch.zeros(1, 3, dtype=torch.float64), "beta_tc")
        assert loss.terms["mutual_information"].item() == pytest.approx(0, abs=1e-12)
        assert loss.terms["total_correlation"].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("solve", [False, True])
def test_a_posterior_without_densities_of_single_dimensions_is_refused_at_the_start(solve):
    pytest.importorskip("genkit_flow")
    posterior = {"use": "flow_posterior", "bijections": [{"use": "planar", "solve": solve}], "context_dim": 0}
    model = genkit.build("model", {"use": "vae", "latent_dim": 2, "posterior": posterior}, genkit.DataSpec((4,), 2))
    objective = genkit.build("objective", "beta_tc", model)
    with torch.no_grad(), pytest.raises(GenkitError, match="beta_tc needs a posterior whose density is known for each"):
        objective.start(model, torch.zeros(3, 4))


@MODELS
@SHAPES
def test_normal_posteriors_are_taken_as_the_engine_starts(make, full):
    model = make(full=full)
    with torch.no_grad():
        genkit.build("objective", "beta_tc", model).start(model, model.marginal.sample((3,)))
