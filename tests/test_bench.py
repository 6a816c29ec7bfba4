"""The bench: the loops that it compares do the same work, and its figures follow from the times."""

import json
import tempfile
import time
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import genkit
from genkit import hookimpl
from genkit.bench import Bench, WholeRun, bench, whole_run
from genkit.bench.clock import Clock, engine_shares
from genkit.bench.conventional import Conventional, Examples
from genkit.bench.loops import Engine, Floor, started
from genkit.bench.whole import Expense
from genkit.cli import app
from genkit.dataset import Batch, Split, bytes_to_unit
from genkit.engine import Trainer, assemble
from genkit.engine.feed import Feed
from genkit.engine.folder import RunFolder
from genkit.engine.seeds import derive_seed, seed_all
from genkit.recipe import load_recipe
from genkit.registry import installed, load_registry

CPU = torch.device("cpu")
RECIPES = Path(__file__).parents[1] / "recipes"

#: 200 examples in batches of 32 are seven batches, hence four steps of two, of which the last has one.
HALF_STEPS = ["evaluate=null", "data.train=200", "data.validation=0", "data.test=0", "train.batch_size=32"]
EVERYTHING = ["train.clip_norm=0.5", "train.accumulate=2", "train.ema=0.9"]
BUFFERS = ["model.encoder.normalization=batch", "model.decoder.normalization=batch"]
REFERENCE = ["objective.critic.normalization=virtual_batch"]
GAME = [
    "objective.critic_steps=2",
    "model.network.hidden_dims=[16]",
    "objective.critic.hidden_dims=[16]",
    "data.train=200",
    "train.batch_size=32",
]


def small_vae(*overrides):
    from conftest import SMALL

    return load_recipe(SMALL, [*HALF_STEPS, *overrides])


def small_game(*overrides):
    return load_recipe(RECIPES / "gan_mlp.yaml", [*GAME, "evaluate=null", *overrides])


def small_flow(*overrides):
    """It starts from data, and nothing in it is random."""
    return load_recipe(RECIPES / "flow_densities.yaml", [*HALF_STEPS, "train.schedule=constant", *overrides])


def engine_of(recipe, folder):
    return Engine(started(recipe, CPU), folder)


def floor_of(recipe):
    floor = Floor(started(recipe, CPU))
    seed_all(derive_seed(recipe.seed, "train"))
    return floor


def weights(assembly):
    parts = assembly.parts
    return {**parts.model.state_dict(prefix="model."), **parts.objective.state_dict(prefix="objective.")}


def assert_equal(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, **{"rtol": 0, "atol": 0, **tolerance}, msg=name)


# ---- the loops do the same work ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(lambda: small_vae(*EVERYTHING, *BUFFERS), id="vae with everything"),
        pytest.param(lambda: small_vae("data.binarize=dynamic", "train.drop_last=true"), id="vae, dynamic, drop_last"),
        pytest.param(lambda: small_vae("train.precision=bf16"), id="vae in bf16"),
        pytest.param(small_game, id="gan with two moves of the critic"),
        pytest.param(lambda: small_game("train.clip_norm={critic: 0.05}", "train.ema=0.9"), id="gan, one turn clipped"),
        pytest.param(small_flow, id="flow"),
    ],
)
def test_the_floor_trains_as_the_engine_does(tmp_path, recipe):
    engine = engine_of(recipe(), tmp_path)
    engine.take(4)
    engine.take(6)
    floor = floor_of(recipe())
    floor.take(10)
    before = weights(started(recipe(), CPU))
    trained = weights(engine.trainer.assembly)
    assert any(not torch.equal(before[name], value) for name, value in trained.items())
    assert_equal(trained, weights(floor.assembly))
    if engine.trainer.ema is not None:
        assert_equal(engine.trainer.ema.model.state_dict(), floor.averaged.state_dict())


def test_the_floor_computes_only_the_gradients_that_somebody_needs():
    floor, count = Floor(started(small_game(), CPU)), Counter()
    for name, player in floor.assembly.players.items():
        player.parameters[0].register_post_accumulate_grad_hook(lambda _, name=name: count.update([name]))
    floor.take(3)
    assert count == {"model": 3, "critic": 6}
    assert floor.inputs == {name: player.parameters for name, player in floor.assembly.players.items()}
    assert Floor(started(small_vae(), CPU)).inputs == {"model": None}


def order_of(assembly):
    """The engine's order as indices, by steps and batches."""
    train, epoch = assembly.recipe.train, 0
    while True:
        generator = torch.Generator().manual_seed(derive_seed(assembly.recipe.seed, "order", epoch))
        order = torch.randperm(len(assembly.feeds["train"]), generator=generator)
        batches = iter([batch.tolist() for batch in order.split(train.batch_size)])
        while step := list(islice(batches, assembly.batches_per_step)):
            yield step
        epoch += 1


@pytest.mark.parametrize(("workers", "extra"), [(0, EVERYTHING), (1, EVERYTHING[1:])])
def test_the_conventional_loop_trains_as_the_engine_does(tmp_path, workers, extra):
    recipe = small_flow(*extra, "train.optimizer={use: sgd, lr: 0.01, momentum: 0.9}")
    engine, loop = engine_of(recipe, tmp_path), Conventional(started(recipe, CPU), workers)
    loop.order = order_of(loop.assembly)
    for each in (engine, loop):
        each.take(3)
        each.take(4)
    assert_equal(weights(engine.trainer.assembly), weights(loop.assembly), atol=1e-5)
    assert_equal(engine.trainer.ema.model.state_dict(), loop.averaged.module.state_dict(), atol=1e-5)
    assert set(loop.figures) == set(engine.trainer.step.names)
    assert all(isinstance(figure, float) for figure in loop.figures.values())


def test_the_conventional_loop_moves_every_player_as_often_as_its_turns_say():
    loop = Conventional(started(small_game(), CPU), 0)
    loop.take(6)
    moves = {
        name: {int(state["step"]) for state in player.optimizer.state.values()}
        for name, player in loop.assembly.players.items()
    }
    assert moves == {"model": {6}, "critic": {4 * 2 - 1 + 2 * 2}}  # the fourth step of the epoch has one batch


def test_the_conventional_loop_reads_every_example_once_an_epoch():
    loop = Conventional(started(small_vae("train.accumulate=2"), CPU), 0)
    steps = list(islice(loop.order, 4))
    assert [[len(batch) for batch in step] for step in steps] == [[32, 32]] * 3 + [[8]]
    read = [index for step in steps for batch in step for index in batch]
    assert sorted(read) == list(range(200))
    assert read != sorted(read)
    following = [index for step in islice(loop.order, 4) for batch in step for index in batch]
    assert sorted(following) == list(range(200))
    assert following != read


def test_only_the_conventional_loop_has_optimizers_in_their_default_form(tmp_path):
    recipe = small_vae()
    conventional = Conventional(started(recipe, CPU), 0)
    loops = (engine_of(recipe, tmp_path).trainer.assembly, Floor(started(recipe, CPU)).assembly, conventional.assembly)
    for assembly, fused in zip(loops, (True, True, None), strict=True):
        (group,) = assembly.players["model"].optimizer.param_groups
        assert (group["fused"], group["foreach"], group["lr"]) == (fused, None, 1e-3)


# ---- the engine's steps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("portions", [[12], [4, 4, 4], [1, 6, 5], [3] * 4])
def test_the_engine_takes_exactly_the_steps_that_are_asked_for(tmp_path, portions):
    engine, taken = engine_of(small_vae("train.accumulate=2"), tmp_path), []
    optimizer = engine.trainer.assembly.players["model"].optimizer
    optimizer.register_step_post_hook(lambda *_: taken.append(1))
    for number, portion in enumerate(portions, 1):
        engine.take(portion)
        assert len(taken) == engine.trainer.steps_taken == sum(portions[:number])


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda *extra: small_vae(*extra, *EVERYTHING), id="vae with everything"),
        pytest.param(lambda *extra: small_flow(*extra, *EVERYTHING), id="flow, which starts from data"),
        pytest.param(lambda *extra: small_game(*extra, *REFERENCE), id="gan whose critic starts from data"),
    ],
)
def test_the_engine_trains_as_in_a_run(tmp_path, make):
    recipe = make("train.epochs=3", "train.best=none")
    run = Trainer(assemble(recipe, CPU), RunFolder(tmp_path / "run"), load_registry([]).manager)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    run.run()
    engine = engine_of(recipe, tmp_path / "bench")
    for portion in (3, 7, 2):
        engine.take(portion)
    assert_equal(weights(run.assembly), weights(engine.trainer.assembly))
    if run.ema is not None:
        assert_equal(run.ema.model.state_dict(), engine.trainer.ema.model.state_dict())
    assert not (tmp_path / "bench").exists()


def test_the_engine_finds_its_place_in_the_data_only_once_an_epoch(tmp_path, monkeypatch):
    engine, epochs = engine_of(small_vae(), tmp_path), []
    tickets = Feed.tickets
    monkeypatch.setattr(Feed, "tickets", lambda self, *a, **k: epochs.append(k["epoch"]) or tickets(self, *a, **k))
    for _ in range(5):
        engine.take(3)
    assert epochs == [0, 1, 2]  # of seven steps each


# ---- single examples ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "pictures"),
    [
        ("{use: mnist, binarize: threshold}", True),
        ("{use: mnist}", True),
        ("{use: stacked_mnist}", False),
        ("{use: mixture}", False),
    ],
)
def test_an_example_read_alone_is_the_engines(data, pictures):
    recipe = load_recipe(RECIPES / "gan_mlp.yaml", [f"data={data}", "data.train=40", "evaluate=null"])
    split = recipe.data().split("train")
    examples = Examples(split)
    assert (type(examples.transform).__name__ == "ThroughPIL") is pictures
    assert_same_batches(examples, split)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("prepare", [bytes_to_unit, lambda raw: (raw > 127).float()], ids=["grey", "threshold"])
def test_every_byte_of_a_picture_comes_through(channels, prepare):
    values = torch.arange(256 * 2 * channels).remainder(256).byte().view(2, 16, 16, channels).permute(0, 3, 1, 2)
    examples = Examples(split := Split(values, prepare))
    assert type(examples.transform).__name__ == "ThroughPIL"
    assert_same_batches(examples, split)


@pytest.mark.parametrize("source", [torch.rand(4, 1, 2, 2), torch.zeros(4, 2, 2, 2).byte(), torch.zeros(4, 3).byte()])
def test_what_is_no_picture_of_bytes_goes_past_pil(source):
    examples = Examples(split := Split(source, torch.Tensor.float))
    assert type(examples.transform).__name__ == "Single"
    assert_same_batches(examples, split)


def assert_same_batches(examples, split):
    expected = next(Feed(split, CPU).batches(len(split)))
    x, labels = torch.utils.data.default_collate([examples[i] for i in range(len(examples))])
    assert x.dtype == torch.float32
    assert torch.equal(x, expected.x)
    if expected.labels is None:
        assert (labels == -1).all()
    else:
        assert torch.equal(labels, expected.labels)


def test_an_example_that_is_drawn_is_a_draw():
    split = load_recipe(RECIPES / "vae_mlp.yaml", ["data.binarize=dynamic"]).data().split("train")
    examples = Examples(replace(split, source=split.source[:1].repeat(64, 1, 1, 1)))
    drawn = torch.stack([examples[i][0] for i in range(64)])
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert (drawn.mean(0) - bytes_to_unit(split.source[0])).abs().mean() < 0.03


def test_labels_reach_the_losses_of_all_loops(tmp_path):
    recipe = small_vae()
    for make in (lambda a: Engine(a, tmp_path), Floor, lambda a: Conventional(a, 0)):
        assembly, seen = started(recipe, CPU), []
        (turn,) = assembly.turns

        def loss(batch, progress, turn=turn, seen=seen):
            seen.append(batch)
            return turn.loss(batch, progress)

        assembly.turns[0] = replace(turn, loss=loss)
        make(assembly).take(7)
        everything = Batch(torch.cat([b.x for b in seen]), torch.cat([b.labels for b in seen]))
        feed = assembly.feeds["train"]
        assert pairs(everything) == pairs(Batch(feed.resident.float(), feed.labels))


def pairs(batch):
    return sorted((int(label), int(x.sum())) for x, label in zip(batch.x, batch.labels, strict=True))


# ---- the whole ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "before"), [(30, 20), (3, 3)])
def test_rounds_alternate_after_a_warm_up(small_recipe, monkeypatch, steps, before):
    calls, watched = [], []
    for cls in (Engine, Floor, Conventional):
        monkeypatch.setattr(cls, "take", lambda self, steps: calls.append((type(self).__name__, steps)))
    bench(small_recipe, steps=steps, rounds=2, device="cpu", watch=watched.append)
    names = ["Engine", "Floor", "Conventional"]
    warm_up, rounds = [(name, before) for name in names], [(name, steps) for name in names]
    assert calls == [*warm_up, *rounds, *rounds[::-1], ("Engine", steps)]
    assert watched == [0, 1]


def test_the_engine_alone(small_recipe):
    found = bench(small_recipe, ["train.batch_size=20", "train.drop_last=true"], 2, 1, (), device="cpu")
    assert list(found.seconds) == ["engine"]
    assert found.reference == "engine"
    assert found.quartiles("engine") == (1, 1, 1)
    assert found.recipe["evaluate"] == {}
    assert found.examples_per_step == 20


def test_nothing_is_left_after_ctrl_c(small_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def interrupt(over):
        assert len(list(tmp_path.iterdir())) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(small_recipe, steps=1, rounds=1, device="cpu", watch=interrupt)
    assert not list(tmp_path.iterdir())


def test_streamed_data_has_no_bare_loop(tmp_path, small_recipe):
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    data = {"use": "image_folder", "path": str(tmp_path), "size": 8, "validation": 0.0, "test": 0.0}
    small_recipe |= {"data": data, "evaluate": {}}
    overrides = ["model.likelihood=discretized_logistic", "train.batch_size=4", "train.workers=0"]
    found = bench(small_recipe, overrides, steps=2, rounds=2, device="cpu")
    assert list(found.seconds) == ["engine", "dataloader"]
    assert found.reference == "engine"
    assert found.notes == [
        "image_folder is streamed, not resident: there is no bare loop, and ratios are to the engine"
    ]


# ---- where the engine's time goes --------------------------------------------------------------------------------


def test_a_clock_counts_the_outer_function_of_two():
    clock = Clock(CPU)
    inner = clock.timed("inner", lambda: time.sleep(0.02))
    outer = clock.timed("outer", lambda: (inner(), time.sleep(0.02)))
    outer()
    assert list(clock.seconds) == ["outer"]
    assert clock.seconds["outer"] >= 0.04
    inner()
    assert clock.seconds["inner"] >= 0.02


def slow(function):
    def slowed(*args, **kwargs):
        time.sleep(0.2)  # longer than anything else, also on a machine that has other things to do
        return function(*args, **kwargs)

    return slowed


def slow_down(assembly, part):
    player, feed = assembly.players["model"], assembly.feeds["train"]
    if part == "loss":
        assembly.turns[0] = replace(assembly.turns[0], loss=slow(assembly.turns[0].loss))
    elif part == "optimizer":
        player.optimizer.step = slow(player.optimizer.step)
    elif part == "backward":
        next(iter(assembly.parts.model.parameters())).register_hook(slow(lambda gradient: gradient))
    else:
        feed.split = replace(feed.split, prepare=slow(feed.split.prepare))


@pytest.mark.parametrize("part", ["loss", "backward", "optimizer", "outside"])
def test_shares_say_where_the_time_goes(tmp_path, part):
    engine, backward = engine_of(small_vae(), tmp_path), torch.Tensor.backward
    slow_down(engine.trainer.assembly, part)
    shares = engine_shares(engine, CPU, 3)
    assert torch.Tensor.backward is backward
    assert list(shares) == ["loss", "backward", "optimizer", "outside"]
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0
    assert max(shares, key=shares.get) == part


# ---- figures -----------------------------------------------------------------------------------------------------

TIMES = {"engine": [3.0, 2.0, 4.0, 9.0], "loop": [2.0, 2.0, 2.0, 3.0], "dataloader": [6.0, 8.0, 4.0, 9.0]}


def figures_of(**seconds):
    recipe = {"train": {"batch_size": 10}}
    return Bench(recipe, "cpu", 1, "2", 9.5, True, 5, 0, seconds, {"outside": 1.0}, None, "not known")


def test_figures_follow_from_the_times():
    found = figures_of(**TIMES)
    assert found.reference == "loop"
    assert found.ratios("engine") == [1.5, 1, 2, 3]
    assert found.quartiles("engine") == (1.375, 1.75, 2.25)
    assert found.seconds_per_step("engine") == 3.5 / 5
    assert found.examples_per_second("engine") == 9.5 / (3.5 / 5)
    assert found.quartiles("loop") == (1, 1, 1)
    without = figures_of(engine=TIMES["engine"], dataloader=TIMES["dataloader"])
    assert without.reference == "engine"
    assert without.ratios("dataloader") == [2, 4, 1, 1]


# ---- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch, small_recipe):
    """An empty working folder with a recipe."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(json.dumps(small_recipe))
    return tmp_path


def invoke(*words):
    result = CliRunner().invoke(app, ["bench", "tiny.yaml", "--device", "cpu", *words])
    assert sorted(path.name for path in Path().rglob("*")) == ["tiny.yaml"]
    return result


def test_json_holds_together(folder):
    result = invoke("train.batch_size=20", "--steps", "3", "--rounds", "4", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["steps"], found["rounds"], found["batch_size"], found["workers"]) == (3, 4, 20, 0)
    assert found["threads"] == torch.get_num_threads()
    assert found["device"].startswith("cpu (")
    assert found["examples_per_step"] == 96 / 5
    assert found["recipe"]["train"]["batch_size"] == 20
    assert found["peak_memory"]["bytes"] > 2**20
    assert found["peak_memory"]["of"].startswith("the whole process")
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert list(found["loops"]) == ["engine", "loop", "dataloader"]
    base = np.array(found["loops"]["loop"]["seconds_per_round"])
    for loop in found["loops"].values():
        seconds = np.array(loop["seconds_per_round"])
        assert seconds.shape == (4,)
        assert (seconds > 0).all()
        assert loop["ratio"] == pytest.approx(np.median(seconds / base))
        assert loop["quartiles"] == pytest.approx(np.quantile(seconds / base, [0.25, 0.75]).tolist())
        assert loop["milliseconds_per_step"] == pytest.approx(1000 * np.median(seconds) / 3)
        assert loop["examples_per_second"] == pytest.approx(96 / 5 / (np.median(seconds) / 3))


def test_the_table_has_the_figures(folder, monkeypatch):
    monkeypatch.setattr("genkit.bench.bench", lambda *a: replace(figures_of(**TIMES), shares=SHARES))
    lines = invoke().stdout.splitlines()
    assert lines[0].split("  ")[0] == "loop"
    assert "to the bare loop" in lines[0]
    assert "images/s" in lines[0]
    assert lines[1].split() == ["engine", "700.000", "1.750", "x", "1.375", "to", "2.250", "14"]
    assert lines[2].split() == ["loop", "400.000", "1.000", "x", "24"]
    assert "engine's step  5.0% outside model code; loss 30.0%, backward 45.0%, optimizer 20.0%" in "\n".join(
        line.rstrip() for line in lines
    ).replace("\n               ", " ")


SHARES = {"loss": 0.3, "backward": 0.45, "optimizer": 0.2, "outside": 0.05}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "steps is 0: at least 1 is wanted"),
        (["--rounds", "-1"], "rounds is -1: at least 1 is wanted"),
        (["--workers", "-1"], "workers is -1: at least 0 is wanted"),
        (["--against", "loop,dataloadr"], "there is no loop 'dataloadr' to compare with; did you mean 'dataloader'?"),
        (["--device", "gpu"], "device 'gpu': auto, cpu, cuda, cuda:1 or mps is wanted"),
        (["train.batch_size=97"], "command line train.batch_size=97: train.batch_size: a batch of 97 is larger than"),
        (
            ["train.batchsize=97"],
            "command line train.batchsize=97: train.batchsize: there is no such key; did you mean",
        ),
    ],
)
def test_a_bench_that_cannot_be_served(folder, words, message):
    result = invoke(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {message}")


def test_a_loss_that_is_not_finite_is_told(folder):
    result = invoke("train.optimizer.lr=1e30", "--steps", "5", "--rounds", "1")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: step ")
    assert "Traceback" not in result.stderr


# ---- whole runs --------------------------------------------------------------------------------------------------


class Counted:
    """Counts what a run does."""

    def __init__(self):
        self.times = Counter()

    @hookimpl
    def on_step(self, report):
        self.times["reports"] += 1

    @hookimpl
    def on_evaluation(self, report):
        self.times[f"{report.entry}{f' on {report.split}' if report.split else ''}"] += 1

    @hookimpl
    def on_checkpoint(self, report):
        self.times["checkpoints"] += report.reason == "epoch"


@pytest.mark.parametrize("best", ["auto", "none"])
def test_a_whole_run_is_what_a_run_does(small_recipe, tmp_path, monkeypatch, best):
    """Each of these epochs is the best so far."""
    small_recipe["evaluate"] |= {"samples": {"use": "sample_grid", "at": [0, 2], "rows": 1, "columns": 2}}
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    words = ["train.epochs=4", "train.log_every=2", "train.checkpoint_every=3", f"train.best={best}"]
    found = whole_run(small_recipe, words, steps=2, device="cpu")
    counted = Counted()
    installed().manager.register(counted)
    try:
        genkit.run(small_recipe, overrides=words, name="real", runs=tmp_path, device="cpu")
    finally:
        installed().manager.unregister(counted)
    assert {e.what: e.times for e in found.expenses} == {"start-up": 1, **counted.times}
    assert found.steps == 4 * 3
    assert all(e.first > 0 and (e.later > 0 or e.times < 2) for e in found.expenses)
    assert not list((tmp_path / "temporary").iterdir())


def test_a_whole_runs_ratio_follows_from_its_parts():
    expenses = [Expense("start-up", 1, 3.0), Expense("frechet", 4, 2.0, 1.0), Expense("never", 0, 9.0, 9.0)]
    found = WholeRun({}, "cpu", 2, 400, 0.25, expenses)
    assert [e.seconds for e in expenses] == [3, 5, 0]
    assert found.training == 100
    assert found.ratio == 1.08
    plain = json.loads(json.dumps(found.to_plain()))
    assert (plain["ratio"], plain["training_seconds"], plain["expenses"][1]["seconds"]) == (1.08, 100, 5)


def test_the_command_tells_of_a_whole_run(folder, monkeypatch):
    expenses = [Expense("start-up", 1, 3.0), Expense("frechet", 4, 2.0, 1.0)]
    monkeypatch.setattr("genkit.bench.whole_run", lambda *a: WholeRun({}, "cpu", 2, 400, 0.25, expenses))
    lines = [line.split() for line in invoke("--whole-run").stdout.splitlines()]
    assert lines[1] == ["training", "steps", "400", "0.2500", "0.2500", "100.0", "100.00%"]
    assert lines[2] == ["start-up", "1", "3.000", "3.0", "3.00%"]
    assert lines[3] == ["frechet", "4", "2.000", "1.000", "5.0", "5.00%"]
    assert lines[5] == ["a", "whole", "run", "takes", "1.080", "times", "its", "training", "steps", "(cpu)"]


def test_a_whole_run_that_cannot_be_measured(folder):
    assert invoke("--whole-run", "--steps", "0").stderr == "error: steps is 0: at least 1 is wanted\n"
