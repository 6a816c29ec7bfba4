"""The loop: the same numbers as a loop written by hand, undisturbed by whoever watches, exact when resumed."""

import math
import signal

import pytest
import torch
import toy

import genkit
from genkit.engine import Trainer, assemble
from genkit.engine.checkpoint import read_checkpoint
from genkit.engine.folder import RunFolder
from genkit.engine.seeds import derive_seed
from genkit.recipe import load_recipe
from genkit.registry import load_registry

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


def assembly_of(overrides=(), **changes):
    return assemble(load_recipe({**toy.RECIPE, **changes}, overrides, toy.registry()), CPU)


def trainer_of(folder, watcher=None, overrides=(), **changes):
    assembly = assembly_of(overrides, **changes)
    manager = load_registry([]).manager
    if watcher is not None:
        manager.register(watcher)
    return Trainer(assembly, RunFolder(folder), manager)


def weights_of(trainer):
    return {k: v.clone() for k, v in trainer.assembly.parts.model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def losses(watcher):
    return [record.value for report in watcher.of("step") for record in report.records if record.name == "guess/loss"]


def test_trains_as_a_loop_by_hand(tmp_path):
    watcher = Watcher()
    trainer = trainer_of(tmp_path, watcher, ["train.log_every=1"])
    by_hand = assembly_of()
    trainer.run()

    model, objective = by_hand.parts.model, by_hand.parts.objective
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    second = torch.optim.SGD([objective.scale], lr=0.01, momentum=0.9)
    bits = by_hand.feeds["train"].resident.float()
    expected = []
    torch.manual_seed(derive_seed(3, "train"))
    for epoch in range(2):
        order = torch.randperm(96, generator=torch.Generator().manual_seed(derive_seed(3, "order", epoch)))
        for indices in order.split(32):
            x = bits[indices]
            logits = model.network(x + 0.5 * torch.randn_like(x))
            nats = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / 32
            loss = nats + model.output.linear.weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            second.zero_grad()
            (objective.scale * x.mean()).square().backward()
            second.step()
            expected.append(loss.item())
    assert losses(watcher) == pytest.approx(expected, rel=1e-6)
    for name, value in trainer.assembly.parts.model.state_dict().items():
        assert torch.allclose(value, model.state_dict()[name], atol=1e-6), name
    assert trainer.assembly.parts.objective.scale.item() == pytest.approx(objective.scale.item(), rel=1e-6)


def test_same_seed_same_weights_another_seed_others(tmp_path):
    runs = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        trainer = trainer_of(tmp_path / name, overrides=[f"seed={seed}"])
        trainer.run()
        runs.append(weights_of(trainer))
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


def test_evaluators_change_no_weight(tmp_path):
    plain = trainer_of(tmp_path / "plain", evaluate={})
    plain.run()
    greedy = {
        "cost": {"use": "nats", "every": 1},
        "strip": {"use": "strip", "every": 1},
        "late": {"use": "strip", "at": [1]},
    }
    judged = trainer_of(tmp_path / "judged", overrides=["train.best=none"], evaluate=greedy)
    judged.run()
    assert equal(weights_of(plain), weights_of(judged))
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["0000.png", "0001.png", "0001.png", "0002.png"]


MOMENTS = [*(("step", step) for step in range(1, 7)), *(("evaluation", epoch) for epoch in range(3)), ("checkpoint", 1)]
EXTRAS = [[], ["train.ema=0.9", "train.clip_norm=1.0", "train.accumulate=2", "train.batch_size=16"]]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
@pytest.mark.parametrize("extra", EXTRAS, ids=["plain", "everything"])
def test_resumed_run_ends_with_the_same_weights_to_the_bit(tmp_path, moment, extra):
    overrides = ["train.log_every=1", *extra]
    whole, watcher = tmp_path / "whole", Watcher()
    trainer = trainer_of(whole, watcher, overrides)
    end = trainer.run()

    asked = []

    def interrupt(name, report):
        now = (name, report.step if name == "step" else getattr(report, "epoch", None))
        if now == moment and not asked:
            asked.append(now)
            signal.raise_signal(signal.SIGTERM)

    parts = tmp_path / "parts"
    first = Watcher(interrupt)
    stopped = trainer_of(parts, first, overrides).run()
    assert (stopped.status, stopped.signal) == ("interrupted", signal.SIGTERM)
    second = Watcher()
    continued = trainer_of(parts, second, overrides)
    torch.manual_seed(99)  # whatever happened since
    continued.restore(read_checkpoint(RunFolder(parts).last))
    resumed_end = continued.run()

    assert equal(weights_of(trainer), weights_of(continued))
    assert equal(trainer.judged_model.state_dict(), continued.judged_model.state_dict())
    assert losses(first) + losses(second) == losses(watcher)
    epochs = [[r.value for r in report.records] for w in (first, second) for report in w.of("epoch")]
    assert epochs == [[r.value for r in report.records] for report in watcher.of("epoch")]
    assert resumed_end.records == end.records
    bests = [read_checkpoint(RunFolder(folder).best) for folder in (whole, parts)]
    assert equal(dict(bests[0].weights), dict(bests[1].weights))


def test_death_between_last_and_best_is_mended(tmp_path):
    whole = trainer_of(tmp_path / "whole").run()

    def die(name, report):
        if name == "checkpoint" and (report.reason, report.epoch) == ("epoch", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer_of(tmp_path / "parts", Watcher(die)).run()
    folder = RunFolder(tmp_path / "parts")
    assert read_checkpoint(folder.last).facts["best"]["epoch"] == 2
    assert read_checkpoint(folder.best).facts["best"]["epoch"] == 1
    continued = trainer_of(tmp_path / "parts")
    continued.restore(read_checkpoint(folder.last))
    assert continued.run().records == whole.records
    assert read_checkpoint(folder.best).facts["best"]["epoch"] == 2


def test_figure_that_is_not_finite_is_never_the_best(tmp_path):
    trainer = trainer_of(tmp_path)
    good, bad = (
        genkit.EvaluationEnd(
            "cost", "validation", 1, 3, [genkit.Record(3, 1, "validation", "cost", value, better="lower")]
        )
        for value in (5.0, math.nan)
    )
    best = trainer.judge.ranked(good, [])
    assert [one.value for one in best] == [5.0]
    assert trainer.judge.ranked(bad, best) == best
    assert trainer.judge.ranked(bad, []) == []


def test_weights_that_the_last_update_broke_are_not_kept(tmp_path):
    def ruin(name, report):
        if name == "step" and report.step == 6:
            torch.nn.init.constant_(trainer.assembly.parts.model.network.linear.bias, math.nan)

    trainer = trainer_of(tmp_path, Watcher(ruin))
    with pytest.raises(genkit.TrainingDiverged, match=r"network.linear.bias of the model is no longer finite; .*last"):
        trainer.run()
    kept = read_checkpoint(RunFolder(tmp_path).last)
    assert kept.facts["position"]["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in kept.weights.values())


def test_model_sees_its_first_batch_before_it_is_judged(tmp_path, monkeypatch):
    seen = []

    def start(self, x):
        seen.append(x)
        self.network.linear.bias.fill_(1.0)
        torch.rand(7)  # moves nobody else's random numbers

    plain = Watcher()
    trainer_of(tmp_path / "plain", plain, ["train.ema=0.5"]).run()
    monkeypatch.setattr(toy.Denoiser, "start", start)
    watcher = Watcher()
    trainer = trainer_of(tmp_path / "started", watcher, ["train.ema=0.5"])
    trainer.run()
    assert len(seen) == 1
    expected = next(trainer.assembly.feeds["train"].epoch(32, seed=3, epoch=0)).x
    assert torch.equal(seen[0], expected)
    assert watcher.of("evaluation")[0].records[0].value != plain.of("evaluation")[0].records[0].value


def test_ledger_reports_means_and_bits(tmp_path):
    watcher = Watcher()
    trainer_of(tmp_path / "a", watcher).run()
    each = Watcher()
    trainer_of(tmp_path / "b", each, ["train.log_every=1"]).run()
    singles = losses(each)
    assert losses(watcher) == pytest.approx([(a + b) / 2 for a, b in zip(singles[::2], singles[1::2], strict=True)])
    epoch = {r.name: r for r in watcher.of("epoch")[0].records}
    assert list(epoch) == ["guess/loss", "guess/nats", "guess/nats_bits_per_dim", "guess/shrink", "shrink/loss"]
    assert epoch["guess/loss"].value == pytest.approx(sum(singles[:3]) / 3)
    nats, bits = epoch["guess/nats"], epoch["guess/nats_bits_per_dim"]
    assert (nats.unit, bits.unit) == ("nats", "bits/dim")
    assert bits.value == pytest.approx(nats.value / (8 * 0.6931471805599453))


def test_epoch_zero_is_before_training_and_test_comes_once_with_the_best(tmp_path):
    watcher = Watcher()
    trainer = trainer_of(tmp_path, watcher, ["train.epochs=3"])
    end = trainer.run()
    seen = [(r.epoch, r.split) for r in watcher.of("evaluation")]
    validations = {r.epoch: r.records[0].value for r in watcher.of("evaluation") if r.split == "validation"}
    best_epoch = min((value, epoch) for epoch, value in validations.items() if epoch > 0)[1]
    assert seen == [(0, "validation"), (1, "validation"), (2, "validation"), (3, "validation"), (best_epoch, "test")]
    assert {r.split for r in end.records} == {"test"}
    assert read_checkpoint(RunFolder(tmp_path).best).facts["best"]["epoch"] == best_epoch


def test_best_weights_are_those_that_are_tested(tmp_path):
    def ruin(name, report):
        if name == "step" and report.step == 6:  # the last step of the second epoch
            torch.nn.init.constant_(trainer.assembly.parts.model.network.linear.bias, 5.0)

    watcher = Watcher(ruin)
    trainer = trainer_of(tmp_path, watcher)
    trainer.run()
    validations = [r.records[0].value for r in watcher.of("evaluation") if r.split == "validation"]
    assert validations[2] > validations[1]
    assert (trainer.judge.best.epoch, trainer.judge.best.value) == (1, validations[1])
    best, last = (read_checkpoint(RunFolder(tmp_path).checkpoints / name).weights for name in ("best", "last"))
    assert equal(dict(trainer.judged_model.state_dict()), dict(best))
    scale = read_checkpoint(RunFolder(tmp_path).best).state["objective.scale"]
    assert torch.equal(trainer.assembly.parts.objective.scale, scale)
    assert not equal(dict(best), dict(last))


def test_not_finite_loss_names_step_turn_term_and_checkpoint(tmp_path):
    overrides = ["train.optimizer.lr=1.0e+20", "train.epochs=3"]
    trainer = trainer_of(tmp_path, overrides=overrides)
    with pytest.raises(genkit.TrainingDiverged, match=r"step [1-4]: term '\w+' of turn 'guess' is (nan|inf)"):
        trainer.run()


def test_diverged_run_keeps_the_last_good_checkpoint(tmp_path):
    overrides = ["train.epochs=3", "train.schedule.gamma=1.0e+30"]
    trainer = trainer_of(tmp_path, overrides=overrides)
    with pytest.raises(genkit.TrainingDiverged, match=r"the last good checkpoint is .*last"):
        trainer.run()
    checkpoint = read_checkpoint(RunFolder(tmp_path).last)
    assert checkpoint.facts["position"]["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in checkpoint.weights.values())


def test_second_interrupt_is_immediate(tmp_path):
    def twice(name, report):
        if name == "step":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    trainer = trainer_of(tmp_path, Watcher(twice))
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_failing_observer_is_named(tmp_path):
    def fail(name, report):
        if name == "epoch":
            raise ZeroDivisionError("observer")

    watcher = Watcher(fail)
    with pytest.raises(genkit.GenkitError, match="an observer failed in on_epoch_end: ZeroDivisionError: observer"):
        trainer_of(tmp_path, watcher).run()
    assert watcher.of("end")[0].status == "failed"


def test_sampler_that_must_see_data_is_fitted_before_it_draws(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(toy.Decoded, "fitted", True)
    monkeypatch.setattr(toy.Decoded, "fit", lambda self, data: order.append(("fit", len(data["train"]))))
    sample = toy.Decoded.sample
    monkeypatch.setattr(toy.Decoded, "sample", lambda self, n: order.append(("sample", n)) or sample(self, n))
    trainer_of(tmp_path, evaluate={"strip": {"use": "strip", "at": [0]}}).run()
    assert order == [("fit", 96), ("sample", 4)]


def test_moments_beyond_the_last_epoch_come_after_the_last(tmp_path):
    watcher = Watcher()
    trainer_of(tmp_path, watcher, evaluate={"strip": {"use": "strip", "at": [0, 10, 80]}}).run()
    assert [report.epoch for report in watcher.of("evaluation")] == [0, 2]


def test_an_entry_without_a_figure_cannot_choose_the_best(tmp_path):
    trainer = trainer_of(tmp_path, overrides=["train.best=strip"], evaluate={"strip": {"use": "strip", "every": 1}})
    with pytest.raises(genkit.UsageError, match=r"train.best: 'strip' gives no figure"):
        trainer.run()
