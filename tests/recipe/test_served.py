"""A resolved recipe says who served it, and is refused where its components would come from others, or from nobody."""

import math
from dataclasses import replace

import pytest
from torch import nn
from toy import RECIPE, registry

import genkit
from genkit.errors import MissingPlugin, PluginError, RecipeError
from genkit.recipe import load_recipe
from genkit.registry import Plugin, Registrar, Registry

THEIRS = Plugin("residual_net", "residual_net", "their-residual", "0.3", "/somewhere/residual_net.py")
OTHERS = Plugin("also", "also", "Other_Residual", "9")


class Residual(genkit.Backbone):
    """A linear map beside another."""

    def __init__(self, in_shape: genkit.Shape, out_shape: genkit.Shape, /) -> None:
        super().__init__()
        self.out_shape = out_shape
        self.linear = nn.Linear(math.prod(in_shape), math.prod(out_shape))

    def forward(self, x, context=None):
        genkit.refuse_context(self, context)
        return self.linear(x.flatten(1)).unflatten(1, self.out_shape)


def with_residual(*plugins: Plugin) -> Registry:
    """The toys' registry with a backbone ``residual`` of each of these."""
    toys = registry()
    for plugin in plugins:
        toys.plugins.append(plugin)
        Registrar(toys, plugin)("residual", Residual)
    return toys


def resolved(*plugins: Plugin, use: str = "residual"):
    recipe = {**RECIPE, "model": {"use": "denoiser", "network": use}}
    return load_recipe(recipe, registry=with_residual(*plugins)).to_plain()


def refusal(plain, *plugins, overrides=()):
    with pytest.raises(MissingPlugin) as caught:
        load_recipe(plain, overrides, registry=with_residual(*plugins))
    assert isinstance(caught.value, PluginError)
    assert isinstance(caught.value, RecipeError)
    assert caught.value.exit_code == 2
    return caught.value


def test_the_record_names_distributions_versions_plugins_and_components():
    record = resolved(THEIRS)["served_by"]
    assert record["their-residual"] == {
        "version": "0.3",
        "components": {"residual_net": ["backbone residual"]},
    }
    assert record["tests"]["components"]["toys"] == [
        *("dataset bits", "evaluator nats", "model denoiser", "objective denoising", "optimizer momentum"),
        *("sampler decoded", "schedule decay"),
    ]


def test_a_recipe_whose_server_is_there_reads_back_the_same():
    plain = resolved(THEIRS)
    assert load_recipe(plain, registry=with_residual(THEIRS)).to_plain() == plain


def test_a_recipe_whose_server_is_gone_is_refused_with_its_name():
    error = refusal(resolved(THEIRS))
    assert str(error) == (
        "model.network.use: this recipe's backbone 'residual' came from their-residual 0.3 (plugin 'residual_net'), "
        "which is not installed; install it from where it came from, or: pip install their-residual==0.3"
    )
    assert (error.plugin, error.distribution, error.version) == ("residual_net", "their-residual", "0.3")


def test_another_distributions_component_is_not_taken_for_it():
    error = refusal(resolved(THEIRS), OTHERS)
    assert str(error).endswith(
        "pip install their-residual==0.3; plugin 'also' of Other_Residual 9 has one too: "
        "write Other_Residual/residual to take that"
    )
    taken = load_recipe(
        resolved(THEIRS), ["model.network.use=other-residual/residual"], registry=with_residual(OTHERS)
    ).to_plain()
    assert set(taken["served_by"]) == {"tests", "Other_Residual"}


def test_the_record_tells_two_of_one_name_apart():
    plain = resolved(THEIRS)
    both = load_recipe(plain, registry=with_residual(OTHERS, THEIRS)).to_plain()
    assert both["model"]["network"] == {"use": "their-residual/residual"}
    assert both["served_by"]["their-residual"]["components"] == {"residual_net": ["backbone their-residual/residual"]}
    alone = load_recipe(both, registry=with_residual(THEIRS)).to_plain()
    assert alone == plain


def test_another_version_of_the_same_distribution_serves_it():
    newer = replace(THEIRS, version="0.4")
    plain = load_recipe(resolved(THEIRS), registry=with_residual(newer)).to_plain()
    assert plain["served_by"]["their-residual"]["version"] == "0.4"


def test_a_version_that_no_longer_offers_it_is_named():
    toys = registry()
    toys.plugins.append(replace(THEIRS, version="0.4"))
    with pytest.raises(MissingPlugin, match=r"residual 0.3 \(plugin .*\), and the their-residual 0.4 that"):
        load_recipe(resolved(THEIRS), registry=toys)


def test_a_plugin_that_was_left_out_is_named():
    toys = registry()
    toys.left_out[THEIRS] = "--no-plugin names it"
    with pytest.raises(MissingPlugin, match="which is not loaded: --no-plugin names it"):
        load_recipe(resolved(THEIRS), registry=toys)


def test_a_plugin_that_no_longer_works_says_why():
    toys = registry()
    toys.plugins.append(replace(THEIRS, version="0.4", error="ImportError: no module named 'gone'"))
    with pytest.raises(MissingPlugin) as caught:
        load_recipe(resolved(THEIRS), registry=toys)
    assert str(caught.value) == (
        "model.network.use: this recipe's backbone 'residual' came from their-residual 0.3 (plugin 'residual_net'); "
        "plugin 'residual_net' of their-residual 0.4 (/somewhere/residual_net.py) does not work: "
        "ImportError: no module named 'gone'; "
        "mend, update or uninstall their-residual, or leave it out with --no-plugin residual_net"
    )


SECOND = replace(THEIRS, name="second")


@pytest.mark.parametrize(
    ("plugins", "left_out", "cause"),
    [
        ([SECOND], [THEIRS], "), which is not loaded: by choice"),
        ([replace(SECOND, error="odd")], [THEIRS], "), which is not loaded: by choice"),
        ([replace(SECOND, error="odd"), THEIRS], [], "), and the their-residual 0.3 that is installed does not"),
        ([replace(SECOND, error="odd")], [], "does not work: odd; mend"),
        ([SECOND], [], "), and the their-residual 0.3 that is installed does not"),
        ([], [SECOND], "), which is not loaded: by choice"),
    ],
    ids=[
        *("left out", "left out beside a broken one", "empty beside a broken one"),
        *("gone beside a broken one", "gone", "gone beside one left out"),
    ],
)
def test_the_cause_is_that_of_the_plugin_that_served_it(plugins, left_out, cause):
    """Other plugins of its distribution only matter where it is no longer there: it may have been renamed."""
    toys = registry()
    toys.plugins += plugins
    toys.left_out |= dict.fromkeys(left_out, "by choice")
    with pytest.raises(MissingPlugin) as caught:
        load_recipe(resolved(THEIRS), registry=toys)
    assert cause in str(caught.value)
    assert caught.value.plugin == "residual_net"


def test_a_distributions_plugins_have_their_own_components():
    toys = with_residual(THEIRS)
    toys.plugins.append(SECOND)
    Registrar(toys, SECOND)("other", Residual)
    plain = load_recipe({**RECIPE, "model": {"use": "denoiser", "network": "other"}}, registry=toys).to_plain()
    assert plain["served_by"]["their-residual"]["components"] == {"second": ["backbone other"]}


def test_a_component_that_an_override_replaces_is_not_missed():
    plain = load_recipe(resolved(THEIRS), ["model.network=line"], registry=registry()).to_plain()
    assert set(plain["served_by"]) == {"tests"}


def test_what_else_is_wrong_is_told_at_once():
    error = refusal(resolved(THEIRS), overrides=["train.epochs=0"])
    assert [problem.path for problem in error.problems] == ["model.network.use", "train.epochs"]


@pytest.mark.parametrize("record", [7, {"a": 7}, {"a": {"components": "backbone residual"}}, {"a": {"componets": {}}}])
def test_a_record_that_is_none_is_a_problem_of_its_own(record):
    with pytest.raises(RecipeError) as caught:
        load_recipe({**RECIPE, "served_by": record}, registry=registry())
    assert not isinstance(caught.value, MissingPlugin)
    assert {problem.path.partition(".")[0] for problem in caught.value.problems} == {"served_by"}


def test_an_unknown_component_that_nobody_served_is_only_unknown():
    with pytest.raises(RecipeError, match="no backbone is called 'residual'") as caught:
        resolved()
    assert not isinstance(caught.value, MissingPlugin)
