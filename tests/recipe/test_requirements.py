"""What a component asks of the model is checked wherever it stands, with its path and the models that would do."""

from collections.abc import Mapping, Sequence

import pytest
import toy

import genkit
from genkit import Factory
from genkit.errors import RecipeError
from genkit.recipe import load_recipe
from genkit.recipe.check import requirements
from genkit.registry import Plugin, Registrar, installed

# ---- components of this file's own: the core must not need a plugin -----------------------------------------------


class Silent(genkit.GenerativeModel):
    """Can do nothing."""

    def __init__(self, spec: genkit.DataSpec, /) -> None:
        super().__init__(spec)


class Speaks(Silent, genkit.HasLogProb):
    """Says how likely data is, and no more."""

    def log_prob(self, x, context=None, num_samples=1): ...


class Extra(genkit.Component, kind="extra"):
    """Abstract addition to an objective."""


class Wish(Extra):
    """Asks for latents."""

    requires = (genkit.Decodes,)

    def __init__(self) -> None: ...


class Modest(Extra):
    """Asks for nothing, but holds others."""

    def __init__(self, *, inner: Factory[Extra] = genkit.use("wish")) -> None: ...


class Bare(genkit.Objective):
    """Asks for nothing, but holds others in all ways.

    Args:
        parts: Objectives by name.
        extras: Additions in a list.
        extra: One addition.
    """

    def __init__(
        self,
        model: genkit.GenerativeModel,
        /,
        *,
        parts: Mapping[str, Factory[genkit.Objective]] | None = None,
        extras: Sequence[Factory[Extra]] = (),
        extra: Factory[Extra] | None = None,
    ) -> None: ...

    def players(self, model): ...

    def turns(self, model): ...


class Picky(genkit.Evaluator):
    """An evaluator of anything, with an addition."""

    def __init__(self, model: genkit.GenerativeModel, /, *, extra: Factory[Extra] = genkit.use("wish")) -> None: ...

    def evaluate(self, subject, split): ...


class Anyhow(genkit.Sampler):
    """A sampler of anything, with an addition."""

    def __init__(
        self, model: genkit.GenerativeModel, objective: genkit.Objective, /, *, extra: Factory[Extra] | None = None
    ) -> None: ...

    def sample(self, num_samples, context=None): ...


OWN = {"silent": Silent, "speaks": Speaks, "wish": Wish, "modest": Modest, "bare": Bare, "picky": Picky}


@pytest.fixture
def problems():
    """The problems of the toy recipe with a model that can do nothing, and changes."""
    registry = toy.registry()
    register = Registrar(registry, Plugin("own", "own", "tests", "0"))
    for name, component in {**OWN, "anyhow": Anyhow}.items():
        register(name, component)

    def found(**changes):
        plain = {"model": "silent", "objective": "bare", "sampler": "anyhow", "evaluate": {}}
        try:
            load_recipe({**toy.RECIPE, **plain, **changes}, (), registry)
        except RecipeError as error:
            return {problem.path: problem.message for problem in error.problems}
        return {}

    return found


WISH = "wish needs a model with Decodes, which silent has not; models that would do: denoiser"
LIKELY = "denoising needs a model with HasLogProb, which silent has not; models that would do: denoiser, speaks"


def test_what_asks_for_nothing_is_served_by_any_model(problems):
    assert problems() == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"objective": {"use": "bare", "extra": "wish"}}, {"objective.extra": WISH}),
        ({"objective": {"use": "bare", "extras": ["wish", "modest"]}},
         {"objective.extras.0": WISH, "objective.extras.1.inner": WISH}),
        ({"objective": {"use": "bare", "parts": {"a": "denoising", "b": {"use": "bare", "extra": "modest"}}}},
         {"objective.parts.a": LIKELY, "objective.parts.b.extra.inner": WISH}),
        ({"sampler": {"use": "anyhow", "extra": "modest"}}, {"sampler.extra.inner": WISH}),
        ({"evaluate": {"e": "picky", "f": {"use": "picky", "extra": "modest"}}},
         {"evaluate.e.extra": WISH, "evaluate.f.extra.inner": WISH}),
        ({"model": "speaks", "objective": {"use": "bare", "parts": {"a": "denoising"}}}, {}),
        ({"model": "denoiser", "objective": {"use": "bare", "extra": "modest", "parts": {"a": "denoising"}},
          "evaluate": {"e": "picky"}}, {}),
    ],
)  # fmt: skip
def test_nested_components_are_asked_wherever_they_stand(problems, changes, expected):
    assert problems(**changes) == expected


def test_requirements_are_gathered_once_each(problems):
    inner = Factory("modest", {"inner": Factory("wish", {}, Wish)}, Modest)
    parts = {"a": Factory("denoising", {}, toy.Denoising), "b": Factory("denoising", {}, toy.Denoising)}
    factory = Factory("bare", {"extra": inner, "extras": [inner], "parts": parts, "scale": 2}, Bare)
    assert set(requirements(factory)) == {genkit.Decodes, genkit.HasLogProb}
    assert len(requirements(factory)) == 2
    assert requirements(Factory("bare", {"extra": None}, Bare)) == ()


# ---- with what is installed --------------------------------------------------------------------------------------

TEXT = """\
data: {use: mnist}
model: {use: generator}
objective:
  use: sum
  parts:
    bound:
      use: elbo
    game:
      use: adversarial
      regularizers:
        - r1
        - use: diversity
"""


@pytest.fixture
def text(tmp_path, monkeypatch):
    """Writes a recipe and checks it."""
    for plugin in ("genkit_gan", "genkit_objectives", "genkit_vae", "genkit_mnist"):
        pytest.importorskip(plugin)
    monkeypatch.chdir(tmp_path)

    def lines(written, *overrides):
        (tmp_path / "r.yaml").write_text(written)
        with pytest.raises(RecipeError) as caught:
            load_recipe("r.yaml", overrides)
        return [str(problem) for problem in caught.value.problems]

    return lines


def test_a_bound_in_a_sum_asks_for_a_posterior(text):
    assert text(TEXT) == [
        "r.yaml:6: objective.parts.bound: elbo needs a model with LatentVariable, which generator has not; "
        "models that would do: hierarchical_vae, vae"
    ]


class Sampled(Silent, genkit.SamplesDifferentiably):
    """Can be sampled, but has no latents."""

    def rsample(self, num_samples, context=None): ...

    def sampling_parameters(self): ...


@pytest.fixture
def sampled_only(monkeypatch):
    """Registers a model that can be sampled and nothing else."""
    registry = installed()
    monkeypatch.setattr(registry, "_components", dict(registry._components))
    Registrar(registry, Plugin("sampled", "sampled", "tests", "0"))("sampled", Sampled)


def test_a_regularizer_in_a_game_in_a_sum_asks_for_latents(text, sampled_only):
    lines = text(TEXT.replace("generator", "sampled"), "sampler={use: rejection}")
    assert lines == [
        "r.yaml:6: objective.parts.bound: elbo needs a model with LatentVariable, which sampled has not; "
        "models that would do: hierarchical_vae, vae",
        "r.yaml:12: objective.parts.game.regularizers.1: diversity needs a model with Decodes, which sampled has not; "
        "models that would do: flow, generator, hierarchical_vae, vae",
    ]


def test_an_override_that_asks_too_much_is_told_where_it_stands(text):
    override = "objective.parts.game={use: sum, parts: {deep: elbo}}"
    lines = text(TEXT.replace("use: elbo", "use: adversarial"), override)
    assert lines == [
        f"command line {override}: objective.parts.game.parts.deep: elbo needs a model with LatentVariable, which "
        "generator has not; models that would do: hierarchical_vae, vae"
    ]
