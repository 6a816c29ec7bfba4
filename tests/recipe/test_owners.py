"""Names that several distributions have: whose component is meant, and how it is written for others to read."""

from collections.abc import Mapping, Sequence

import pytest
import toy
from toy import RECIPE, Line

import genkit
from genkit import Factory, use
from genkit.cli.describe import describe_component
from genkit.errors import RecipeError
from genkit.recipe import Entry, Recipe, load_recipe
from genkit.recipe.check import resolve
from genkit.recipe.schema import json_schema, options_of, written_default
from genkit.registry import Plugin, Registrar

A, B = Plugin("pa", "pa", "dist-a", "1"), Plugin("pb", "pb", "dist-b", "2")


class Around(Line):
    """A linear map around others, which its owner's own names stand for where nothing is said."""

    def __init__(
        self,
        in_shape: genkit.Shape,
        out_shape: genkit.Shape,
        /,
        *,
        inner: Factory[genkit.Backbone] = use("shared"),
        deeper: Factory[genkit.Backbone] | None = use("line_around", inner=use("shared", bias=False)),
        heads: Sequence[Factory[genkit.Backbone]] = (use("shared"),),
        named: Mapping[str, Factory[genkit.Backbone]] | None = None,
    ) -> None:
        super().__init__(in_shape, out_shape)


class LineAround(Line):
    """A linear map around one."""

    def __init__(
        self, in_shape: genkit.Shape, out_shape: genkit.Shape, /, *, inner: Factory[genkit.Backbone] = use("line")
    ) -> None:
        super().__init__(in_shape, out_shape)


class Unable(genkit.GenerativeModel):
    """A model that can do nothing."""

    def __init__(self, spec: genkit.DataSpec, /) -> None:
        super().__init__(spec)


@pytest.fixture
def registry():
    toys = toy.registry()
    toys.plugins += [A, B]
    for plugin in (A, B):
        Registrar(toys, plugin)("shared", Line)
    Registrar(toys, A)("around", Around)
    Registrar(toys, A)("line_around", LineAround)
    Registrar(toys, A)("shared_optimizer", toy.Momentum)
    Registrar(toys, B)("shared_optimizer", toy.Momentum)
    return toys


def refused(registry, node):
    with pytest.raises(RecipeError) as caught:
        resolve("backbone", node, registry)
    return [problem.path for problem in caught.value.problems if "write dist-a/shared or dist-b/shared" in str(problem)]


@pytest.mark.parametrize(
    ("node", "path"),
    [
        ({"use": "around", "heads": ["shared"]}, "heads.0.use"),
        ({"use": "around", "heads": ["around", "shared"]}, "heads.1.use"),
        ({"use": "around", "heads": ["dist-b/shared", "shared"]}, "heads.1.use"),
        ({"use": "around", "heads": [{"use": "around", "inner": "line"}, "line", "shared"]}, "heads.2.use"),
        ({"use": "around", "named": {"a": "around", "b": "shared"}}, "named.b.use"),
        ({"use": "around", "inner": {"use": "line_around", "inner": "shared"}}, "inner.inner.use"),
        ({"use": "around", "deeper": {"inner": "shared"}}, "deeper.inner.use"),
    ],
)
def test_a_name_that_two_have_is_refused_wherever_it_stands(registry, node, path):
    """What stands before it in a list belongs to somebody, but that one's names are not the recipe's."""
    assert refused(registry, node) == [path]


def test_a_name_after_a_wrong_one_is_still_the_recipes(registry):
    assert refused(registry, {"use": "around", "heads": [{"use": "around", "inner": 7}, "shared"]}) == ["heads.1.use"]


def test_players_optimizers_are_told_apart(registry):
    optimizers = {"a": "dist-a/shared_optimizer", "b": "shared_optimizer"}
    with pytest.raises(RecipeError, match=r"train.optimizers.b.use: .*dist-a/shared_optimizer or dist-b/shared_opt"):
        load_recipe({**RECIPE, "train": {**RECIPE["train"], "optimizers": optimizers}}, registry=registry)


def test_a_default_means_its_owners_own_however_deep(registry):
    plain = resolve("backbone", "around", registry).to_plain()
    own = {"use": "dist-a/shared", "bias": True}
    assert plain["inner"] == own
    assert plain["heads"] == [own]
    assert plain["deeper"] == {"use": "line_around", "inner": {"use": "dist-a/shared", "bias": False}}


def test_a_default_is_written_for_others_to_read(registry):
    written = {name: written_default(option, registry, "dist-a") for name, option in options_of(Around).items()}
    assert written == {
        "inner": {"use": "dist-a/shared"},
        "deeper": {"use": "line_around", "inner": {"use": "dist-a/shared", "bias": False}},
        "heads": [{"use": "dist-a/shared"}],
        "named": None,
    }
    resolved = resolve("backbone", {"use": "around", **written}, registry)
    assert resolved.to_plain() == resolve("backbone", "around", registry).to_plain()


def test_the_schema_writes_defaults_so_too(registry):
    definitions = json_schema(registry, Recipe, [Entry])["$defs"]
    assert definitions["backbone.around"]["properties"]["inner"]["default"] == {"use": "dist-a/shared"}


def test_a_description_writes_defaults_so_too(registry, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    describe_component(registry.get("backbone", "around"), registry)
    assert '{"use": "line_around", "inner": {"use": "dist-a/shared", "bias": false}}' in capsys.readouterr().out


def test_models_that_would_do_are_named_as_recipes_must(registry):
    for plugin in (A, B):
        Registrar(registry, plugin)("able", toy.Denoiser)
    Registrar(registry, A)("unable", Unable)
    recipe = {**RECIPE, "model": "unable", "sampler": "decoded", "evaluate": {}}
    with pytest.raises(RecipeError, match="models that would do: dist-a/able, dist-b/able, denoiser"):
        load_recipe(recipe, registry=registry)


def test_a_default_that_nobody_serves_is_written_as_it_is(registry):
    option = options_of(LineAround)["inner"]
    assert written_default(option, toy.load_registry([]), "dist-a") == {"use": "line"}


def test_a_default_is_no_word_of_the_recipe(registry):
    """That the recipe's own ``shared`` was another's says nothing of the one that a new component stands around."""
    servers = {"dist-b": {"version": "2", "components": {"pb": ["backbone shared"]}}}
    recipe = {**RECIPE, "served_by": servers, "model": {"use": "denoiser", "network": "around"}}
    network = load_recipe(recipe, registry=registry).to_plain()["model"]["network"]
    assert network["inner"]["use"] == "dist-a/shared"
