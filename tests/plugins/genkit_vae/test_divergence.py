"""The divergence against closed forms, both sides."""

import pytest
import torch
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, StudentT

from genkit_priors.prior import StandardNormal
from genkit_vae.divergence import kl_per_group
from genkit_vae.posterior import Diagonal


def kl(mean, log_std):
    parameters = torch.tensor([[*mean, *log_std]], dtype=torch.float64)
    q = Diagonal((len(mean),)).distribution(parameters)
    return kl_per_group(q, StandardNormal((len(mean),)).double().distribution(), q.rsample())


def test_of_the_prior_itself_is_zero():
    assert kl([0.0, 0.0], [0.0, 0.0]).tolist() == [[0.0, 0.0]]


def test_of_a_far_normal():
    # (50 + 1000^2 - 1 - ln 50) / 2
    half_log_50 = 0.5 * torch.tensor(50.0, dtype=torch.float64).log().item()
    assert kl([1000.0], [half_log_50]).item() == pytest.approx(500_022.54, abs=0.01)


def test_is_symmetric_in_the_mean():
    assert kl([2.5, -1.0], [0.3, -0.2]).tolist() == kl([-2.5, 1.0], [0.3, -0.2]).tolist()


def test_is_the_formula_of_the_paper():
    mean, log_std = torch.randn(7, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    expected = (torch.exp(2 * log_std) + mean**2 - 1 - 2 * log_std) / 2
    assert torch.allclose(kl(mean.tolist(), log_std.tolist())[0], expected, rtol=1e-12)


class Unregistered(Distribution):
    """A normal that no closed form is registered for."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, normal):
        super().__init__(normal.batch_shape, normal.event_shape, validate_args=False)
        self.normal = normal

    def rsample(self, sample_shape=torch.Size()):  # noqa: B008
        return self.normal.rsample(sample_shape)

    def log_prob(self, value):
        return self.normal.log_prob(value)


def test_estimate_where_there_is_no_closed_form():
    torch.manual_seed(0)
    count = 200_000
    q = Independent(Normal(torch.full((count, 1), 0.7), torch.full((count, 1), 0.5)), 1)
    p = Independent(Normal(torch.zeros(1), torch.ones(1)), 1)
    estimates = kl_per_group(Unregistered(q), p, q.rsample())
    assert estimates.shape == (count, 1)
    exact = kl_per_group(q, p, q.rsample())[0].item()
    error = 5 * estimates.std().item() / count**0.5
    assert estimates.mean().item() == pytest.approx(exact, abs=error)


def test_factorized_pair_without_a_closed_form_is_estimated_in_each_dimension():
    q = Independent(Normal(torch.zeros(3, 2), torch.ones(3, 2)), 1)
    p = Independent(StudentT(torch.full((2,), 5.0)), 1)
    z = q.rsample()
    groups = kl_per_group(q, p, z)
    assert torch.equal(groups, Normal(0.0, 1.0).log_prob(z) - StudentT(5.0).log_prob(z))
    assert torch.allclose(groups.sum(1), q.log_prob(z) - p.log_prob(z))


def test_posterior_that_does_not_factorize_is_one_group():
    q = MultivariateNormal(torch.zeros(3, 2), torch.eye(2) + 0.5)
    p = MultivariateNormal(torch.zeros(2), torch.eye(2))
    groups = kl_per_group(q, p, q.rsample())
    expected = 0.5 * (torch.trace(torch.eye(2) + 0.5) - 2 - torch.logdet(torch.eye(2) + 0.5))
    assert groups.shape == (3, 1)
    assert groups.flatten().tolist() == pytest.approx([expected.item()] * 3, rel=1e-5)


def test_reparameterized_samples_have_the_posteriors_moments():
    torch.manual_seed(0)
    mean, log_std = torch.tensor([1.0, -2.0]), torch.tensor([0.5, -1.0])
    parameters = torch.cat([mean, log_std]).expand(20_000, 4).clone().requires_grad_()
    z = Diagonal((2,)).distribution(parameters).rsample()
    assert torch.allclose(z.mean(0), mean, atol=5 * 1.65 / 20_000**0.5)
    assert torch.allclose(z.std(0), log_std.exp(), rtol=0.03)
    z.sum().backward()
    assert (parameters.grad[:, :2] == 1).all()  # dz/dmean
    assert parameters.grad[:, 2:].abs().min() > 0  # dz/dlog_std = std * noise
