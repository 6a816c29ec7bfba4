"""Every model with every objective, sampler and evaluator: what fits trains, what does not is refused by name."""

import importlib.util
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
import toy

import genkit
from genkit import Factory
from genkit.errors import Problem, UsageError
from genkit.model import lacking
from genkit.recipe.check import requirements
from genkit.registry import Plugin, Registrar
from genkit.testing.common import models_for
from genkit.testing.compatibility import KINDS, Combination, Compatibility
from genkit.testing.compatibility_page import NO, YES, Notes, markdown, reason

SCRIPT = Path(__file__).parents[1] / "docs" / "compatibility.py"


def load_script():
    spec = importlib.util.spec_from_file_location("compatibility_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


@pytest.fixture(scope="module")
def table():
    return Compatibility(script.GROUNDS, registry=script.own_registry(), small=script.SMALL)


@pytest.fixture
def one_thread():
    """Networks this small lose time to a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ---- genkit's own components -------------------------------------------------------------------------------------


def test_all_that_is_registered_takes_part_and_fits_somewhere(table):
    fitting = table.fitting()
    able = {
        "model": {c.model.name for c in fitting},
        "objective": {c.objective.name for c in fitting},
        "sampler": {c.sampler.name for c in fitting},
        "evaluator": {e.name for (_, _, e), problems in table.judged.items() if not problems},
    }
    assert able == {kind: set(table.registry.names(kind)) for kind in KINDS}


def test_what_fits_trains_for_two_steps_under_every_evaluator_that_fits(table, tmp_path, one_thread):
    """Examples of one component that fit exactly the same take turns; the contract's checks train each of them."""
    chosen = table.representatives(table.fitting())
    for place, kind in enumerate(KINDS[:3], 1):
        assert {c[place] for c in chosen} == {c[place] for c in table.fitting()}, f"an example of a {kind} has no turn"
    names = [{(c.ground, *(part.name for part in c[1:])) for c in some} for some in (chosen, table.fitting())]
    assert names[0] == names[1]
    for number, combination in enumerate(chosen):
        evaluators = table.evaluators(combination)
        assert evaluators, f"nothing judges {combination}"
        table.try_out(combination, tmp_path / str(number), evaluators)


def test_the_whole_product_is_what_the_facts_say(table, one_thread):
    """Every combination of four is really asked: those that fit at once, the others each alone.

    Examples of one component that fit the same take turns, and of an evaluator one stands for all where the model is
    not trained in any case.
    """
    refused = 0
    for combination in table.representatives(table.trained):
        evaluators = table.choices["evaluator"]
        unfit = [evaluator for evaluator in evaluators if table.verdict(combination, evaluator)]
        if table.trained[combination]:
            unfit = list({evaluator.name: evaluator for evaluator in evaluators}.values())
        else:
            assert table.ask(combination, *(e for e in evaluators if e not in unfit)) == (), str(combination)
        for evaluator in unfit:
            problems = table.ask(combination, evaluator)
            known = {*table.trained[combination], *table.judged.get((*combination[:2], evaluator), ())}
            unknown = [problem for problem in problems if problem not in known]
            assert problems, f"{combination}, {evaluator}: it fits, but the facts say {known}"
            # of an evaluator with a model that nothing trains on that data, no fact is taken
            assert not unknown or (*combination[:2], evaluator) not in table.judged, f"{combination}: {unknown}"
            for problem in problems:
                check_names(problem, combination, evaluator)
            refused += 1
    assert refused > len(table.trained)


def check_names(problem, combination, evaluator):
    """The message names who is refused: the component at the problem's place, and something beside it."""
    root, *keys = problem.path.split(".")
    if root == "evaluate":
        keys = keys[1:]
    value = {"evaluate": evaluator, **combination._asdict()}[root].build
    name = value.name
    for key in keys:
        options = value.options if isinstance(value, Factory) else value
        value = options[int(key) if isinstance(options, list | tuple) else key]
        name = value.name if isinstance(value, Factory) else name
    assert re.search(rf"\b{name}\b", problem.message), f"{problem} does not name {name}"
    assert len(problem.message) > len(name) + 20, f"{problem} says too little"


def test_a_message_that_names_nobody_is_seen(table):
    combination, evaluator = next(iter(table.trained)), table.choices["evaluator"][0]
    with pytest.raises(AssertionError, match=f"does not name {combination.objective.name}"):
        check_names(Problem("objective", "a model with a latent variable is wanted here"), combination, evaluator)


def test_the_contracts_checks_take_no_model_that_withholds_what_is_needed(table):
    asker = of(table, "evaluator", "bits_per_dim").build
    asked = requirements(asker)
    assert any(lacking(model, asked) and not lacking(type(model), asked) for model in table.models.values())
    tried = [model for _, model in models_for(asker)]
    assert tried
    assert not [model for model in tried if lacking(model, asked)]


# ---- the page ----------------------------------------------------------------------------------------------------

FOREIGN = """
import genkit
from genkit_objectives.maximum_likelihood import MaximumLikelihood
from genkit_vae.vae import VAE


@genkit.hookimpl
def register_components(register):
    register("foreign_model", VAE)
    register("foreign_objective", MaximumLikelihood)
"""


def test_the_page_is_what_the_components_say_whatever_else_is_installed(tmp_path):
    (tmp_path / "foreign.py").write_text(FOREIGN)
    metadata = tmp_path / "foreign-1.dist-info"
    metadata.mkdir()
    (metadata / "entry_points.txt").write_text("[genkit.plugins]\nforeign = foreign\n")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), "--check"]
    checked = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_a_stale_page_is_seen_and_the_command_rewrites_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "PAGE", tmp_path / "compatibility.md")
    monkeypatch.setattr(script, "page", lambda: "what fits now\n")
    script.PAGE.write_text("what fitted once\n")
    assert script.main(["--check"]) == 1
    assert "run python docs/compatibility.py" in capsys.readouterr().err
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0


# ---- a registry of one's own -------------------------------------------------------------------------------------


TRAIN = {"optimizer": "momentum", "schedule": "decay"}


class Picky(genkit.Evaluator):
    """Judges what it is told to.

    Args:
        way: How it goes wrong.
    """

    examples = ({"way": "nan"}, {"way": "silent"}, {"way": "refuses"})

    def __init__(self, model: genkit.GenerativeModel, /, *, way: str):
        if way == "refuses":
            raise ValueError("no model would do")
        if way == "broken":
            raise KeyError("a fault")
        self.way = way

    def evaluate(self, subject, split):
        return [genkit.Figure(float("nan"))] if self.way == "nan" else []


@pytest.fixture
def toys():
    registry = toy.registry()
    Registrar(registry, Plugin("others", "test_compatibility", "others", "1"))("picky", Picky)
    return Compatibility({"few bits": {"use": "bits", "train": 32}}, registry=registry, train=TRAIN)


def of(table, kind, name, **example):
    return next(c for c in table.choices[kind] if c.name == name and c.example == example)


def test_a_third_partys_component_is_in_the_table(toys):
    (combination,) = toys.trained
    assert toys.trained[combination] == ()
    refuses = of(toys, "evaluator", "picky", way="refuses")
    (problem,) = toys.verdict(combination, refuses)
    assert problem.message == "picky: no model would do"
    assert refuses not in toys.evaluators(combination)
    assert [e.name for e in toys.evaluators(combination)] == ["nats", "picky", "strip"]


@pytest.mark.parametrize(("way", "complaint"), [("nan", "is nan"), ("silent", "neither a figure nor a picture")])
def test_an_evaluator_that_goes_wrong_is_seen(toys, tmp_path, way, complaint):
    (combination,) = toys.fitting()
    with pytest.raises(AssertionError, match=complaint):
        toys.try_out(combination, tmp_path, [of(toys, "evaluator", "picky", way=way)])


def test_a_trial_takes_two_steps_and_counts_figures(toys, tmp_path):
    (combination,) = toys.fitting()
    assert toys.try_out(combination, tmp_path / "all", [e for e in toys.choices["evaluator"] if e.name == "nats"]) == 2
    toys.grounds["few bits"] = {"use": "bits", "train": 16}
    assert toys.try_out(combination, tmp_path / "one step an epoch", []) == 0


def test_a_fault_is_no_refusal(toys, monkeypatch):
    (combination,) = toys.fitting()
    broken = of(toys, "evaluator", "picky", way="nan")
    broken.node["way"] = "broken"
    with pytest.raises(KeyError, match="a fault"):
        toys.ask(combination, broken)


def test_options_make_a_component_small_wherever_it_stands():
    small = {("backbone", "line"): {"bias": False}}
    table = Compatibility({"bits": {"use": "bits"}}, registry=toy.registry(), small=small)
    assert table.choices["model"][0].node["network"] == {"use": "line", "bias": False}
    assert table.choices["model"][0].example == {}


def test_only_some_components_may_take_part_and_they_must_be_there(toys):
    some = Compatibility(toys.grounds, registry=toys.registry, only={"evaluator": ["picky"]})
    assert {choice.name for choice in some.choices["evaluator"]} == {"picky"}
    with pytest.raises(UsageError, match="no evaluator is called 'piky'; did you mean 'picky'"):
        Compatibility(toys.grounds, registry=toys.registry, only={"evaluator": ["piky"]})
    with pytest.raises(UsageError, match="no evaluator is called 'nat'"):
        Compatibility(toys.grounds, registry=toys.registry, small={("evaluator", "nat"): {}})


def test_the_page_of_a_registry_of_ones_own(toys):
    page = markdown(toys)
    assert "## On few bits" in page
    assert "| **denoiser** | `decoded` |" in page
    assert f"| **picky b** | {NO} <sup>1</sup> |" in page
    assert "1. picky: no model would do" in page
    assert f"| **denoising** | {YES} |" in page
    assert "`{use: picky, way: nan}`<br>`{use: picky, way: silent}`" in page


def test_reasons_are_numbered_once_and_say_where():
    notes = Notes()
    assert notes.mark([]) == ""
    assert notes.mark(["b", "a", "b"]) == " <sup>1, 2</sup>"
    assert notes.mark(["a"]) == " <sup>2</sup>"
    assert notes.lines() == ["1. b", "2. a"]
    assert reason(Problem("evaluate.e0.extractor", "classifier: for images")) == "`extractor`: classifier: for images"
    assert reason(Problem("sampler", "scatter: scatter shows points")) == "scatter shows points"
    assert reason(Problem("", "no data")) == "no data"


def test_a_combination_says_what_it_is_made_of(toys):
    (combination,) = toys.trained
    assert str(combination) == "denoiser(), denoising() and decoded() on few bits"
    assert isinstance(combination, Combination)
    assert len(toys.trained) == len(list(product(*(toys.choices[kind] for kind in KINDS[:3]))))
