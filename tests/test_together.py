"""Several processes train what one process with the same batches and the same noise trains."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from killing import differences
from safetensors.torch import load_file

import genkit
import genkit.runs
from genkit.dataset import Batch
from genkit.engine import Trainer, assemble
from genkit.engine.folder import RunFolder
from genkit.engine.seeds import derive_seed, seed_all
from genkit.engine.world import World
from genkit.events import read_records
from genkit.objective import Progress
from genkit.recipe import load_recipe
from genkit.registry import load_registry

ROOT = Path(__file__).parents[1]
RECIPES = {
    "vae_mlp": [
        "data.train=331",
        "data.validation=32",
        "data.test=32",
        "evaluate={bpd: {use: bits_per_dim, every: 1}}",
    ],
    "gan_mlp": ["data.train=331", "data.test=0", "evaluate={}", "objective.critic_steps=2"],
}
COMMON = ["train.batch_size=33", "train.epochs=2", "train.log_every=1"]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def launch(place, *words, restarts=0, program=("-m", "genkit"), **options):
    command = [*LAUNCH, f"--max-restarts={restarts}", *program, "run", *words, "--runs", str(place)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return subprocess.Popen(command, env=environment, text=True, **options)


def finish(process):
    try:
        output, _ = process.communicate(timeout=180)
    finally:
        process.kill()
    return output


def by_hand(recipe):
    """One process that computes both halves of each batch, each with the noise of the rank whose half it is."""
    assembly = assemble(recipe, torch.device("cpu"))
    streams = []
    for purpose in ((), ("rank", 1, 0)):
        seed_all(derive_seed(recipe.seed, "train", *purpose))
        streams.append(torch.get_rng_state())
    builders = {name: recipe.train.optimizers.get(name, recipe.train.optimizer) for name in assembly.players}
    optimizers = {name: build().build(assembly.players[name].parameters) for name, build in builders.items()}
    now, size, per_step = Progress(torch.zeros(()), torch.zeros(())), recipe.train.batch_size, assembly.batches_per_step
    first_losses = []
    for epoch in range(recipe.train.epochs):
        batches = list(assembly.feeds["train"].epoch(size, seed=recipe.seed, epoch=epoch))
        for start in range(0, len(batches), per_step):
            step = batches[start : start + per_step]
            for number, turn in enumerate(assembly.turns):
                own = assembly.players[turn.player].parameters
                for batch in step[: turn.repeats]:
                    means = [torch.zeros_like(parameter) for parameter in own]
                    logged = 0.0
                    for rank, x in enumerate(batch.x.tensor_split(2)):
                        torch.set_rng_state(streams[rank])
                        share = len(x) / len(batch.x)
                        loss = turn.loss(Batch(x if len(x) else batch.x), now).total
                        gradients = torch.autograd.grad(loss * share, own)
                        means = [mean + gradient for mean, gradient in zip(means, gradients, strict=True)]
                        logged += loss.item() * share
                        streams[rank] = torch.get_rng_state()
                    for parameter, mean in zip(own, means, strict=True):
                        parameter.grad = mean
                    optimizers[turn.player].step()
                    first_losses += [logged] if number == 0 and batch is step[0] else []
    return assembly.parts.model.state_dict(), first_losses


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_move_as_one_with_the_same_batches(name, strategy, tmp_path):
    """The last batch of an epoch has one example: one rank's part of it counts nothing."""
    words = [str(ROOT / "recipes" / f"{name}.yaml"), *RECIPES[name], *COMMON, f"train.strategy={strategy}"]
    (tmp_path / "gathered.py").write_text(GATHERED)
    program = [str(tmp_path / "gathered.py")]
    process = launch(tmp_path, *words, "--name", "two", "--device", "cpu", program=program, stdout=subprocess.PIPE)
    finish(process)
    assert process.returncode == 0
    recipe = load_recipe(words[0], words[1:])
    expected, losses = by_hand(recipe)
    start = assemble(recipe, torch.device("cpu")).parts.model.state_dict()
    for key, value in load_file(tmp_path / "two" / "checkpoints" / "last" / "model.safetensors").items():
        assert torch.allclose(value, expected[key], atol=1e-6), key
        assert not torch.allclose(value, start[key], atol=1e-4), key
    (first,) = {f"{turn.name}/loss" for turn in assemble(recipe, torch.device("cpu")).turns[:1]}
    lines = read_records(tmp_path / "two" / "metrics.jsonl")
    assert [r.value for r in lines if r.name == first] == pytest.approx(losses, rel=1e-5)
    assert [r.epoch for r in lines if r.split == "test"] == [2, 2][: 2 * len(recipe.evaluate)]


# ---- weights shared out ----------------------------------------------------------------------------------------------

SHARED_OUT = [str(ROOT / "recipes" / "vae_mlp.yaml"), "data={use: mnist, train: 207, validation: 32, test: 32}"]
SHARED_OUT += ["model.encoder={use: mlp, hidden_dims: [64], normalization: batch}", "model.decoder.hidden_dims=[64]"]
SHARED_OUT += ["model.likelihood={use: gaussian, learn_scale: true}", "evaluate={bpd: {use: bits_per_dim, every: 1}}"]
SHARED_OUT += ["train.batch_size=33", "train.accumulate=2", "train.clip_norm=20", "train.ema=0.9"]
SHARED_OUT += ["train.log_every=1", "--device", "cpu"]
MAGNIFIED = ("encoder.layers.0.bias", "running_mean", "optimizer.model.2.")
"""A bias before batch normalization has no gradient but rounding's, which Adam makes steps of."""
GATHERED = """
from genkit.engine import sharded
sharded.LARGE = 1000
from genkit.cli import main
main()
"""
STOPPED = """
import os, signal
import genkit
from genkit.registry import installed

class Stop:
    @genkit.hookimpl
    def on_step(self, report):
        if report.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

installed().manager.register(Stop())
"""
MEASURED = """
import os, sys
import torch
from genkit.engine import assemble, sharded
from genkit.engine.device import choose_device
from genkit.engine.folder import RunFolder
from genkit.engine.loop import Trainer
from genkit.engine.shards import is_shard, part
from genkit.engine.stop import StopRequest
from genkit.engine.world import joined
from genkit.recipe import load_recipe
from genkit.registry import load_registry
from pathlib import Path

sharded.LARGE = 1000
recipe = load_recipe(sys.argv[1], sys.argv[2:])
with joined(choose_device("cpu")) as world:
    assembly = assemble(recipe, world.device, world.size)
    trainer = Trainer(assembly, RunFolder(Path("nowhere")), load_registry(()).manager, world)
    trainer.train_epoch(StopRequest())
    (player,) = assembly.players.values()
    state = [v for s in player.optimizer.state.values() for v in s.values() if v.dim()]
    gradients = [p.grad for p in player.parameters]
    average = list(assembly.ema.model.parameters())
    found = {"weights": player.parameters, "state": state, "gradients": gradients, "average": average}
    for name, tensors in found.items():
        held, all_ = sum(part(t).numel() for t in tensors), sum(t.numel() for t in tensors)
        os.write(1, f"{name} {world.rank} {held} {all_} {sum(not is_shard(t) for t in tensors)}\\n".encode())
"""


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory):
    """A run whose weights are shared out, large layers apart, beside one whose weights are not."""
    place = tmp_path_factory.mktemp("shared_out")
    (place / "gathered.py").write_text(GATHERED)
    for strategy, program in {"ddp": ["-m", "genkit"], "fsdp": [str(place / "gathered.py")]}.items():
        words = [*SHARED_OUT, "train.epochs=3", f"train.strategy={strategy}", "--name", strategy]
        process = launch(place, *words, program=program, stdout=subprocess.PIPE)
        finish(process)
        assert process.returncode == 0
    return place


def test_shared_out_weights_are_trained_and_judged_the_same(shared_out):
    """Averaged weights, clipped gradients, a scalar, running statistics; the best epoch is judged at the end."""
    one, other = (shared_out / name for name in ("ddp", "fsdp"))
    for file in ("model.safetensors", "state.safetensors"):
        tensors = [load_file(run / "checkpoints" / "last" / file) for run in (one, other)]
        assert tensors[0].keys() == tensors[1].keys()
        for key, value in tensors[0].items():
            same = torch.allclose(value.double(), tensors[1][key].double(), rtol=1e-4, atol=1e-6, equal_nan=True)
            assert same or any(noise in key for noise in MAGNIFIED), key
    for run in (one, other):
        judged, trained = (load_file(run / "checkpoints" / "last" / f"{f}.safetensors") for f in ("model", "state"))
        for name in ("running_mean", "running_var"):
            own = f"encoder.layers.1.{name}"
            assert torch.equal(judged[own], trained[f"trained.{own}"]), "both are the means over the ranks"
    figures = [read_records(run / "metrics.jsonl") for run in (one, other)]
    figures = [[r for r in records if r.name != "steps_per_second"] for records in figures]
    assert [r.name for r in figures[0]] == [r.name for r in figures[1]]
    assert [r.value for r in figures[0]] == pytest.approx([r.value for r in figures[1]], rel=1e-4)
    assert {"validation", "test"} <= {r.split for r in figures[0]}


def test_shared_out_weights_go_on_to_the_bit(shared_out, tmp_path):
    words = [*SHARED_OUT, "train.epochs=3", "train.strategy=fsdp", "--name", "fsdp"]
    program = [str(shared_out / "gathered.py")]
    (tmp_path / "stopped.py").write_text(STOPPED + GATHERED)
    stopped = [str(tmp_path / "stopped.py")]
    process = launch(tmp_path, *words, program=stopped, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finish(process)
    assert process.returncode != 0
    state = json.loads((tmp_path / "fsdp" / "checkpoints" / "last" / "state.json").read_text())
    assert 0 < state["position"]["step_in_epoch"] < 4, "within an epoch running statistics are each rank's own"
    process = launch(tmp_path, *words, "--resume", "auto", program=program, stdout=subprocess.PIPE)
    finish(process)
    assert process.returncode == 0
    assert differences(shared_out / "fsdp", tmp_path / "fsdp") == ["pictures"]


def test_a_process_alone_goes_on_with_weights_that_were_shared_out(shared_out):
    with pytest.warns(UserWarning, match="processes was 2, is 1"):
        end = genkit.runs.resume(shared_out / "fsdp", overrides=["train.epochs=4"], allow_changes=True, device="cpu")
    assert end.status == "finished"
    bits = [r.value for r in read_records(shared_out / "fsdp" / "metrics.jsonl") if r.name == "bpd" and r.epoch >= 3]
    assert bits[-1] < bits[0]


def test_a_flow_that_starts_from_data_is_shared_out(shared_out, tmp_path):
    """Its networks are called when it is started and judged, outside the loss that weights are gathered for."""
    words = [str(ROOT / "recipes" / "flow_densities.yaml"), "data.train=500", "data.validation=100", "data.test=100"]
    words += ["train.epochs=1", "train.optimizer={use: sgd, lr: 1.0e-3, momentum: 0.9}", "train.clip_norm=10"]
    words += ["evaluate={bpd: {use: bits_per_dim, every: 1}}", "--device", "cpu"]
    program = [str(shared_out / "gathered.py")]
    for strategy in ("ddp", "fsdp"):
        process = launch(
            tmp_path, *words, f"train.strategy={strategy}", "--name", strategy, program=program, stdout=subprocess.PIPE
        )
        finish(process)
        assert process.returncode == 0
    one, other = (read_records(tmp_path / strategy / "metrics.jsonl") for strategy in ("ddp", "fsdp"))
    assert [r.value for r in other if r.name == "bpd"] == pytest.approx(
        [r.value for r in one if r.name == "bpd"], rel=1e-5
    )


def test_weights_that_are_shared_out_are_not_channels_last(tmp_path):
    words = [str(ROOT / "recipes" / "vae_cnn.yaml"), "data.train=64", "data.validation=32", "data.test=32"]
    words += ["train.batch_size=32", "train.epochs=1", "train.strategy=fsdp", "evaluate={}", "--device", "cpu"]
    words += ["train.channels_last=on", "--name", "run"]
    process = launch(tmp_path, *words, stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    message = "command line train.channels_last=on: train.channels_last: weights that are shared out"
    assert any(f"{whose}: {message}" in said for whose in ("error", "error of rank 1")), said
    assert 'Traceback (most recent call last):\n  File "' not in said.split("ChildFailedError")[0].split("torch")[0]


def test_each_process_holds_its_half(tmp_path):
    (tmp_path / "measured.py").write_text(MEASURED)
    words = [*LAUNCH, str(tmp_path / "measured.py"), *SHARED_OUT[:-2], "train.strategy=fsdp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    measured = subprocess.run(words, env=environment, text=True, capture_output=True, timeout=120, check=False)
    assert measured.returncode == 0, measured.stderr
    lines = sorted(line.split() for line in measured.stdout.splitlines())
    assert [line[0] for line in lines] == sorted(2 * ["weights", "state", "gradients", "average"])
    for name, _, held, total, scalars in lines:
        assert 0.49 < int(held) / int(total) < 0.52, name
        assert int(scalars) == (0 if name == "state" else 1)


MEETING = """
import datetime, os
import torch.distributed as dist
from genkit.engine import world
from genkit.engine.device import choose_device

world.CONNECTION = datetime.timedelta(seconds=3)
init, failures = dist.init_process_group, [1] if os.environ["RANK"] == "1" else []
def sometimes(*args, **options):
    if failures:
        failures.pop()
        raise RuntimeError("a connection was lost")
    init(*args, **options)
dist.init_process_group = sometimes
with world.joined(choose_device("cpu")) as joined:
    os.write(1, f"met {joined.told(joined.rank)} {joined.any(joined.rank == 1)}\\n".encode())
"""


def test_processes_that_miss_each_other_try_again(tmp_path):
    """One of them loses its connection, the other waits for it in vain: both must give up this attempt."""
    (tmp_path / "meeting.py").write_text(MEETING)
    words = [*LAUNCH, str(tmp_path / "meeting.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    met = subprocess.run(words, env=environment, text=True, capture_output=True, timeout=120, check=False)
    assert met.returncode == 0, met.stderr
    assert met.stdout == "met 0 (True,)\n" * 2


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_for(condition, process):
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "it ended before anything happened"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two processes that nobody disturbs."""
    place = tmp_path_factory.mktemp("whole")
    process = launch(place, *LONG, "--name", "run", stdout=subprocess.PIPE)
    finish(process)
    assert process.returncode == 0
    return place / "run"


LONG = [str(ROOT / "recipes" / "vae_mlp.yaml"), *RECIPES["vae_mlp"][:3], "train.batch_size=33", "train.epochs=12"]
LONG += ["model.encoder.hidden_dims=[32]", "model.decoder.hidden_dims=[32]", "train.log_every=5"]
LONG += ["evaluate={bpd: {use: bits_per_dim, every: 1}}", "--device", "cpu"]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_is_started_again_and_goes_on(rank, whole, tmp_path):
    process = launch(tmp_path, *LONG, "--name", "run", restarts=1, stdout=subprocess.PIPE)
    wait_for(lambda: reached(tmp_path / "run", 2), process)
    ranks = sorted(children(process), key=lambda pid: environment_of(pid)["RANK"])
    os.kill(ranks[rank], signal.SIGKILL)
    finish(process)
    assert process.returncode == 0
    resumed = json.loads((tmp_path / "run" / "environment.json").read_text())["resumed"]
    assert [note["step"] >= 22 for note in resumed] == [True]
    assert differences(whole, tmp_path / "run") == ["pictures"]  # there are none


def test_a_signal_ends_all_ranks_with_a_checkpoint(whole, tmp_path):
    process = launch(tmp_path, *LONG, "--name", "run", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: reached(tmp_path / "run", 1), process)
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert process.returncode != 0
    assert not (tmp_path / "run" / "result.json").exists()
    process = launch(tmp_path, *LONG, "--name", "run", "--resume", "auto", stdout=subprocess.PIPE)
    finish(process)
    assert process.returncode == 0
    assert differences(whole, tmp_path / "run") == ["pictures"]


def test_one_process_goes_on_where_two_began(tmp_path):
    """With all that a step can have, and networks whose running statistics are each rank's own during an epoch."""
    words = [str(ROOT / "recipes" / "vae_mlp.yaml"), "data.train=100", "data.validation=32", "data.test=32"]
    words += ["model.encoder={use: cnn, channels: 4, normalization: batch}", "model.decoder.hidden_dims=[8]"]
    words += ["train.batch_size=32", "train.accumulate=2", "train.clip_norm=5", "train.ema=0.9", "train.on_nan=skip"]
    words += ["evaluate={bpd: {use: bits_per_dim, every: 1}}", "--device", "cpu", "--name", "run"]
    process = launch(tmp_path, *words, "train.epochs=1", stdout=subprocess.PIPE)
    finish(process)
    assert process.returncode == 0
    kept = load_file(tmp_path / "run" / "checkpoints" / "last" / "state.safetensors")
    assert kept["trained.encoder.layers.1.running_var"].isfinite().all()
    with pytest.warns(UserWarning, match="processes was 2, is 1"):
        end = genkit.runs.resume(tmp_path / "run", overrides=["train.epochs=2"], allow_changes=True, device="cpu")
    assert end.status == "finished"
    assert {record.epoch for record in end.records} <= {1, 2}


def test_a_restart_continues_nothing_but_its_own_launchs_run(small_recipe, tmp_path, monkeypatch):
    """One that finds the name taken is started again by the launcher, and must find it taken again."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "first")
    genkit.run(small_recipe, name="run", runs=tmp_path, device="cpu")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert "finished already" in genkit.run(small_recipe, name="run", runs=tmp_path, device="cpu").message
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "second")
    with pytest.raises(genkit.UsageError, match="run exists: give the run another --name"):
        genkit.run(small_recipe, name="run", runs=tmp_path, device="cpu")


def test_only_the_leader_looks_into_the_runs_folder(small_recipe, tmp_path, monkeypatch):
    """Checkpoints come and go in it while the others are on their way to the next step."""

    def looked(folder):
        raise FileNotFoundError(f"{folder}/last.new")

    monkeypatch.setattr("genkit.engine.loop.disk_usage", looked)
    recipe, device, folder = load_recipe(small_recipe), torch.device("cpu"), RunFolder(tmp_path / "run")
    for rank, leaves in ((1, contextlib.nullcontext()), (0, pytest.raises(FileNotFoundError, match=r"last\.new"))):
        trainer = Trainer(assemble(recipe, device), folder, load_registry([]).manager, World(device, rank))
        with leaves:
            trainer._save("epoch")
        assert folder.last.exists() == (rank == 0)


def test_each_process_needs_a_gpu_of_its_own(monkeypatch):
    from genkit.engine.world import joined

    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(genkit.UsageError, match="4 processes on this machine need a GPU each, and it has 2"):
        joined(torch.device("cuda")).__enter__()


def reached(run, epoch):
    state = run / "checkpoints" / "last" / "state.json"
    with contextlib.suppress(FileNotFoundError):
        return json.loads(state.read_text())["position"]["epoch"] >= epoch
    return False


def environment_of(pid):
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
