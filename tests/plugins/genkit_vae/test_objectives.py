"""Every variational objective trains models of one and of several levels, and asks for what it needs."""

import pytest
import torch

import genkit
from genkit import Batch, Progress
from genkit.errors import GenkitError, RecipeError
from genkit.recipe import load_recipe
from genkit_vae import OBJECTIVES

SPEC = genkit.DataSpec((1, 4, 4), levels=2)
NETWORK = {"use": "mlp", "hidden_dims": [16]}
LEVEL = {"encoder": NETWORK, "decoder": NETWORK}
NODES = {
    "vae": {"use": "vae", "latent_dim": 3, **LEVEL},
    "hierarchical_vae": {"use": "hierarchical_vae", "levels": [{"latent_dim": 3, **LEVEL}, {"latent_dim": 2, **LEVEL}]},
    "richer": {
        "use": "vae",
        "latent_dim": 3,
        "posterior": "full_covariance",
        "prior": {"use": "vamp", "pseudo_inputs": 4},
        **LEVEL,
    },
}
PROGRESS = Progress(torch.tensor(0.0), torch.tensor(0.0))


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("use", OBJECTIVES)
def test_training_lowers_its_loss_and_moves_every_parameter(use, name):
    model = genkit.build("model", NODES[name], SPEC)
    weight = {"info_vae": {"lam": 10.0}, "mmd": {"weight": 10.0}}.get(use, {})
    (turn,) = genkit.build("objective", {"use": use, **weight}, model).turns(model)
    start = [parameter.clone() for parameter in model.parameters()]
    x = torch.bernoulli(torch.linspace(0.05, 0.95, 16).view(SPEC.shape).expand(64, *SPEC.shape))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = turn.loss(Batch(x), PROGRESS).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert not any(torch.equal(before, after) for before, after in zip(start, model.parameters(), strict=True))


@pytest.mark.parametrize("use", OBJECTIVES)
def test_a_prior_with_bounds_is_refused_at_the_start_unless_it_is_only_drawn_from(use):
    model = genkit.build("model", {**NODES["vae"], "prior": "uniform"}, SPEC)
    objective, x = genkit.build("objective", {"use": use}, model), torch.zeros(50, *SPEC.shape)
    if use == "mmd":
        objective.start(model, x)
        assert torch.isfinite(objective.turns(model)[0].loss(Batch(x), PROGRESS).total)
        return
    with pytest.raises(GenkitError, match="the prior has no density at latents that the posterior draws"):
        objective.start(model, x)


@pytest.mark.parametrize("use", OBJECTIVES)
def test_a_model_without_latents_is_refused_with_those_that_would_do(use):
    pytest.importorskip("genkit_flow")
    recipe = {"data": {"use": "moons"}, "model": {"use": "flow", "bijections": ["actnorm"]}, "objective": {"use": use}}
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    (problem,) = caught.value.problems
    assert problem.path == "objective"
    needs, _, able = problem.message.partition("; models that would do: ")
    assert needs == f"{use} needs a model with {_lacks(use)}, which flow has not"
    assert {"hierarchical_vae", "vae"} <= set(able.split(", "))


def _lacks(use):
    from genkit.registry import installed

    return ", ".join(c.__name__ for c in installed().get("objective", use).load().requires if c is not genkit.Decodes)
