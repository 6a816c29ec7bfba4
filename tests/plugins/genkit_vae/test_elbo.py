"""The objective: its terms, its weight, its free bits, and the sum that it is."""

import pytest
import torch

import genkit
from genkit import Batch, Progress

SPEC = genkit.DataSpec((1, 4, 4), levels=2)


def progress(epoch):
    return Progress(torch.tensor(epoch * 10), torch.tensor(epoch))


@pytest.fixture
def model():
    torch.manual_seed(0)
    node = {"use": "mlp", "hidden_dims": [8]}
    return genkit.build("model", {"use": "vae", "latent_dim": 3, "encoder": node, "decoder": node}, SPEC)


def loss_of(model, epoch=0.0, **options):
    objective = genkit.build("objective", {"use": "elbo", **options}, model)
    (turn,) = objective.turns(model)
    torch.manual_seed(1)
    x = torch.bernoulli(torch.full((6, 1, 4, 4), 0.4))
    return turn.loss(Batch(x), progress(epoch)), x


def test_is_the_mean_over_the_batch_of_the_sum_over_dimensions(model):
    loss, x = loss_of(model)
    torch.manual_seed(1)
    torch.bernoulli(torch.full((6, 1, 4, 4), 0.4))
    mean, log_std = model.encoder(x).chunk(2, dim=1)
    z = mean + log_std.exp() * torch.randn_like(mean)
    logits = model.decoder(z)
    reconstruction = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / 6
    kl = ((2 * log_std).exp() + mean**2 - 1 - 2 * log_std).sum() / 2 / 6
    assert loss.terms["reconstruction"].item() == pytest.approx(reconstruction.item(), rel=1e-5)
    assert loss.terms["kl"].item() == pytest.approx(kl.item(), rel=1e-5)
    assert loss.total.item() == pytest.approx((reconstruction + kl).item(), rel=1e-5)


def test_is_the_negative_bound_of_the_model(model):
    loss, x = loss_of(model)
    torch.manual_seed(1)
    torch.bernoulli(torch.full((6, 1, 4, 4), 0.4))
    assert loss.total.item() == pytest.approx(-model.log_prob(x).nats.mean().item(), rel=1e-6)


def test_beta_weighs_the_divergence_and_leaves_the_bound(model):
    plain, _ = loss_of(model)
    heavy, _ = loss_of(model, beta=4.0)
    assert (heavy.total - plain.total).item() == pytest.approx(3 * plain.terms["kl"].item(), rel=1e-4)
    assert heavy.terms["negative_elbo"].item() == plain.terms["negative_elbo"].item()


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 0.0), (2.5, 0.25), (10.0, 1.0), (50.0, 1.0)])
def test_warmup_is_linear(model, epoch, share):
    loss, _ = loss_of(model, epoch, warmup_epochs=10, beta=2.0)
    assert (loss.total - loss.terms["reconstruction"]).item() == pytest.approx(
        2 * share * loss.terms["kl"].item(), rel=1e-4, abs=1e-6
    )


def test_free_bits_cost_nothing_below_and_the_excess_above(model):
    loss, _ = loss_of(model, free_bits=5.0)
    assert (loss.total - loss.terms["reconstruction"]).item() == pytest.approx(15.0)  # 3 dimensions, all below 5 nats
    loss.total.backward()
    assert model.encoder.layers[0].weight.grad.abs().sum() > 0  # through the reconstruction alone
    tight, _ = loss_of(model, free_bits=1e-9)
    assert tight.total.item() == pytest.approx((tight.terms["reconstruction"] + tight.terms["kl"]).item(), rel=1e-5)


def test_model_without_a_posterior_is_refused_with_what_would_do(model):
    class Density(genkit.GenerativeModel, genkit.HasLogProb):
        def log_prob(self, x, context=None, num_samples=1):
            raise NotImplementedError

    from genkit.model import lacking

    assert lacking(Density(SPEC), genkit.build("objective", "elbo", model).requires) == ["LatentVariable"]


def test_several_latents_average_the_reconstruction(model):
    many, x = loss_of(model, k=2000)
    assert many.terms["kl"].item() == pytest.approx(loss_of(model)[0].terms["kl"].item(), rel=1e-6)
    bounds = torch.stack([model.log_prob(x).nats.mean() for _ in range(2000)])
    assert many.terms["negative_elbo"].item() == pytest.approx(
        -bounds.mean().item(), abs=5 * bounds.std().item() / 2000**0.5
    )


def test_the_divergence_can_be_estimated_by_the_same_latents(model):
    exact, _ = loss_of(model)
    few, x = loss_of(model, k=3, closed_form=False)
    torch.manual_seed(1)
    torch.bernoulli(torch.full((6, 1, 4, 4), 0.4))
    q = model.posterior(x)
    z = q.rsample((3,))
    assert few.terms["kl"].item() == pytest.approx((q.log_prob(z) - model.prior().log_prob(z)).mean().item(), rel=1e-5)
    assert few.terms["kl"].item() != exact.terms["kl"].item()
    many, _ = loss_of(model, k=5000, closed_form=False)
    assert many.terms["kl"].item() == pytest.approx(exact.terms["kl"].item(), abs=0.05)


def test_with_one_latent_the_importance_weighted_bound_is_the_same(model):
    sampled, x = loss_of(model, closed_form=False)
    weighted = genkit.build("objective", {"use": "iwae", "k": 1}, model)
    torch.manual_seed(1)
    torch.bernoulli(torch.full((6, 1, 4, 4), 0.4))
    assert weighted.turns(model)[0].loss(Batch(x), progress(0.0)).total.item() == pytest.approx(
        sampled.total.item(), rel=1e-6
    )
