"""Checking recipes: every problem at once, each with its place, what was given and what would have been right.

The components are this file's own, so that no plugin is needed; only the last section reads ``recipes/``.
"""

import enum
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pluggy
import pytest
import toy
import yaml
from pydantic import Field, PositiveInt
from torch import nn

import genkit
from genkit import Backbone, Dataset, DataSpec, Evaluator, Factory, GenerativeModel, Objective, Sampler, Samples, use
from genkit.engine.assembly import build_parts, dry_build
from genkit.engine.folder import recipe_text
from genkit.errors import PluginError, RecipeError
from genkit.model import Capability
from genkit.optimizer import Optimizer, Schedule
from genkit.recipe import Entry, Recipe, load_recipe
from genkit.recipe.check import resolve
from genkit.recipe.schema import json_schema, options_of, type_text
from genkit.registry import Plugin, Registrar, Registration, Registry

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))


# ---- components of this file's own -------------------------------------------------------------------------------


class Dots(Dataset):
    """Two-dimensional dots.

    Args:
        count: How many.
        noise: Their spread.
    """

    def __init__(self, *, count: PositiveInt = 4, noise: Annotated[float, Field(ge=0)] = 0.1) -> None:
        if count % 2:
            raise ValueError(f"count is {count}, but dots come in pairs")

    @property
    def spec(self):
        return DataSpec((2,))

    def split(self, name):
        return None


class Plain(Backbone):
    """A linear map."""

    def __init__(self, in_shape, out_shape, /, *, widths: Sequence[PositiveInt] = (8,), bias: bool = True) -> None:
        super().__init__()
        self.map = nn.Linear(in_shape[0], out_shape[0], bias)

    def forward(self, x, context=None):
        return self.map(x)


class Wrapped(Backbone):
    """A backbone around others.

    Args:
        inner: The one inside.
        heads: Others.
    """

    def __init__(
        self,
        in_shape,
        out_shape,
        /,
        *,
        inner: Factory[Backbone] = use("plain", widths=[3]),
        heads: Sequence[Factory[Backbone]] = (),
        named: Mapping[str, Factory[Backbone]] | None = None,
    ) -> None:
        super().__init__()
        self.inner = inner(in_shape, out_shape)

    def forward(self, x, context=None):
        return self.inner(x, context)


class Colours(Capability):
    """Can name colours."""


class Sings(Capability):
    """Can sing."""


class Toy(GenerativeModel, Colours):
    """A model that can name colours.

    Args:
        size: How large,
            in pixels.
    """

    def __init__(
        self, spec, /, *, size: PositiveInt, net: Factory[Backbone] = use("plain"), mode: Literal["a", "bb"] = "a"
    ) -> None:
        super().__init__(spec)
        self.net = net(spec.shape, (size,))


class Singer(GenerativeModel, Sings, Colours):
    """A model that can do both."""

    def __init__(self, spec, /) -> None:
        super().__init__(spec)


class Choir(Objective):
    """An objective for singers."""

    requires = (Sings, Colours)

    def __init__(self, model, /) -> None:
        super().__init__()

    def players(self, model):
        return {"model": list(model.parameters())}

    def turns(self, model):
        return []


class Painting(Choir):
    """An objective for those who know colours."""

    requires = (Colours,)


class Draw(Sampler):
    """A sampler of any model."""

    def __init__(self, model, objective, /, *, temperature: Annotated[float, Field(gt=0)] = 1.0) -> None: ...

    def sample(self, num_samples, context=None):
        return Samples(None)


class Opera(Draw):
    """A sampler of singers."""

    requires = (Sings,)


class Score(Evaluator):
    """An evaluator of any model."""

    def __init__(self, model, /, *, num_samples: PositiveInt = 1, splits: Sequence[Literal["test"]] = ()) -> None: ...

    def evaluate(self, subject, split):
        return []


class Concert(Score):
    """An evaluator of singers."""

    requires = (Sings,)


class Steps(Optimizer):
    """An optimizer."""

    def __init__(self, *, lr: Annotated[float, Field(gt=0)] = 1e-3) -> None: ...

    def build(self, parameters): ...


class Level(Schedule):
    """A schedule."""

    def __init__(self) -> None: ...

    def factor(self, epoch, total_epochs):
        return 1.0


COMPONENTS = {
    "dots": Dots,
    "plain": Plain,
    "wrapped": Wrapped,
    "toy": Toy,
    "singer": Singer,
    "choir": Choir,
    "painting": Painting,
    "draw": Draw,
    "prior": Draw,  # the default sampler's name
    "opera": Opera,
    "score": Score,
    "concert": Concert,
    "adam": Steps,  # the default optimizer's and schedule's names
    "constant": Level,
}
PLUGIN = Plugin("own", __name__, "own-distribution", "1.0")


@pytest.fixture
def registry():
    own = Registry(pluggy.PluginManager("genkit"), [PLUGIN])
    for name, cls in COMPONENTS.items():
        Registrar(own, PLUGIN)(name, cls)
    return own


BASE = """\
seed: 1
data: {use: dots}
model:
  use: toy
  size: 4
  net: {use: plain, widths: [8, 8]}
objective: painting
train: {epochs: 2, optimizer: adam}
evaluate:
  score: {use: score, every: 1}
"""


@pytest.fixture
def check(registry, tmp_path, monkeypatch):
    """Checks ``BASE`` with overrides, or another text."""
    monkeypatch.chdir(tmp_path)

    def checked(*overrides, text=BASE):
        Path("r.yaml").write_text(text)
        return load_recipe("r.yaml", overrides, registry)

    return checked


@pytest.fixture
def refused(check):
    """The problems, as lines, of a recipe that must be refused."""

    def lines(*overrides, text=BASE):
        with pytest.raises(RecipeError) as caught:
            check(*overrides, text=text)
        assert caught.value.exit_code == 2
        return [str(problem) for problem in caught.value.problems]

    return lines


# ---- one problem -------------------------------------------------------------------------------------------------

TOP_KEYS = "data, evaluate, model, objective, published, sampler, seed, served_by, train"


@pytest.mark.parametrize(
    ("override", "path", "message"),
    [
        ("tarin=1", "tarin", f"there is no such key; did you mean 'train'? (allowed: {TOP_KEYS})"),
        ("qq=1", "qq", f"there is no such key (allowed: {TOP_KEYS})"),
        ("model.sise=1", "model.sise", "there is no such key; did you mean 'size'? (allowed: mode, net, size)"),
        ("model.net.bais=true", "model.net.bais", "there is no such key; did you mean 'bias'? (allowed: bias, widths)"),
        ("objective.x=1", "objective.x", "there is no such key"),
        ("train.epochs='80'", "train.epochs", "should be a valid integer, '80' given"),
        ("train.epochs=true", "train.epochs", "should be a valid integer, True given"),
        ("train.epochs=1.0", "train.epochs", "should be a valid integer, 1.0 given"),
        ("train.epochs=-1", "train.epochs", "should be greater than 0, -1 given"),
        ("train.epochs=0", "train.epochs", "should be greater than 0, 0 given"),
        ("train.drop_last=1", "train.drop_last", "should be a valid boolean, 1 given"),
        ("train.drop_last=yes", "train.drop_last", "should be a valid boolean, 'yes' given"),
        ("train.optimizer.lr=true", "train.optimizer.lr", "should be a valid number, True given"),
        ("train.optimizer.lr='1'", "train.optimizer.lr", "should be a valid number, '1' given"),
        ("train.optimizer.lr=.nan", "train.optimizer.lr", "should be a finite number, nan given"),
        ("train.optimizer.lr=.inf", "train.optimizer.lr", "should be a finite number, inf given"),
        ("train.optimizer.lr=1e999", "train.optimizer.lr", "should be a finite number, inf given"),
        ("train.optimizer.lr=-1e-3", "train.optimizer.lr", "should be greater than 0, -0.001 given"),
        ("data.noise=-.inf", "data.noise", "should be a finite number, -inf given"),
        ("train.ema=1", "train.ema", "should be less than 1, 1 given"),
        ("train=5", "train", "a mapping of keys is wanted, 5 given"),
        ("seed=-1", "seed", "should be greater than or equal to 0, -1 given"),
        (
            "train.precision=bf61",
            "train.precision",
            "should be 'fp32', 'tf32' or 'bf16', 'bf61' given; did you mean 'bf16'?",
        ),
        ("model.mode=b", "model.mode", "should be 'a' or 'bb', 'b' given; did you mean 'bb'?"),
        ("model.size='4'", "model.size", "should be a valid integer, '4' given"),
        ("model.net.widths.1=0", "model.net.widths.1", "should be greater than 0, 0 given"),
        ("model.net.widths=[8, x]", "model.net.widths.1", "should be a valid integer, 'x' given"),
        ("model=tyo", "model.use", "no model is called 'tyo'; did you mean 'toy'? (allowed: singer, toy)"),
        (
            "train.optimizer=adma",
            "train.optimizer.use",
            "no optimizer is called 'adma'; did you mean 'adam'? (allowed: adam)",
        ),
        (
            "model.net=plian",
            "model.net.use",
            "no backbone is called 'plian'; did you mean 'plain'? (allowed: plain, wrapped)",
        ),
        ("model.net=toy", "model.net.use", "no backbone is called 'toy' (allowed: plain, wrapped)"),
        ("model=7", "model", "the name of a component of kind model is wanted, or {use: name, ...}; 7 given"),
        (
            "model={size: 4}",
            "model",
            "the name of a component of kind model is wanted, or {use: name, ...}; {'size': 4} given",
        ),
        ("evaluate.score.every=0", "evaluate.score.every", "should be greater than 0, 0 given"),
        ("evaluate.score.at=[0, -1]", "evaluate.score.at.1", "should be greater than or equal to 0, -1 given"),
        (
            "evaluate.score.splits=[tset]",
            "evaluate.score.splits.0",
            "should be 'test', 'tset' given; did you mean 'test'?",
        ),
        ("evaluate=[score]", "evaluate", "should be an object, ['score'] given"),
        (
            "evaluate.other=scoer",
            "evaluate.other.use",
            "no evaluator is called 'scoer'; did you mean 'score'? (allowed: concert, score)",
        ),
        ("evaluate.a/b=score", "evaluate.a/b", "String should match pattern '^[A-Za-z0-9][\\w.-]*$', 'a/b' given"),
        (
            "train.best=scoer",
            "train.best",
            "no evaluator goes by 'scoer'; did you mean 'score'? (allowed: auto, none, score)",
        ),
        (
            "train.clip_norm=-1",
            "train.clip_norm",
            "should be greater than 0, -1 given or should be an object, -1 given",
        ),
        (
            "train.optimizers={critic: adma}",
            "train.optimizers.critic.use",
            "no optimizer is called 'adma'; did you mean 'adam'? (allowed: adam)",
        ),
    ],
)
def test_one_problem_in_an_override(refused, override, path, message):
    assert refused(override) == [f"command line {override}: {path}: {message}"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 1", "seed: '1'", "r.yaml:1: seed: should be a valid integer, '1' given"),
        ("size: 4", "size: .nan", "r.yaml:5: model.size: should be a valid integer, nan given"),
        ("{use: plain, widths: [8, 8]}", "{use: mlp}", "r.yaml:6: model.net.use: no backbone is called 'mlp'"),
        ("  size: 4\n", "", "r.yaml:3: model.size: this key is missing: int > 0. How large, in pixels."),
        ("objective: painting\n", "", "r.yaml: objective: this key is missing: objective. What is minimized."),
        ("data: {use: dots}\n", "", "r.yaml: data: this key is missing: dataset. The dataset."),
        ("{epochs: 2,", "{epohcs: 2,", "r.yaml:8: train.epohcs: there is no such key; did you mean 'epochs'?"),
    ],
)
def test_one_problem_in_a_file(refused, old, new, message):
    (line,) = refused(text=BASE.replace(old, new))
    assert line.partition(" (allowed")[0] == message


@pytest.mark.parametrize("depth", [1, 4])
def test_nested_components_are_checked_through_many_levels(refused, depth):
    node = "{use: plain, bais: true}"
    for _ in range(depth):
        node = f"{{use: wrapped, inner: {node}}}"
    path = f"model.net{'.inner' * depth}.bais"
    assert refused(text=BASE.replace("{use: plain, widths: [8, 8]}", node)) == [
        f"r.yaml:6: {path}: there is no such key; did you mean 'bias'? (allowed: bias, widths)"
    ]


@pytest.mark.parametrize(
    ("option", "path"),
    [("heads: [plain, {use: plain, bias: 1}]", "heads.1"), ("named: {k: {use: plain, bias: 1}}", "named.k")],
)
def test_components_in_lists_and_mappings_are_checked(refused, option, path):
    text = BASE.replace("{use: plain, widths: [8, 8]}", f"{{use: wrapped, {option}}}")
    assert refused(text=text) == [f"r.yaml:6: model.net.{path}.bias: should be a valid boolean, 1 given"]


def test_all_problems_come_in_one_report(refused, check):
    text = """\
sede: 1
data:
  use: dots
  count: two
model:
  use: toy
  mode: c
  net:
    use: wrapped
    inner:
      use: plain
      widths: [8, no]
objective: choirr
train:
  epochs: -2
  optimizer: {use: adam, lr: .inf}
evaluate:
  a: {use: score, every: 1, num_samples: 0}
  b: nothing
"""
    lines = refused("sampler=darw", text=text)
    assert lines == [
        f"r.yaml:1: sede: there is no such key; did you mean 'seed'? (allowed: {TOP_KEYS})",
        "r.yaml:4: data.count: should be a valid integer, 'two' given",
        "r.yaml:5: model.size: this key is missing: int > 0. How large, in pixels.",
        "r.yaml:12: model.net.inner.widths.1: should be a valid integer, 'no' given",
        "r.yaml:7: model.mode: should be 'a' or 'bb', 'c' given",
        "r.yaml:13: objective.use: no objective is called 'choirr'; did you mean 'choir'? (allowed: choir, painting)",
        "command line sampler=darw: sampler.use: no sampler is called 'darw'; did you mean 'draw'? "
        "(allowed: draw, opera, prior)",
        "r.yaml:15: train.epochs: should be greater than 0, -2 given",
        "r.yaml:16: train.optimizer.lr: should be a finite number, inf given",
        "r.yaml:18: evaluate.a.num_samples: should be greater than 0, 0 given",
        "r.yaml:19: evaluate.b.use: no evaluator is called 'nothing' (allowed: concert, score)",
    ]
    with pytest.raises(RecipeError) as caught:
        check("sampler=darw", text=text)
    assert str(caught.value).splitlines() == ["11 problems in the recipe", *(f"  {line}" for line in lines)]


def test_a_problem_of_a_parent_stands_in_the_parent(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("parent.yaml").write_text(BASE.replace("size: 4", "size: 0"))
    Path("child.yaml").write_text("extends: parent.yaml\nmodel: {mode: c}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe("child.yaml", (), registry)
    assert [str(problem) for problem in caught.value.problems] == [
        "parent.yaml:5: model.size: should be greater than 0, 0 given",
        "child.yaml:2: model.mode: should be 'a' or 'bb', 'c' given",
    ]


def test_a_misspelt_cadence_is_told_of_the_cadence(refused):
    (line,) = refused("evaluate.score.evrey=1")
    assert "did you mean 'every'?" in line
    assert "(allowed: at, every, num_samples, splits)" in line


@pytest.mark.parametrize("entry", [{"evaluator": "score"}, {"use": "nothing", "evaluator": "score"}])
def test_an_entry_has_no_key_called_evaluator(registry, entry):
    with pytest.raises(RecipeError):
        load_recipe({**yaml.safe_load(BASE), "evaluate": {"score": entry}}, (), registry)


@pytest.mark.parametrize(
    ("override", "component"),
    [
        ("sampler.temperature=0.5", {"use": "prior", "temperature": 0.5}),
        ("train.optimizer.lr=1e-2", {"use": "adam", "lr": 0.01}),
    ],
)
def test_an_option_of_a_default_component_can_be_set(check, override, component):
    plain = check(override, text=BASE.replace(", optimizer: adam", "")).to_plain()
    assert component in (plain["sampler"], plain["train"]["optimizer"])


def test_options_of_a_default_component_are_laid_over_its_own(registry):
    node = resolve("backbone", {"use": "wrapped", "inner": {"bias": False}}, registry).to_plain()
    assert node["inner"] == {"use": "plain", "widths": [3], "bias": False}


def test_one_wrong_value_is_one_problem(refused):
    assert refused("train.clip_norm={model: x}") == [
        "command line train.clip_norm={model: x}: train.clip_norm.model: should be a valid number, 'x' given"
    ]


@pytest.mark.parametrize(
    "value",
    [
        Path("x"),
        {1, 2},
        object(),
        2**70,
    ],
)
def test_values_from_python_that_no_recipe_can_hold_are_problems(registry, value):
    with pytest.raises(RecipeError, match=r"^seed: "):
        load_recipe({**yaml.safe_load(BASE), "seed": value}, (), registry)


def test_a_key_of_digits_stands_on_the_command_line(refused):
    assert refused("5=3") == [f"command line 5=3: 5: there is no such key (allowed: {TOP_KEYS})"]


# ---- what fits together ------------------------------------------------------------------------------------------

SINGER_WANTED = "needs a model with Sings, which toy has not; models that would do: singer"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective=choir", f"objective: choir {SINGER_WANTED}"),
        ("sampler=opera", f"sampler: opera {SINGER_WANTED}"),
        (
            "evaluate.show=concert",
            f"evaluate.show: concert {SINGER_WANTED}",
        ),
    ],
)
def test_what_the_model_cannot_do_is_refused(refused, override, message):
    assert refused(override) == [f"command line {override}: {message}"]


def test_all_mismatches_come_in_one_report(refused):
    lines = refused("evaluate.show=concert", "train.best=shwo", text=BASE.replace("painting", "choir"))
    assert [line.split(": ")[1] for line in lines] == ["objective", "evaluate.show", "train.best"]
    assert lines[0].startswith("r.yaml:7: objective: choir needs a model with Sings, which toy has not")


@pytest.mark.parametrize("broken", [False, True])
def test_where_no_model_would_do_the_message_says_so(refused, registry, broken):
    """A model that cannot be loaded is no help either, and no reason to fail."""
    del registry._components["model", "singer"]
    if broken:
        registry.add(Registration("model", "ghost", "no_such_module:Ghost", PLUGIN))
    assert refused("objective=choir") == [
        "command line objective=choir: objective: choir needs a model with Sings, which toy has not; "
        "no installed model would do"
    ]


@pytest.mark.parametrize("best", ["auto", "none", "score"])
def test_best_is_an_entry_or_a_rule(check, best):
    assert check(f"train.best={best}").train.best == best


def test_an_evaluator_is_taken_away_by_null(check):
    recipe = check("evaluate.score=null", "evaluate.other=concert", "model=singer")
    assert list(recipe.evaluate) == ["other"]
    assert check("evaluate=null").evaluate == {}


def test_a_key_taken_away_by_null_is_missing(refused, check):
    assert refused("model=null") == [
        "command line model=null: model: this key is missing: model. The generative model."
    ]
    assert check("train=null", "seed=null", "model.net=null").to_plain()["seed"] == 0


def test_a_seed_that_no_machine_holds_is_refused(refused):
    seed = 99999999999999999999999
    assert refused(f"seed={seed}") == [f"command line seed={seed}: '{seed}' is no int that can be used"]
    text = BASE.replace("seed: 1", f"seed: {seed}")
    assert refused(text=text) == [f"r.yaml:1: seed: '{seed}' is no int that can be used"]


def test_a_file_takes_an_evaluator_away_by_null(check):
    assert check(text=BASE.replace("{use: score, every: 1}", "null")).evaluate == {}


@pytest.mark.parametrize(
    ("cadence", "due"),
    [("", [5]), (", every: 2", [0, 2, 4]), (", at: [0, 3]", [0, 3]), (", every: 4, at: [1]", [0, 1, 4])],
)
def test_cadence(check, cadence, due):
    entry = check(text=BASE.replace(", every: 1", cadence)).evaluate["score"]
    assert [epoch for epoch in range(6) if entry.due(epoch, 5)] == due


@pytest.mark.parametrize("where", ["r.yaml:2", "command line data={use: dots, count: 3}"])
def test_a_component_that_refuses_its_options_is_located(check, where):
    """Where the component stands: which of its options are at fault, only the component knows."""
    override = where.partition("line ")[2]
    recipe = check(override) if override else check(text=BASE.replace("{use: dots}", "{use: dots, count: 3}"))
    with pytest.raises(RecipeError) as caught:
        dry_build(recipe)
    assert str(caught.value) == f"{where}: data: dots: count is 3, but dots come in pairs"


def test_a_component_that_cannot_be_loaded_is_a_problem_with_its_plugin(refused, registry):
    registry.add(Registration("backbone", "ghost", "no_such_module:Ghost", PLUGIN))
    (line,) = refused("model.net=ghost")
    assert line.startswith(
        "command line model.net=ghost: model.net.use: plugin 'own' of own-distribution 1.0 (test_check) has a backbone "
        "'ghost' (no_such_module:Ghost) that cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"
    )


def test_resolve_checks_one_component(registry):
    assert resolve("backbone", {"use": "plain"}, registry).to_plain() == {"use": "plain", "widths": [8], "bias": True}
    with pytest.raises(RecipeError) as caught:
        resolve("backbone", {"use": "plain", "bais": 1}, registry)
    assert str(caught.value) == "bais: there is no such key; did you mean 'bias'? (allowed: bias, widths)"


# ---- the resolved recipe -----------------------------------------------------------------------------------------


def round_trip(recipe, registry):
    plain = recipe.to_plain()
    assert load_recipe(plain, (), registry).to_plain() == plain
    return plain


def test_the_resolved_recipe_spells_every_default_out(check, registry):
    assert round_trip(check(), registry) == {
        "seed": 1,
        "data": {"use": "dots", "count": 4, "noise": 0.1},
        "model": {"use": "toy", "size": 4, "net": {"use": "plain", "widths": [8, 8], "bias": True}, "mode": "a"},
        "objective": {"use": "painting"},
        "sampler": {"use": "prior", "temperature": 1.0},
        "train": {
            "epochs": 2,
            "batch_size": 128,
            "optimizer": {"use": "adam", "lr": 0.001},
            "optimizers": {},
            "schedule": {"use": "constant"},
            "clip_norm": None,
            "accumulate": 1,
            "ema": None,
            "precision": "fp32",
            "strategy": "ddp",
            "cuda_graph": "auto",
            "channels_last": "auto",
            "compile": False,
            "drop_last": False,
            "log_every": 50,
            "checkpoint_every": 1,
            "keep": {"last": 1, "best": 1, "every": None},
            "best": "auto",
            "on_nan": "stop",
            "eval_batch_size": 500,
            "workers": None,
            "cache": "auto",
        },
        "evaluate": {"score": {"use": "score", "num_samples": 1, "splits": [], "every": 1}},
        "served_by": {
            "own-distribution": {
                "version": "1.0",
                "components": {
                    "own": [
                        *("backbone plain", "dataset dots", "evaluator score", "model toy", "objective painting"),
                        *("optimizer adam", "sampler prior", "schedule constant"),
                    ]
                },
            }
        },
    }


@pytest.mark.parametrize(
    "override",
    [
        "train.clip_norm=1",
        "train.clip_norm={model: 0.5}",
        "train.optimizers={model: {use: adam, lr: 0.5}}",
        "model.net={use: wrapped, heads: [plain, {use: wrapped}], named: {k: plain}}",
        "evaluate.x={use: score, at: [0, 5]}",
        "evaluate.x=score",
        f"seed={2**63 - 1}",
        "train.optimizer.lr=1e-17",
    ],
)
def test_a_resolved_recipe_reads_back_equal(check, registry, tmp_path, override):
    recipe = check(override, text=BASE + "  a.b-c_1: score\n")
    plain = round_trip(recipe, registry)
    (tmp_path / "resolved.yaml").write_text(recipe_text(recipe))
    assert load_recipe(tmp_path / "resolved.yaml", (), registry).to_plain() == plain


@pytest.mark.parametrize("name", ["08", "1e5", "3e-4"])
def test_a_word_that_looks_like_a_number_reads_back_equal(check, registry, tmp_path, name):
    recipe = check(f"train.best='{name}'", text=BASE + f"  '{name}': score\n")
    (tmp_path / "resolved.yaml").write_text(recipe_text(recipe))
    assert load_recipe(tmp_path / "resolved.yaml", (), registry).to_plain() == recipe.to_plain()


def test_factories_and_sections_are_taken_from_python(registry, check):
    recipe = check()
    given = {**yaml.safe_load(BASE), "train": recipe.train, "model": use("toy", size=4)}
    assert load_recipe(given, (), registry).train.to_plain() == recipe.train.to_plain()


# ---- reading constructors ----------------------------------------------------------------------------------------


def test_options_are_the_keyword_only_parameters():
    options = options_of(Toy)
    assert list(options) == ["size", "net", "mode"]
    assert [option.required for option in options.values()] == [True, False, False]
    assert options["size"].description == "How large, in pixels."


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (PositiveInt, "int > 0"),
        (Annotated[float, Field(ge=0, lt=1)], "float >= 0, < 1"),
        (Literal["a", 3], "a | 3"),
        (int | None, "int or null"),
        (Sequence[str], "list of str"),
        (Mapping[str, int], "mapping of str to int"),
        (Factory[Backbone], "backbone"),
        (Sequence[Factory[Backbone]], "list of backbone"),
    ],
)
def test_types_in_words(annotation, text):
    assert type_text(annotation) == text


def test_an_option_that_no_recipe_can_write_is_the_plugins_error():
    class Odd(Schedule):
        def __init__(self, *, callback: nn.Module) -> None: ...

    with pytest.raises(PluginError, match=r"Odd: option 'callback' has type .*, which no recipe can write"):
        options_of(Odd)


def test_an_annotation_that_is_not_there_is_the_plugins_error():
    class Odd(Schedule):
        def __init__(self, *, size: "Missing") -> None: ...  # noqa: F821

    with pytest.raises(PluginError, match=r"Odd: name 'Missing' is not defined; .* outside TYPE_CHECKING"):
        options_of(Odd)


class Shade(enum.Enum):
    """A type that is no recipe's."""

    DARK = 1


@pytest.mark.parametrize(
    ("annotation", "default", "message"),
    [
        ("nn.NoSuch", 1, r"the type of option 'size', 'nn.NoSuch', cannot be read: AttributeError: .*NoSuch"),
        ("1 +", 1, r"the type of option 'size', '1 \+', cannot be read: SyntaxError"),
        (Factory[int], None, "the type of option 'size', .*Factory.*such as Factory.Backbone.; int is none"),
        (Factory[genkit.Component], None, "such as Factory.Backbone.; Component is none"),
        (Factory, None, "such as Factory.Backbone.; nothing is none"),
        (Path, Path("x"), "option 'size' has type .*Path.*, which no recipe can write; use finite numbers"),
        (Sequence[Path], (), "option 'size' has type .*Path.*, which no recipe can write"),
        (Annotated[Path | None, Field()], None, "option 'size' has type .*Path.*, which no recipe can write"),
        (set[int], {1}, r"option 'size' has type set\[int\], which no recipe can write"),
        (Shade, Shade.DARK, "option 'size' has type .*Shade.*, which no recipe can write"),
        (Toy | None, None, "option 'size' has type .*Toy.*, which no recipe can write; .* or Factory"),
        (int, Shade.DARK, "option 'size' has the default <Shade.DARK: 1>, which no recipe can hold; use finite"),
        (float, float("inf"), "option 'size' has the default inf, which no recipe can hold"),
        (Sequence[str], [Path("x")], "option 'size' has the default .*, which no recipe can hold"),
    ],
)
def test_a_schema_that_none_is_names_plugin_class_and_option(registry, annotation, default, message):
    class Odd(Backbone):
        def __init__(self, in_shape, out_shape, /, *, before: int = 1, size: annotation = default) -> None: ...

        def forward(self, x, context=None): ...

    Odd.__qualname__ = "Odd"
    Odd.__init__.__annotations__["size"] = annotation
    Registrar(registry, PLUGIN)("odd", Odd)
    globals()["Odd"] = Odd
    try:
        with pytest.raises(PluginError, match=rf"{__name__}.Odd: .*{message}"):
            options_of(Odd)
        with pytest.raises(RecipeError, match=r"use: plugin 'own' of own-distribution 1.0 .*has a backbone 'odd' \("):
            resolve("backbone", "odd", registry)
    finally:
        del globals()["Odd"]


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (Sequence[int | None], (1, None)),
        (tuple[int, ...], (1,)),
        (Mapping[str, Sequence[float]], {}),
        (list, []),
        (Any, None),
        (object, 1),
        (Literal["a", 3] | None, "a"),
        (Annotated[float, Field(ge=0)], 0.5),
        (Mapping[str, Factory[Backbone]], {"a": use("plain")}),
    ],
)
def test_what_a_recipe_can_write_is_taken(annotation, default):
    class Fine(Schedule):
        def __init__(self, *, size: annotation = default) -> None: ...

    assert options_of(Fine)["size"].default == default


# ---- another's kind of the same name -----------------------------------------------------------------------------


class FalseBackbone(genkit.Component, kind="backbone"):
    """Abstract class of a kind whose name is taken."""


class Fake(FalseBackbone):
    """No backbone."""


class FalseModel(genkit.Component, kind="model"):
    """Abstract class of another kind whose name is taken."""


class FakeModel(FalseModel):
    """No model."""


@pytest.mark.parametrize(
    ("override", "place", "wanted"),
    [
        ("model.net=fake", "model.net.use", "genkit.backbone.Backbone"),
        ("model.net={use: wrapped, heads: [plain, fake]}", "model.net.heads.1.use", "genkit.backbone.Backbone"),
        ("model={use: fake_model}", "model.use", "genkit.model.GenerativeModel"),
    ],
)
def test_a_kind_that_is_only_called_so_is_refused(registry, refused, override, place, wanted):
    Registrar(registry, PLUGIN)("fake", Fake)
    Registrar(registry, PLUGIN)("fake_model", FakeModel)
    text = BASE.replace("  size: 4\n  net: {use: plain, widths: [8, 8]}\n", "") if "fake_model" in override else BASE
    (problem,) = refused(override, text=text)
    assert problem.startswith(f"command line {override}: {place}: plugin 'own' of own-distribution 1.0 ")
    assert f"that does not inherit {wanted}, as it must here" in problem


def test_a_component_of_a_factorys_own_class_is_taken(registry):
    class Picky(Plain):
        def __init__(self, in_shape, out_shape, /, *, inner: Factory[Wrapped] = use("wrapped")) -> None: ...

    Picky.__qualname__ = "Picky"
    Registrar(registry, PLUGIN)("picky", Picky)
    globals()["Picky"] = Picky
    try:
        assert resolve("backbone", "picky", registry).options["inner"].resolved is Wrapped
        with pytest.raises(RecipeError, match=rf"inner.use: .*that does not inherit {__name__}.Wrapped"):
            resolve("backbone", {"use": "picky", "inner": "plain"}, registry)
    finally:
        del globals()["Picky"]


# ---- the JSON Schema ---------------------------------------------------------------------------------------------


@pytest.fixture
def schema(registry):
    return json.loads(json.dumps(json_schema(registry, Recipe, [Entry])))


def test_every_component_is_in_the_schema(schema, registry):
    definitions = schema["$defs"]
    for kind in registry.kinds():
        names, *alternatives = definitions[kind]["anyOf"]
        assert names == {"enum": registry.names(kind)}
        assert alternatives == [{"$ref": f"#/$defs/{kind}.{name}"} for name in registry.names(kind)]
    for registration in registry.components():
        component = definitions[f"{registration.kind}.{registration.name}"]
        options = options_of(registration.load())
        assert component["properties"]["use"] == {"const": registration.name}
        beside = {"every", "at"} if registration.kind == "evaluator" else set()
        assert set(component["properties"]) == {"use", *options} | beside
        assert component["additionalProperties"] is False
        assert component["description"] == registration.summary


def test_every_reference_of_the_schema_leads_somewhere(schema):
    def references(node):
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(schema))
    assert {reference.removeprefix("#/$defs/") for reference in found} == set(schema["$defs"])


def test_what_cannot_be_loaded_is_left_out_of_the_schema(registry, schema):
    lost = Registration("backbone", "lost", "gone:Lost", PLUGIN)
    registry.add(lost)
    registry.add(Registration("kernel", "lost", "gone:Kernel", PLUGIN))
    with pytest.warns(UserWarning, match=r"the schema does not know (backbone|kernel) 'lost': plugin 'own' of") as told:
        without = json.loads(json.dumps(json_schema(registry, Recipe, [Entry])))
    assert len(told) == 2
    assert without["$defs"].pop("kernel") == {"anyOf": [{"enum": []}]}  # what refers to it still leads somewhere
    assert without == schema


def test_the_schema_requires_no_key(schema):
    """A recipe may take any key from the one that it extends."""
    assert '"required"' not in json.dumps(schema)


def test_the_schema_knows_the_recipes_own_keys(schema):
    assert set(schema["properties"]) == {*TOP_KEYS.split(", "), "extends"}
    assert schema["additionalProperties"] is False
    assert schema["properties"]["model"] == {"$ref": "#/$defs/model", "description": "The generative model."}
    assert schema["properties"]["seed"]["minimum"] == 0
    assert schema["properties"]["sampler"]["default"] == {"use": "prior"}
    toy = schema["$defs"]["model.toy"]["properties"]
    assert toy["size"] == {"exclusiveMinimum": 0, "type": "integer", "description": "How large, in pixels."}
    assert toy["mode"] == {"enum": ["a", "bb"], "type": "string", "default": "a"}


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"model": "toy"}, True),
        ({"model": {"use": "toy", "sise": 4}}, False),
        ({"model": {"use": "tyo"}}, False),
        ({"tarin": {}}, False),
        ({"train": {"epochs": "80"}}, False),
        ({"train": {"optimizer": {"use": "adam", "lr": 1}}}, True),
        ({"model": {"size": 8}}, True),
        ({"model": {"net": {"widths": [8]}}}, True),
        ({"evaluate": {"score": None}}, True),
        ({"evaluate": {"score": {"use": "score", "every": 1, "num_samples": 2}}}, True),
        ({"evaluate": {"score": {"use": "score", "evrey": 1}}}, False),
        ({"evaluate": {"score": "scoer"}}, False),
    ],
)
def test_the_schema_judges_as_the_checker_does(schema, change, valid):
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({**yaml.safe_load(BASE), **change}) is valid


def test_an_entry_is_an_evaluator_with_its_cadence_or_null(schema):
    entries = schema["properties"]["evaluate"]
    assert entries["additionalProperties"] == {"anyOf": [{"$ref": "#/$defs/evaluator"}, {"type": "null"}]}
    properties = schema["$defs"]["evaluator.score"]["properties"]
    assert properties["every"]["anyOf"] == [{"exclusiveMinimum": 0, "type": "integer"}, {"type": "null"}]
    assert properties["at"]["anyOf"][0] == {"items": {"minimum": 0, "type": "integer"}, "type": "array"}


def test_a_dry_build_needs_no_memory_and_no_data(check):
    parts = dry_build(check("model.size=1000000000000"))
    assert parts.model.net.map.weight.shape == (10**12, 2)


def test_a_build_leaves_torchs_random_numbers_alone(check):
    import torch

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = build_parts(check(), Dots(), torch.device("cpu"))
    assert torch.equal(torch.rand(2), expected)
    second = build_parts(check(), Dots(), torch.device("cpu"))
    other = build_parts(check("seed=2"), Dots(), torch.device("cpu"))
    assert torch.equal(first.model.net.map.weight, second.model.net.map.weight)
    assert not torch.equal(first.model.net.map.weight, other.model.net.map.weight)


def test_the_face_has_the_recipe():
    assert genkit.Recipe is Recipe


class Both(Objective):
    """Two objectives."""

    def __init__(self, model: GenerativeModel, /, *, parts: Sequence[Factory[Objective]]) -> None: ...

    def players(self, model): ...

    def turns(self, model): ...


class Modest(GenerativeModel, genkit.Decodes):
    """Decodes, and no more."""

    def __init__(self, spec: DataSpec, /) -> None: ...

    latent_shape = (1,)

    def sample_latent(self, num_samples, context=None, temperature=1.0): ...

    def decode(self, z, context=None): ...


def test_objectives_within_an_objective_are_asked_what_they_need():
    toys = toy.registry()
    register = Registrar(toys, Plugin("more", "more", "tests", "0"))
    register("both", Both)
    register("modest", Modest)
    recipe = {**toy.RECIPE, "model": "modest", "sampler": "decoded", "evaluate": {}}
    with pytest.raises(RecipeError, match="denoising needs a model with HasLogProb") as caught:
        load_recipe({**recipe, "objective": {"use": "both", "parts": ["denoising", "denoising"]}}, (), toys)
    assert [problem.path for problem in caught.value.problems] == ["objective.parts.0", "objective.parts.1"]
