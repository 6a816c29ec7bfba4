"""Runs from Python: started, loaded, sampled, judged again, resumed."""

import json

import pytest
import torch

import genkit
from genkit.registry import Plugin, Registrar, installed
from genkit.runs import resume


def test_run_from_python_and_back(small_recipe, tmp_path):
    end = genkit.run(small_recipe, name="small", runs=tmp_path, device="cpu")
    run = genkit.load(tmp_path / "small", device="cpu")
    assert run.checkpoint_name == "best"
    assert run.sample(5, seed=1).shape == (5, 1, 28, 28)
    assert torch.equal(run.sample(5, seed=1), run.sample(5, seed=1))
    test = {record.name: record.value for record in run.metrics if record.split == "test"}
    assert test == {record.name: record.value for record in end.records}
    (again,) = run.evaluate(["bpd"])
    assert {record.name: record.value for record in again.records} == pytest.approx(test)
    (tighter,) = run.evaluate(["bpd"], ["num_samples=20"])
    assert tighter.records[0].value < test["bpd"]
    assert tighter.records[0].tag == "estimate (20 samples); 2 levels, binarized at 0.5"


def test_resuming_a_finished_run_adds_no_line(small_recipe, tmp_path):
    genkit.run(small_recipe, name="small", runs=tmp_path, device="cpu")
    before = (tmp_path / "small" / "metrics.jsonl").read_text()
    end = resume(tmp_path / "small", device="cpu")
    assert end.status == "finished"
    assert (tmp_path / "small" / "metrics.jsonl").read_text() == before


def test_resolved_recipe_in_the_folder_runs_the_same(small_recipe, tmp_path):
    first = genkit.run(small_recipe, name="first", runs=tmp_path, device="cpu")
    second = genkit.run(tmp_path / "first" / "recipe.yaml", name="second", runs=tmp_path, device="cpu")
    assert first.records == second.records
    environment = json.loads((tmp_path / "first" / "environment.json").read_text())
    assert environment["seed"] == 3
    assert environment["packages"]["torch"] == torch.__version__
    assert set(environment["plugins"]) == {plugin.name for plugin in installed().plugins}


def test_nothing_is_written_before_everything_is_built(small_recipe, tmp_path):
    small_recipe["train"]["batch_size"] = 97
    with pytest.raises(genkit.RecipeError, match="a batch of 97 is larger than the training data, 96 examples"):
        genkit.run(small_recipe, name="small", runs=tmp_path, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_run_outlives_its_evaluators(small_recipe, tmp_path):
    genkit.run(small_recipe, name="small", runs=tmp_path, device="cpu")
    recipe = tmp_path / "small" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("use: bits_per_dim", "use: uninstalled_since"))
    with pytest.warns(UserWarning, match="evaluate.bpd.use: no evaluator is called 'uninstalled_since'"):
        run = genkit.load(tmp_path / "small", device="cpu")
    assert run.sample(2).shape == (2, 1, 28, 28)
    assert repr(run) == f"<Run {tmp_path / 'small'}: vae, checkpoint best, cpu>"


def test_a_run_whose_model_cannot_be_had_is_refused_at_once(small_recipe, tmp_path, recwarn):
    genkit.run(small_recipe, name="small", runs=tmp_path, device="cpu")
    recipe = tmp_path / "small" / "recipe.yaml"
    text = recipe.read_text().replace("use: bits_per_dim", "use: uninstalled_since")
    recipe.write_text(text.replace("use: vae", "use: uninstalled_too"))
    with pytest.raises(genkit.RecipeError) as caught:
        genkit.load(tmp_path / "small", device="cpu")
    assert {problem.path for problem in caught.value.problems} == {"model.use", "evaluate.bpd.use"}
    assert not [warning for warning in recwarn if "left out" in str(warning.message)]


PUBLISHED = {
    "paper": "Bits",
    "table": "one",
    "figure": "bpd",
    "value": 0.2,
    "protocol": {"train.epochs": 9, "sampler.temperature": 0.5, "evaluate.bpd.num_samples": 100},
}


def test_a_run_with_a_published_figure_is_judged_and_sampled_in_other_ways(small_recipe, tmp_path):
    genkit.run({**small_recipe, "published": PUBLISHED}, name="small", runs=tmp_path, device="cpu")
    run = genkit.load(tmp_path / "small", device="cpu")
    assert run.recipe.published.protocol["train.epochs"] == 9
    assert [end.entry for end in run.evaluate(["sample_grid"])] == ["sample_grid"]
    assert run.sample(2, sampler="prior").shape == (2, 1, 28, 28)
    recipe = tmp_path / "small" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("use: bits_per_dim", "use: uninstalled_since"))
    with pytest.warns(UserWarning, match="evaluate.bpd.use: no evaluator is called 'uninstalled_since'"):
        assert genkit.load(tmp_path / "small", device="cpu").recipe.published is None


class Counted(genkit.Evaluator):
    """How many examples a split has."""

    splits = ("test",)

    def __init__(self, model: genkit.GenerativeModel, /) -> None: ...

    def evaluate(self, subject, split):
        yield genkit.Figure(sum(len(batch.x) for batch in subject.view(split).batches(subject.batch_size)))


@pytest.fixture
def rivals():
    """Two distributions that have an evaluator of one name, installed for a test."""
    plugins = [Plugin("pa", "pa", "dist-a", "1"), Plugin("pb", "pb", "dist-b", "2")]
    for plugin in plugins:
        Registrar(installed(), plugin)("counted", Counted)
    yield
    for plugin in plugins:
        installed().discard(plugin)


def test_an_evaluator_whose_name_is_shared_is_chosen_by_its_full_name(small_recipe, tmp_path, rivals):
    genkit.run(small_recipe, name="small", runs=tmp_path, device="cpu")
    run = genkit.load(tmp_path / "small", device="cpu")

    def entries(*names):
        return {end.entry: [record.name for record in end.records] for end in run.evaluate(names)}

    assert entries("dist-a/counted") == {"counted": ["counted"]}
    both = entries("dist-a/counted", "dist-b/counted")
    assert both == {"counted": ["counted"], "dist-b-counted": ["dist-b-counted"]}
    assert entries("genkit-torch/bits_per_dim") == {"bits_per_dim": ["bits_per_dim", "bits_per_dim/nats"]}
    with pytest.raises(genkit.PluginError, match=r"by plugin 'pa' of dist-a 1 and .*write dist-a/counted or"):
        run.evaluate(["counted"])
    with pytest.raises(genkit.UsageError, match="no evaluator 'dist-c/counted', and none is installed; did you mean"):
        run.evaluate(["dist-c/counted"])


def test_an_evaluator_of_a_full_name_leaves_the_recipes_own_entry_alone(small_recipe, tmp_path, rivals):
    small_recipe["evaluate"]["counted"] = small_recipe["evaluate"].pop("bpd")
    genkit.run(small_recipe, name="small", runs=tmp_path, device="cpu")
    ends = genkit.load(tmp_path / "small", device="cpu").evaluate(["dist-a/counted", "counted"])
    assert [end.entry for end in ends] == ["dist-a-counted", "counted"]
    assert [record.name for record in ends[1].records] == ["counted", "counted/nats"]


def test_a_taken_name_offers_what_can_be_done(small_recipe, tmp_path):
    (tmp_path / "small" / "checkpoints").mkdir(parents=True)
    with pytest.raises(genkit.UsageError, match="remove it: it holds no run"):
        genkit.run(small_recipe, name="small", runs=tmp_path, device="cpu")
    (tmp_path / "small" / "recipe.yaml").touch()
    with pytest.raises(genkit.UsageError, match="continue it with genkit run --resume"):
        genkit.run(small_recipe, name="small", runs=tmp_path, device="cpu")
