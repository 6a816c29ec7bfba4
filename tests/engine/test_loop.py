"""The loop: the same numbers as a loop written by hand, undisturbed by whoever watches, exact when resumed."""

import json
import signal

import pytest
import torch

import genkit
from genkit.engine import Trainer, assemble
from genkit.engine.checkpoint import read_checkpoint
from genkit.engine.folder import RunFolder
from genkit.engine.seeds import derive_seed
from genkit.recipe import load_recipe
from genkit.registry import installed, load_registry
from genkit.runs import resume

CPU = torch.device("cpu")


class Watcher:
    """Keeps what the hooks report, and may act on it."""

    def __init__(self, act=None):
        self.reports = []
        self.act = act

    def see(self, name, report):
        self.reports.append((name, report))
        if self.act is not None:
            self.act(name, report)

    @genkit.hookimpl
    def on_run_start(self, start):
        self.see("start", start)

    @genkit.hookimpl
    def on_step(self, report):
        self.see("step", report)

    @genkit.hookimpl
    def on_epoch_end(self, report):
        self.see("epoch", report)

    @genkit.hookimpl
    def on_evaluation(self, report):
        self.see("evaluation", report)

    @genkit.hookimpl
    def on_checkpoint(self, report):
        self.see("checkpoint", report)

    @genkit.hookimpl
    def on_run_end(self, report):
        self.see("end", report)

    def of(self, name):
        return [report for seen, report in self.reports if seen == name]


def trainer_of(recipe, folder, watcher=None, overrides=()):
    assembly = assemble(load_recipe(recipe, overrides), CPU)
    manager = load_registry([]).manager
    if watcher is not None:
        manager.register(watcher)
    return Trainer(assembly, RunFolder(folder), manager)


def weights_of(trainer):
    return {k: v.clone() for k, v in trainer.assembly.parts.model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def losses(watcher):
    return [record.value for report in watcher.of("step") for record in report.records if record.name == "model/loss"]


def test_trains_as_a_loop_by_hand(small_recipe, tmp_path):
    watcher = Watcher()
    trainer = trainer_of(small_recipe, tmp_path, watcher, ["train.log_every=1", "train.optimizer.lr=0.01"])
    by_hand = assemble(load_recipe(small_recipe), CPU)
    trainer.run()

    model = by_hand.parts.model
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    images = by_hand.feeds["train"].resident.float()
    expected = []
    torch.manual_seed(derive_seed(3, "train"))
    for epoch in range(2):
        order = torch.randperm(96, generator=torch.Generator().manual_seed(derive_seed(3, "order", epoch)))
        for indices in order.split(32):
            x = images[indices]
            mean, log_std = model.encoder(x).chunk(2, dim=1)
            z = mean + log_std.exp() * torch.empty_like(mean).normal_()
            reconstruction = torch.nn.functional.binary_cross_entropy_with_logits(model.decoder(z), x, reduction="sum")
            kl = ((2 * log_std).exp() + mean**2 - 1 - 2 * log_std).sum() / 2
            loss = (reconstruction + kl) / 32
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
    assert losses(watcher) == pytest.approx(expected, rel=1e-5)
    for name, value in trainer.assembly.parts.model.state_dict().items():
        assert torch.allclose(value, model.state_dict()[name], atol=1e-5), name


def test_same_seed_same_weights_another_seed_others(small_recipe, tmp_path):
    runs = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        trainer = trainer_of(small_recipe, tmp_path / name, overrides=[f"seed={seed}"])
        trainer.run()
        runs.append(weights_of(trainer))
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


def test_evaluators_change_no_weight(small_recipe, tmp_path):
    plain = trainer_of({**small_recipe, "evaluate": {}}, tmp_path / "plain")
    plain.run()
    greedy = {
        **small_recipe["evaluate"],
        "samples": {"use": "sample_grid", "every": 1},
        "manifold": {"use": "manifold", "every": 1, "grid": 3},
        "pairs": {"use": "reconstructions", "at": [0, 1]},
    }
    judged = trainer_of(
        {**small_recipe, "evaluate": greedy, "train": {**small_recipe["train"], "best": "none"}}, tmp_path / "judged"
    )
    judged.run()
    assert equal(weights_of(plain), weights_of(judged))


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "extra", [[], ["train.ema=0.9", "train.clip_norm=1", "train.accumulate=2", "train.batch_size=16"]]
)
def test_resumed_run_ends_with_the_same_weights_to_the_bit(small_recipe, tmp_path, stop_at, extra):
    overrides = ["train.log_every=1", "data.binarize=dynamic", *extra]
    whole, watcher = tmp_path / "whole", Watcher()
    trainer = trainer_of(small_recipe, whole, watcher, overrides)
    end = trainer.run()

    def interrupt(name, report):
        if name == "step" and report.step == stop_at:
            signal.raise_signal(signal.SIGTERM)

    parts = tmp_path / "parts"
    first = Watcher(interrupt)
    interrupted = trainer_of(small_recipe, parts, first, overrides)
    stopped = interrupted.run()
    assert (stopped.status, stopped.signal) == ("interrupted", signal.SIGTERM)
    second = Watcher()
    continued = trainer_of(small_recipe, parts, second, overrides)
    torch.manual_seed(99)  # whatever happened since
    continued.restore(read_checkpoint(RunFolder(parts).last))
    resumed_end = continued.run()

    assert equal(weights_of(trainer), weights_of(continued))
    assert equal(trainer.judged_model.state_dict(), continued.judged_model.state_dict())
    assert losses(first) + losses(second) == losses(watcher)
    epochs = [[r.value for r in report.records] for w in (first, second) for report in w.of("epoch")]
    assert epochs == [[r.value for r in report.records] for report in watcher.of("epoch")]
    assert resumed_end.records == end.records


def test_ledger_reports_means_and_bits(small_recipe, tmp_path):
    watcher = Watcher()
    trainer_of(small_recipe, tmp_path / "a", watcher).run()
    each = Watcher()
    trainer_of(small_recipe, tmp_path / "b", each, ["train.log_every=1"]).run()
    singles = losses(each)
    assert losses(watcher) == pytest.approx([(a + b) / 2 for a, b in zip(singles[::2], singles[1::2], strict=True)])
    epoch = {r.name: r for r in watcher.of("epoch")[0].records}
    assert epoch["model/loss"].value == pytest.approx(sum(singles[:3]) / 3)
    nats, bits = epoch["model/kl"], epoch["model/kl_bits_per_dim"]
    assert (nats.unit, bits.unit) == ("nats", "bits/dim")
    assert bits.value == pytest.approx(nats.value / (784 * 0.6931471805599453))


def test_epoch_zero_is_before_training_and_test_comes_once_with_the_best(small_recipe, tmp_path):
    watcher = Watcher()
    trainer = trainer_of(small_recipe, tmp_path, watcher, ["train.epochs=3", "train.optimizer.lr=0.05"])
    end = trainer.run()
    seen = [(r.epoch, r.split) for r in watcher.of("evaluation")]
    validations = {r.epoch: r.records[0].value for r in watcher.of("evaluation") if r.split == "validation"}
    best_epoch = min((value, epoch) for epoch, value in validations.items() if epoch > 0)[1]
    assert seen == [(0, "validation"), (1, "validation"), (2, "validation"), (3, "validation"), (best_epoch, "test")]
    assert {r.split for r in end.records} == {"test"}
    assert read_checkpoint(RunFolder(tmp_path).best).facts["best"]["epoch"] == best_epoch


def test_best_weights_are_those_that_are_tested(small_recipe, tmp_path):
    def ruin(name, report):
        if name == "step" and report.step == 6:  # the last step of the second epoch
            torch.nn.init.constant_(trainer.assembly.parts.model.decoder.layers[-1].bias, 5.0)

    watcher = Watcher(ruin)
    trainer = trainer_of(small_recipe, tmp_path, watcher)
    trainer.run()
    validations = [r.records[0].value for r in watcher.of("evaluation") if r.split == "validation"]
    assert validations[2] > validations[1]
    assert (trainer.judge.best.epoch, trainer.judge.best.value) == (1, validations[1])
    best, last = (read_checkpoint(RunFolder(tmp_path).checkpoints / name).weights for name in ("best", "last"))
    assert equal(dict(trainer.judged_model.state_dict()), dict(best))
    assert not equal(dict(best), dict(last))


def test_not_finite_loss_names_step_turn_term_and_checkpoint(small_recipe, tmp_path):
    overrides = ["train.optimizer={use: sgd, lr: 1.0e+20}", "train.log_every=2", "train.epochs=3"]
    trainer = trainer_of(small_recipe, tmp_path, overrides=overrides)
    with pytest.raises(genkit.TrainingDiverged, match=r"step [1-4]: term '\w+' of turn 'model' is (nan|inf)"):
        trainer.run()


def test_diverged_run_keeps_the_last_good_checkpoint(small_recipe, tmp_path):
    overrides = ["train.epochs=3", "train.schedule={use: step, epochs: 1, gamma: 1.0e+30}"]
    trainer = trainer_of(small_recipe, tmp_path, overrides=overrides)
    with pytest.raises(genkit.TrainingDiverged, match=r"the last good checkpoint is .*last"):
        trainer.run()
    checkpoint = read_checkpoint(RunFolder(tmp_path).last)
    assert checkpoint.facts["position"]["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in checkpoint.weights.values())


def test_second_interrupt_is_immediate(small_recipe, tmp_path):
    def twice(name, report):
        if name == "step":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    trainer = trainer_of(small_recipe, tmp_path, Watcher(twice))
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_failing_observer_is_named(small_recipe, tmp_path):
    def fail(name, report):
        if name == "epoch":
            raise ZeroDivisionError("observer")

    watcher = Watcher(fail)
    with pytest.raises(genkit.GenkitError, match="an observer failed in on_epoch_end: ZeroDivisionError: observer"):
        trainer_of(small_recipe, tmp_path, watcher).run()
    assert watcher.of("end")[0].status == "failed"


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
