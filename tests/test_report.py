"""Runs beside published figures: what is read, what becomes one row, what is never ranked together, what is said."""

import copy
import importlib
import json
import math
import shutil
import signal
import statistics

import pytest
import reproductions
import toy
import yaml
from typer.testing import CliRunner

import genkit
from genkit.cli import app
from genkit.errors import RecipeError, UsageError
from genkit.recipe.source import write
from genkit.report import HEADERS, cells, find_runs, grouped, markdown, read_account
from genkit.report.departures import same
from genkit.report.table import duration


class Likelihood(genkit.Evaluator):
    """The mean cost of a split with its standard error."""

    requires = (genkit.HasLogProb,)
    splits = ("validation", "test")

    def __init__(self, model: genkit.GenerativeModel, /, *, k: int = 1):
        self.k = k

    def evaluate(self, subject, split):
        nats = -subject.model.log_prob(next(iter(subject.view(split).batches(32))).x).nats
        tag = f"estimate ({self.k} samples); {subject.spec.describe_values()}"
        yield genkit.Figure(nats.mean().item(), unit="nats", tag=tag, better="lower")
        yield genkit.Figure(nats.std().item() / math.sqrt(len(nats)), "standard_error", unit="nats")


PAPER = {
    "paper": "Nobody: Bits, 1999",
    "table": "Table 1",
    "figure": "nll",
    "value": 4.5,
    "unit": "nats",
    "protocol": {
        "train.epochs": 3280,
        "train.batch_size": 32,
        "train.optimizer": "momentum",
        "model.network.bias": False,
    },
}
RECIPE = {**toy.RECIPE, "published": PAPER, "evaluate": {"nll": {"use": "likelihood", "every": 1}}}


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Nothing is installed but the toys, and nobody asks git."""
    monkeypatch.setitem(toy.COMPONENTS, "likelihood", Likelihood)
    monkeypatch.setattr("genkit.engine.folder._git_state", dict)
    toys = toy.registry()
    for module in ("genkit.runs", "genkit.recipe.check", "genkit.registry"):
        monkeypatch.setattr(importlib.import_module(module), "installed", lambda: toys)
    return toys


@pytest.fixture
def train(tmp_path):
    """Trains a recipe of toys under a name."""

    def trained(name="run", *overrides, recipe=RECIPE, **options):
        options = {"name": name, "runs": tmp_path / "runs", "device": "cpu", **options}
        return genkit.run(recipe, overrides=overrides, **options).folder

    return trained


@pytest.fixture
def like(train, tmp_path):
    """Copies of a trained run that tell something else."""

    def copied(name, /, *, figure=None, tag=None, better="lower", data=None, environment=None, **recipe):
        if not (tmp_path / "runs" / "pattern").exists():
            train("pattern")
        folder = tmp_path / "runs" / name
        shutil.copytree(tmp_path / "runs" / "pattern", folder)
        change(folder / "recipe.yaml", lambda plain: plain.update(recipe) or plain["data"].update(data or {}))
        change(folder / "environment.json", lambda plain: plain.update(environment or {}))

        def set_figure(result):
            record = result["figures"][0]
            record["value"] = record["value"] if figure is None else figure
            record["tag"] = record["tag"] if tag is None else tag
            record["better"] = better

        change(folder / "result.json", set_figure)
        return folder

    return copied


def change(path, edit):
    """Edits a file of YAML or JSON."""
    plain = yaml.safe_load(path.read_text())
    edit(plain)
    path.write_text(write(plain) if path.suffix == ".yaml" else json.dumps(plain))


def protocol(**changes):
    """The published section with other values in its protocol."""
    return {**PAPER, "protocol": {key.replace("__", "."): value for key, value in changes.items()}}


def rows_of(*folders):
    return [row for group in grouped([read_account(folder) for folder in folders]) for row in group.rows]


def told(*folders):
    """The one row that runs become, as it is told."""
    (row,) = rows_of(*folders)
    return dict(zip(HEADERS, cells(row), strict=True))


# ---- one run -----------------------------------------------------------------------------------------------------


def test_a_row_is_made_from_a_runs_own_files(train):
    folder = train()
    figures = {record.name: record.value for record in genkit.read_records(folder / "metrics.jsonl")}
    assert figures == {}  # no observer wrote any: the result alone is read
    result = json.loads((folder / "result.json").read_text())
    value, error = (record["value"] for record in result["figures"])
    row = told(folder)
    assert row.pop("time").endswith(" s")
    assert row == {
        "run": "run",
        "paper and table": "Nobody: Bits, 1999; Table 1",
        "published": "4.5 nats",
        "ours": f"{value:.2f} nats",
        "standard error": f"{error:.3f}",
        "seeds": "3",
        "what it is": "estimate (1 samples); 2 levels, toy bits",
        "epochs": "2 of 3,280",
        "best epoch": "",
        "device": "cpu, 1 thread",
        "departures from the protocol": "2 of 3,280 epochs; bias true, not false",
    }


@pytest.mark.parametrize(
    ("published", "departures"),
    [
        (protocol(train__epochs=2, train__batch_size=32, train__optimizer="momentum"), "none"),
        (protocol(train__epochs=2.0), None),
        (
            protocol(train__batch_size=20, train__optimizer="adam"),
            "batch_size 32, not 20; optimizer momentum, not adam",
        ),
        (protocol(train__epochs=1), "2 of 1 epochs"),
        (protocol(train__optimizer__use="sgd"), "optimizer momentum, not sgd"),
        (protocol(model__network__bias=True, model__output__bias=True), None),
        (protocol(train__clip_norm=1.5, data__dims=[8, 9]), "clip_norm none, not 1.5; dims 8, not [8, 9]"),
        (protocol(), "the paper's protocol is not said"),
        ({**PAPER, "unit": "bits/dim", "protocol": {}}, "in nats, not bits/dim"),
        ({**PAPER, "figure": "nll/other", "protocol": {}}, "no figure 'nll/other' on the test data"),
    ],
)
def test_departures_are_told_by_comparing_the_recipe_with_the_protocol(like, published, departures):
    folder = like("run", published=published)
    if departures is None:
        with pytest.raises(RecipeError, match=r"recipe.yaml:\d+: published.protocol."):
            told(folder)
    else:
        assert told(folder)["departures from the protocol"] == departures


def test_a_key_is_as_long_as_tells_it_from_others(like):
    both = protocol(train__keep__last=2, train__keep__best=2, train__log_every=3, evaluate__nll__every=2)
    said = told(like("run", published=both))["departures from the protocol"]
    assert said == "last 1, not 2; best 1, not 2; log_every 2, not 3; every 1, not 2"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (1, 1.0, True),
        (1, True, False),
        ([1, 2], [1, 2], True),
        ([1], [1, 2], False),
        (None, "none", False),
        ([1], 1, False),
    ],
)
def test_values_are_compared_as_a_recipe_means_them(one, other, alike):
    assert same(one, other) is alike


def test_the_digits_are_those_of_the_paper_but_two_at_least(like):
    row = told(like("a", figure=86.76543, published={**PAPER, "value": 86}))
    assert (row["published"], row["ours"]) == ("86 nats", "86.77 nats")
    row = told(like("b", figure=0.1521661, published={**PAPER, "value": 0.152}))
    assert (row["published"], row["ours"]) == ("0.152 nats", "0.152 nats")


def test_a_note_stands_beside_the_paper(like):
    row = told(like("run", published={**PAPER, "note": "redrawn"}))
    assert row["paper and table"] == "Nobody: Bits, 1999; Table 1 (redrawn)"


def test_the_best_epoch_is_told_where_the_figure_was_taken_there(like):
    folder = like("run")
    change(folder / "result.json", lambda result: result["figures"][0].update(epoch=1))
    assert told(folder)["best epoch"] == "1"


def test_a_run_that_is_compared_with_nothing_shows_its_own_figure(train):
    recipe = {key: value for key, value in RECIPE.items() if key != "published"}
    row = told(train(recipe=recipe))
    assert (row["paper and table"], row["published"], row["departures from the protocol"]) == ("", "", "")
    assert row["epochs"] == "2"
    assert len(row["ours"].split()[0].partition(".")[2]) == 4


def test_the_figure_that_chose_the_best_epoch_goes_first(train):
    evaluate = {"other": {"use": "nats"}, "nll": {"use": "likelihood", "every": 1}}
    recipe = {**RECIPE, "published": None, "evaluate": evaluate}
    account = read_account(train("first", recipe=recipe))
    assert account.figure == "other"
    assert read_account(train("chosen", "train.best=nll", recipe=recipe)).figure == "nll"


def test_a_run_without_test_data_has_no_figure(train):
    row = told(train("run", "data.test=0"))
    assert (row["ours"], row["standard error"], row["what it is"]) == ("", "", "")
    assert row["departures from the protocol"].startswith("no figure 'nll' on the test data; 2 of 3,280 epochs")
    recipe = {**RECIPE, "published": None}
    assert told(train("plain", "data.test=0", recipe=recipe))["departures from the protocol"] == (
        "no figure on the test data"
    )


# ---- time and device ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (89.4, "89 s"), (90, "1.5 min"), (5399, "90.0 min"), (5400, "1.5 h")]
)
def test_durations(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("time", "resumed", "said"),
    [
        ({"seconds": 552.0, "at_least": False}, [], "9.2 min"),
        ({"seconds": 552.0, "at_least": True}, [], "at least 9.2 min"),
        (None, [], "60 s"),  # an older genkit knew the last session alone
        (None, [{"step": 3, "recipe": {}, "environment": {}}], "at least 60 s"),
    ],
)
def test_the_time_is_that_of_all_sessions(like, time, resumed, said):
    folder = like("run", environment={"resumed": resumed})
    (folder / "time.json").unlink()
    change(folder / "result.json", lambda result: result.update(time=time, seconds=60.0))
    assert told(folder)["time"] == said


def test_all_devices_that_a_run_went_over_are_told(like):
    moves = [
        {"step": 3, "recipe": {}, "environment": {}},
        {"step": 4, "recipe": {}, "environment": {"device": "cuda (NVIDIA H100)"}},
        {"step": 5, "recipe": {}, "environment": {"processes": 4}},
    ]
    folder = like("run", environment={"threads": 2, "resumed": moves})
    assert told(folder)["device"] == "cpu, 2 threads, then cuda (NVIDIA H100), then 4 x cuda (NVIDIA H100)"
    (folder / "environment.json").write_text("")
    assert told(folder)["device"] == "not told"


def test_a_recipe_that_was_changed_on_the_way_says_so(like):
    notes = [{"step": 1200, "recipe": {"train.epochs": 2, "train.optimizer.lr": 0.5}, "environment": {}}]
    said = told(like("run", published=protocol(train__epochs=2), environment={"resumed": notes}))
    assert said["departures from the protocol"] == (
        "train.epochs was changed to 2 at step 1,200; train.optimizer.lr was changed to 0.5 at step 1,200"
    )


def test_what_one_seed_of_a_row_did_otherwise_is_said_with_the_seed(like):
    notes = [{"step": 1200, "recipe": {"train.optimizer.lr": 0.5}, "environment": {}}]
    paper = protocol(train__epochs=2)
    folders = [like("a", published=paper, seed=1), like("b", published=paper, seed=2, environment={"resumed": notes})]
    ((row,),) = [group.rows for group in grouped([read_account(folder) for folder in folders])]
    said = dict(zip(HEADERS, cells(row), strict=True))
    assert said["seeds"] == "1, 2"
    assert said["departures from the protocol"] == (
        "seed 1: none; seed 2: train.optimizer.lr was changed to 0.5 at step 1,200"
    )


# ---- unfinished --------------------------------------------------------------------------------------------------


class Stop:
    """Asks a run to stop at a step."""

    def __init__(self, step):
        self.step = step

    @genkit.hookimpl
    def on_step(self, report):
        if report.step == self.step:
            signal.raise_signal(signal.SIGTERM)


def test_an_unfinished_run_is_listed_with_its_epochs_so_far(train, registry):
    registry.manager.register(Stop(8))
    folder = train("cut", "train.epochs=5")
    line = {"step": 6, "epoch": 2, "split": "train", "name": "guess/loss", "value": 1.0}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({**line, "epoch": 2.67}) + "\n")
    (group,) = grouped([read_account(folder)])
    assert group.heading == "No figure yet"
    row = dict(zip(HEADERS, cells(group.rows[0]), strict=True))
    assert (row["epochs"], row["ours"], row["standard error"]) == ("2 of 3,280", "", "")
    assert row["departures from the protocol"] == (
        "unfinished: 2 of its 5 epochs are over; 5 of 3,280 epochs; bias true, not false"
    )
    assert not row["time"].startswith("at least")
    change(folder / "time.json", lambda time: time.update(running=True))
    assert told(folder)["time"].startswith("at least")


def test_a_run_that_has_hardly_begun_is_listed_too(like):
    folder = like("run")
    (folder / "result.json").unlink()
    (folder / "time.json").unlink()
    row = told(folder)
    assert (row["epochs"], row["time"]) == ("0 of 3,280", "at least 0 s")


def test_what_has_no_figure_comes_last_and_is_never_one_row(like):
    folders = [like(name, seed=seed) for seed, name in enumerate("abc")]
    for folder in folders[:2]:
        (folder / "result.json").unlink()
    groups = grouped([read_account(folder) for folder in folders])
    assert [[row.first.name for row in group.rows] for group in groups] == [["c"], ["a", "b"]]


# ---- several runs ------------------------------------------------------------------------------------------------


def test_runs_that_differ_in_their_seed_alone_are_one_row(like):
    figures = [4.61, 4.43, 4.52]
    folders = [like(f"s{seed}", seed=seed, figure=figure) for seed, figure in zip((2, 0, 1), figures, strict=True)]
    for folder, seconds in zip(folders, (100, 200, 300), strict=True):
        change(folder / "result.json", lambda r, s=seconds: r.update(time={"seconds": s, "at_least": s == 100}))
    row = told(*folders)
    assert (row["run"], row["seeds"]) == ("s0, s1, s2", "0, 1, 2")
    assert row["ours"] == f"{statistics.mean(figures):.2f} nats" == "4.52 nats"
    assert row["standard error"] == f"{statistics.stdev(figures) / math.sqrt(3):.3f}" == "0.052"
    assert row["time"] == "at least 3.3 min a run"
    change(folders[0] / "result.json", lambda result: result["figures"][0].update(epoch=1))
    assert told(*folders)["best epoch"] == "2, 2, 1"


def test_a_seed_that_is_there_twice_is_no_second_draw(like):
    folders = [like("a", figure=4.0), like("b", figure=5.0), like("c", figure=5.5, seed=1)]
    assert [[run.name for run in row.runs] for row in rows_of(*folders)] == [["c", "a"], ["b"]]


def test_other_versions_of_plugins_make_no_other_row_but_other_keys_do(like):
    train = {**RECIPE["train"], "batch_size": 16}
    folders = [like("a"), like("b", seed=1, served_by={}), like("c", seed=2, train=train)]
    assert [[run.name for run in row.runs] for row in rows_of(*folders)] == [["b", "a"], ["c"]]


def test_figures_of_other_tags_never_meet_in_one_ranking(like):
    exact = like("exact", figure=1.0, tag="exact; 2 levels, toy bits")
    folders = [
        like("worse", figure=4.6, train={**RECIPE["train"], "batch_size": 16}),
        like("better", figure=4.4),
        exact,
    ]
    groups = grouped([read_account(folder) for folder in folders])
    assert [group.heading for group in groups] == [
        "bits, likelihood in nats: estimate (1 samples); 2 levels, toy bits",
        "bits, likelihood in nats: exact; 2 levels, toy bits",
    ]
    assert [[row.first.name for row in group.rows] for group in groups] == [["better", "worse"], ["exact"]]


def test_seeds_of_other_tags_have_no_mean(like):
    folders = [like("a", tag="exact"), like("b", seed=1, tag="lower bound")]
    assert [len(row.runs) for row in rows_of(*folders)] == [1, 1]


def test_higher_may_be_better(like):
    small = {**RECIPE["train"], "batch_size": 16}
    folders = [like("a", figure=1.0, better="higher"), like("b", figure=2.0, better="higher", train=small)]
    assert [row.first.name for row in rows_of(*folders)] == ["b", "a"]


def test_other_data_and_other_evaluators_never_meet_either(like):
    renamed = {"nll": {"use": "other_likelihood", "every": 1}}
    folders = [like("a"), like("more", data={"train": 64}), like("b", data={"dims": 4}), like("c", evaluate=renamed)]
    groups = grouped([read_account(folder) for folder in folders])
    tag = "estimate (1 samples); 2 levels, toy bits"
    assert [(group.heading, len(group.rows)) for group in groups] == [
        (f'bits, likelihood in nats: {tag}; data {{"test": 32, "dims": 8}}', 2),
        (f'bits, likelihood in nats: {tag}; data {{"test": 32, "dims": 4}}', 1),
        (f"bits, other_likelihood in nats: {tag}", 1),
    ]


# ---- Markdown ----------------------------------------------------------------------------------------------------


def test_markdown_has_a_table_for_each_group(like):
    folders = [like("a"), like("b", tag="exact")]
    text = markdown(grouped([read_account(folder) for folder in folders]), "*{}*".format)
    first, second = text.split("\n\n**")
    heading, _, header, rule, row = first.splitlines()
    assert heading == "**bits, likelihood in nats: estimate (1 samples); 2 levels, toy bits**"
    assert header == f"| {' | '.join(HEADERS)} |"
    assert rule.count("---") == len(HEADERS) == row.replace(r"\|", "").count("|") - 1
    assert row.startswith("| *a* | Nobody: Bits, 1999; Table 1 | 4.5 nats | ")
    assert second.startswith("bits, likelihood in nats: exact**\n\n| run |")
    assert text.endswith(" |\n")
    assert markdown([]) == ""


def test_nothing_in_a_cell_is_taken_for_markdown(like):
    text = markdown(grouped([read_account(like("a", published={**PAPER, "table": "a|b\n*c* `d`_e_ <f> [g]"}))]))
    assert r"; a\|b \*c\* \`d\`\_e\_ \<f> \[g] |" in text


# ---- what is no run ----------------------------------------------------------------------------------------------


def test_a_folder_of_runs_stands_for_those_that_have_a_published_figure(like, tmp_path):
    runs = tmp_path / "runs"
    like("b")
    like("plain", published=None)
    assert find_runs([runs]) == ([runs / "b", runs / "pattern"], [runs / "plain"])
    assert find_runs([runs / "plain", runs, runs / "b"]) == ([runs / "plain", runs / "b", runs / "pattern"], [])


def test_what_is_no_run_is_refused(like, tmp_path):
    like("a")
    (tmp_path / "runs" / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty is no run: it has no recipe.yaml; runs beside it: a, pattern$"):
        find_runs([tmp_path / "runs" / "empty"])
    (tmp_path / "written").mkdir()
    (tmp_path / "written" / "recipe.yaml").write_text("seed: 1\ndata: bits\n")
    message = r"written is no run: its recipe.yaml is no resolved recipe, it has no data.use$"
    with pytest.raises(UsageError, match=message):
        read_account(tmp_path / "written")


def test_a_published_section_that_was_spoiled_is_told_with_its_line(like):
    folder = like("a", published={**copy.deepcopy(PAPER), "value": "low", "figure": "nil"})
    with pytest.raises(RecipeError, match=r"recipe.yaml:\d+: published.value: should be a valid number, 'low' given$"):
        read_account(folder)
    change(folder / "recipe.yaml", lambda plain: plain["published"].update(value=1))
    with pytest.raises(RecipeError, match=r"published.figure: no evaluator goes by 'nil'; did you mean 'nll'\?"):
        read_account(folder)


# ---- the command -------------------------------------------------------------------------------------------------


def invoke(*words):
    return CliRunner(env={"COLUMNS": None}).invoke(app, ["report", *map(str, words)])


def test_the_command_prints_a_table_and_leaves_out_empty_columns(like, tmp_path):
    like("a")
    like("plain", published=None)
    result = invoke(tmp_path / "runs")
    assert result.exit_code == 0
    assert result.stderr == (f"note: {tmp_path / 'runs' / 'plain'} is left out: its recipe names no published figure\n")
    heading, header, *rows = result.stdout.splitlines()
    assert heading == "bits, likelihood in nats: estimate (1 samples); 2 levels, toy bits"
    assert "published" in header
    assert "best epoch" not in header
    assert [row.split()[0] for row in rows] == ["a", "pattern"]


def test_the_command_writes_markdown(like, tmp_path):
    folder = like("a")
    printed = invoke(folder, "--table").stdout
    assert printed == markdown(grouped([read_account(folder)]))
    result = invoke(folder, "--output", tmp_path / "table.md")
    assert (result.exit_code, result.stdout) == (0, f"wrote {tmp_path / 'table.md'}\n")
    assert (tmp_path / "table.md").read_text() == printed


def test_the_command_says_in_one_message_what_cannot_be(like, tmp_path):
    folder = like("a")
    result = invoke(tmp_path / "gone")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {tmp_path / 'gone'} is no run: it has no recipe.yaml\n"
    result = invoke(folder, "-o", tmp_path / "gone" / "table.md")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {tmp_path / 'gone' / 'table.md'} cannot be written: ")


# ---- the page of reproductions -----------------------------------------------------------------------------------

TEXT = f"# Reproductions\n\n{reproductions.BEGIN}\nold\n\n{reproductions.END}\nBy hand.\n"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """An empty page of reproductions."""
    written = tmp_path / "reproductions.md"
    written.write_text(TEXT)
    monkeypatch.setattr(reproductions, "PAGE", written)
    monkeypatch.setattr(reproductions, "RECORDS", tmp_path / "reproductions")
    return written


def refused(capsys, *words):
    code = reproductions.main(list(map(str, words)))
    assert code == 2
    return capsys.readouterr().err.removeprefix("error: ").rstrip()


def test_the_page_without_records_says_so_and_keeps_what_is_written_by_hand(page, capsys):
    assert reproductions.main(["--check"]) == 1
    assert capsys.readouterr().err == "reproductions.md is not what the records say: run python docs/reproductions.py\n"
    assert page.read_text() == TEXT
    assert reproductions.main([]) == 0
    assert page.read_text() == TEXT.replace("old\n", reproductions.EMPTY)
    assert reproductions.main(["--check"]) == 0


def test_a_record_makes_the_same_row_as_its_run(page, like, tmp_path):
    private = {"platform": "Linux-6-host", "launch": "job of mine", "git": {"commit": "abc", "changed": False}}
    folder = like("nll k=1", environment=private, data={"path": "/home/me/bits"})
    before = json.loads((folder / "environment.json").read_text())
    assert reproductions.main(["--add", str(folder)]) == 0
    record = tmp_path / "reproductions" / "nll k=1"
    assert sorted(path.name for path in record.iterdir()) == ["environment.json", "recipe.yaml", "result.json"]
    assert json.loads((record / "result.json").read_text()) == json.loads((folder / "result.json").read_text())
    kept = {key: value for key, value in before.items() if key not in ("platform", "launch")}
    assert json.loads((record / "environment.json").read_text()) == kept
    text = (record / "recipe.yaml").read_text()
    assert text == (folder / "recipe.yaml").read_text().replace("/home/me/bits", "bits")
    assert told(record) == told(folder)
    name = "[`nll k=1`](reproductions/nll%20k%3D1/recipe.yaml)"
    assert f"\n| {name} | Nobody: Bits, 1999; Table 1 | 4.5 nats | " in page.read_text()
    assert page.read_text().endswith(f"{reproductions.END}\nBy hand.\n")
    assert reproductions.main(["--check"]) == 0


def test_a_record_is_replaced_by_another_run_of_its_recipe_only(page, like, tmp_path, capsys):
    folder = like("a", figure=4.5)
    assert reproductions.main(["--add", str(folder)]) == 0
    change(folder / "result.json", lambda result: result["figures"][0].update(value=4.25))
    assert reproductions.main(["--add", str(folder)]) == 0
    assert "| 4.25 nats |" in page.read_text()
    change(folder / "recipe.yaml", lambda plain: plain.update(seed=9))
    capsys.readouterr()
    assert refused(capsys, "--add", folder) == (
        f"{tmp_path / 'reproductions' / 'a'} is the record of another recipe: give the run's folder another name"
    )


def test_what_can_be_no_record_is_refused(page, like, train, tmp_path, capsys):
    cut = like("cut")
    (cut / "result.json").unlink()
    plain, blind = like("plain", published=None), train("blind", "data.test=0")
    assert refused(capsys, "--add", cut) == f"{cut} is not finished: 0 of its 2 epochs are over"
    assert refused(capsys, "--add", plain) == (
        f"{plain} is compared with nothing: its recipe names no published figure"
    )
    assert refused(capsys, "--add", blind) == f"{blind} has no figure 'nll' on the test data"
    assert refused(capsys, "--add", tmp_path / "gone") == f"{tmp_path / 'gone'} is no run: it has no recipe.yaml"
    for words in (["--add"], ["--check", "now"], ["runs"]):
        assert refused(capsys, *words) == f"{' '.join(words)}: --add RUN..., --check or nothing is wanted"
    assert not (tmp_path / "reproductions").exists()
    page.write_text("# Reproductions\n")
    assert refused(capsys).startswith("reproductions.md has lost the lines that the table stands between:\n<!-- ")


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("/a/b.pt", "b.pt"),
        ("C:\\a\\b", "b"),
        ("~/b", "b"),
        ("a/b", "a/b"),
        ("bits/dim", "bits/dim"),
        (1, 1),
        (None, None),
    ],
)
def test_places_on_a_machine_are_left_out(told, kept):
    assert reproductions.without_places({"key": [told]}) == {"key": [kept]}
