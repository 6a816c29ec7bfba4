"""Losses and gradients that are not finite: the run stops where it happens, or goes on as if nothing had been."""

import json
import math
import re
import signal
from collections.abc import Sequence
from typing import Literal

import pytest
import torch
import toy
from test_loop import CPU, Watcher, assembly_of, equal, trainer_of
from torch import nn

import genkit
from genkit import Batch, Progress
from genkit.engine.checkpoint import read_checkpoint
from genkit.engine.diagnosis import gradient_norms
from genkit.engine.folder import RunFolder
from genkit.engine.ledger import Ledger
from genkit.engine.loop import PATIENCE
from genkit.engine.player import Player
from genkit.engine.seeds import derive_seed

How = Literal["nan", "infinite", "gradient", "term"]


class Explode(torch.autograd.Function):
    """Hands a value on, and infinite gradients back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.full_like(gradient, math.inf)


class Poisoned(toy.Denoising):
    """Its first turn goes wrong at some steps, counted from 1; it notes each step that it was asked for."""

    asked = None  # shared by all

    def __init__(self, model: genkit.GenerativeModel, /, *, bad: Sequence[int] = (), how: How = "nan"):
        super().__init__(model)
        self.bad, self.how = set(bad), how

    def turns(self, model):
        guess, shrink = super().turns(model)

        def poisoned(batch, progress):
            loss, step = guess.loss(batch, progress), int(progress.step) + 1
            Poisoned.asked.append(step)
            if step not in self.bad:
                return loss
            if self.how == "gradient":
                return genkit.Loss(Explode.apply(loss.total), loss.terms)
            if self.how == "term":
                return genkit.Loss(loss.total, {**loss.terms, "nats": loss.terms["nats"] * math.nan})
            factor = math.nan if self.how == "nan" else -math.inf
            return genkit.Loss(loss.total * factor, loss.terms)

        return [genkit.Turn("guess", "model", poisoned, units=guess.units), shrink]


class Normed(genkit.Backbone):
    """A linear map and batch normalization, whose buffers every batch moves."""

    def __init__(self, in_shape: genkit.Shape, out_shape: genkit.Shape, /, *, momentum: float | None = 0.1):
        super().__init__()
        self.out_shape = out_shape
        self.linear = nn.Linear(math.prod(in_shape), math.prod(out_shape))
        self.norm = nn.BatchNorm1d(math.prod(out_shape), momentum=momentum)

    def forward(self, x, context=None):
        genkit.refuse_context(self, context)
        return self.norm(self.linear(x.flatten(1))).unflatten(1, self.out_shape)


class Adam(genkit.Optimizer):
    """Adam, which counts its steps."""

    def __init__(self, *, lr: float = 0.01):
        self.lr = lr

    def build(self, parameters):
        return torch.optim.Adam(parameters, lr=self.lr)


@pytest.fixture(autouse=True)
def _components(monkeypatch):
    for name, component in {"poisoned": Poisoned, "normed": Normed, "adam": Adam}.items():
        monkeypatch.setitem(toy.COMPONENTS, name, component)
    monkeypatch.setattr(Poisoned, "asked", [])


def poisoned(folder, bad, *overrides, how="nan", watcher=None, **changes):
    objective = {"use": "poisoned", "bad": list(bad), "how": how}
    return trainer_of(folder, watcher, ["train.log_every=1", *overrides], objective=objective, **changes)


def skipping(folder, bad, *overrides, **options):
    return poisoned(folder, bad, "train.on_nan=skip", *overrides, **options)


def values(watcher, name, hook="step"):
    """The figures of a name, with the steps that they were told at."""
    return [(report.step, r.value) for report in watcher.of(hook) for r in report.records if r.name == name]


# ---- stop --------------------------------------------------------------------------------------------------------


def test_it_stops_at_the_very_step_and_says_all_that_is_known(tmp_path):
    watcher = Watcher()
    run = poisoned(tmp_path, [5], "train.log_every=1000", "train.epochs=50", watcher=watcher)
    with pytest.raises(genkit.TrainingDiverged) as caught:
        run.run()
    assert Poisoned.asked == [1, 2, 3, 4, 5]
    number = r"\d[\d.e+-]*"
    assert re.fullmatch(
        rf"step 5: term 'loss' of turn 'guess' is nan \(its terms: loss nan, nats {number}, shrink {number}\); "
        r"gradient norms by module: network\.linear nan, output\.linear nan, Poisoned \d[\d.e-]*; "
        rf"the last good checkpoint is {re.escape(str(RunFolder(tmp_path).last))}",
        str(caught.value),
    ), str(caught.value)
    kept = read_checkpoint(RunFolder(tmp_path).last)
    assert kept.facts["position"]["epoch"] == 1
    assert [(report.status, report.message) for report in watcher.of("end")] == [("failed", str(caught.value))]


@pytest.mark.parametrize("bad", [1, 3])
def test_before_the_first_checkpoint_it_says_that_there_is_none(tmp_path, bad):
    run = poisoned(tmp_path, [bad], "train.log_every=1000", how="infinite")
    with pytest.raises(genkit.TrainingDiverged, match=rf"^step {bad}: .* is -inf .*; there is no checkpoint yet$"):
        run.run()
    assert not RunFolder(tmp_path).last.exists()


def test_a_term_that_is_logged_alone_stops_it_too(tmp_path):
    with pytest.raises(genkit.TrainingDiverged, match=r"step 2: term 'nats' of turn 'guess' is nan \(its terms: loss"):
        poisoned(tmp_path, [2], how="term").run()


def test_a_clipped_gradient_that_is_infinite_stops_it(tmp_path):
    with pytest.raises(genkit.TrainingDiverged, match=r"^step 2: term 'grad_norm' of turn 'guess' is nan"):
        poisoned(tmp_path, [2], "train.clip_norm=1.0", how="gradient").run()


def test_a_gradient_that_is_infinite_stops_it_at_the_next_loss(tmp_path):
    """Norms of gradients would tell at once, and cost a share of every step."""
    with pytest.raises(genkit.TrainingDiverged, match=r"^step 3: "):
        poisoned(tmp_path, [2], how="gradient").run()


def test_the_last_steps_gradient_does_not_reach_a_checkpoint(tmp_path):
    """The weights are spoiled, and no loss would tell any more."""
    with pytest.raises(genkit.TrainingDiverged, match=r"of the model is no longer finite; the last good checkpoint is"):
        poisoned(tmp_path, [6], how="gradient").run()
    assert read_checkpoint(RunFolder(tmp_path).last).facts["position"]["epoch"] == 1


def test_gradient_norms_name_what_is_not_finite_first_and_then_the_largest():
    layers = nn.ModuleDict({f"layer{i}": nn.Linear(1, 1) for i in range(9)})
    for i, layer in enumerate(layers.values()):
        layer.weight.grad = torch.full((1, 1), 3.0 * i)
        layer.bias.grad = torch.full((1,), 4.0 * i)
    layers["layer4"].bias.grad.fill_(math.nan)
    layers["layer7"].weight.grad = layers["layer7"].bias.grad = None
    assert gradient_norms(layers) == (
        "gradient norms by module: layer4 nan, layer8 40, layer6 30, layer5 25, layer3 15, layer2 10 and 2 more"
    )
    assert gradient_norms(nn.Linear(1, 1)) == "there are no gradients yet"


def test_gradient_norms_of_the_model_and_of_the_objective_stand_side_by_side():
    owners = [nn.ModuleDict({"network": nn.Linear(1, 1, bias=False)}) for _ in range(2)]
    for owner, value in zip(owners, (math.nan, 1.0), strict=True):
        owner["network"].weight.grad = torch.full((1, 1), value)
    text = gradient_norms(*owners)
    assert "nan" in text
    assert " 1" in text


# ---- skip --------------------------------------------------------------------------------------------------------


def by_hand(bad, optimizer, **changes):
    """The run without the bad batches; only the noise that they would have had is drawn."""
    assembly = assembly_of(**changes)
    model, objective = assembly.parts.model, assembly.parts.objective
    guess, shrink = assembly.turns
    first, second = optimizer(model.parameters()), optimizer([objective.scale])
    bits, now, step = assembly.feeds["train"].resident.float(), Progress(torch.zeros(()), torch.zeros(())), 0
    model.train()
    torch.manual_seed(derive_seed(3, "train"))
    for epoch in range(2):
        order = torch.randperm(96, generator=torch.Generator().manual_seed(derive_seed(3, "order", epoch)))
        for indices in order.split(32):
            batch, step = Batch(bits[indices]), step + 1
            if step in bad:
                torch.randn_like(batch.x)
            else:
                first.zero_grad()
                guess.loss(batch, now).total.backward(inputs=list(model.parameters()))
                first.step()
            second.zero_grad()
            shrink.loss(batch, now).total.backward()
            second.step()
    return assembly, {"model": first, "scale": second}


OPTIMIZERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
}


def assert_same(run, expected, optimizers, leave_out=()):
    """Weights, buffers and optimizers are the same to the bit."""
    for module, other in (
        (run.assembly.parts.model, expected.parts.model),
        (run.assembly.parts.objective, expected.parts.objective),
    ):
        for name, value in other.state_dict().items():
            if not name.endswith(tuple(leave_out)) or not leave_out:
                assert torch.equal(module.state_dict()[name], value), name
    for name, optimizer in optimizers.items():
        own, other = run.assembly.players[name].optimizer.state_dict()["state"], optimizer.state_dict()["state"]
        assert own.keys() == other.keys()
        assert all(equal(own[index], other[index]) for index in other)


@pytest.mark.parametrize("how", ["nan", "infinite", "gradient"])
@pytest.mark.parametrize("bad", [{1}, {1, 2, 6}, {3, 4}], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_bad_step_is_as_if_its_batch_had_not_been_there(tmp_path, optimizer, bad, how):
    changes = {"model": {"use": "denoiser", "network": {"use": "normed"}}, "evaluate": {}}
    run = skipping(tmp_path, bad, f"train.optimizer={{use: {optimizer}}}", how=how, **changes)
    run.run()
    assert_same(run, *by_hand(bad, OPTIMIZERS[optimizer], **changes), leave_out=["num_batches_tracked"])
    state, _ = run.assembly.players["model"].state()
    if optimizer == "adam":
        assert {value.item() for name, value in state.items() if name.endswith(".step")} == {6.0 - len(bad)}


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_bad_step_leaves_no_trace_in_batch_normalization(tmp_path, momentum):
    network = {"use": "normed", "momentum": momentum}
    changes = {"model": {"use": "denoiser", "network": network}, "evaluate": {}}
    run = skipping(tmp_path, {2}, **changes)
    run.run()
    assert_same(run, *by_hand({2}, OPTIMIZERS["momentum"], **changes))


def test_a_bad_step_leaves_the_moving_average_alone(tmp_path):
    averages = []

    def look(name, report):
        if name == "step":
            averages.append({k: v.clone() for k, v in run.judged_model.state_dict().items()})

    run = skipping(tmp_path, [3], "train.ema=0.5", watcher=Watcher(look))
    run.run()
    assert equal(averages[2], averages[1])


def test_skipping_where_all_is_well_changes_nothing(tmp_path):
    plain = poisoned(tmp_path / "plain", [])
    end = plain.run()
    careful = skipping(tmp_path / "careful", [])
    assert careful.run().records == end.records
    assert equal(plain.assembly.parts.model.state_dict(), careful.assembly.parts.model.state_dict())


def test_one_bad_batch_of_several_spoils_its_move(tmp_path):
    """With two batches a step the gradients are a mean, of which nothing can be left out any more."""
    options = ["train.accumulate=2", "train.batch_size=16"]
    weights = {}

    def look(name, report):
        if name == "step":
            weights[report.step] = run.assembly.parts.model.network.linear.weight.detach().clone()

    run = skipping(tmp_path, [2], *options, watcher=Watcher(look))
    run.run()
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[2], weights[3])


def test_other_turns_of_the_step_move_on(tmp_path):
    scales = []

    def look(name, report):
        if name == "step":
            scales.append(run.assembly.parts.objective.scale.item())

    run = skipping(tmp_path, [2, 3], watcher=Watcher(look))
    run.run()
    assert len(set(scales)) == 6


def test_skipped_steps_are_counted_and_left_out_of_all_means(tmp_path):
    each, watcher = Watcher(), Watcher()
    skipping(tmp_path / "each", [2, 6], watcher=each).run()
    assert values(each, "skipped_steps") == [(1, 0), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2)]
    (record,) = (r for r in each.of("step")[-1].records if r.name == "skipped_steps")
    assert (record.split, record.value) == ("train", 2)
    good = dict(values(each, "guess/loss"))
    assert list(good) == [1, 3, 4, 5]
    assert list(dict(values(each, "shrink/loss"))) == [1, 3, 4, 5]

    skipping(tmp_path / "few", [2, 6], "train.log_every=3", watcher=watcher).run()
    means = dict(values(watcher, "guess/loss"))
    assert means == pytest.approx({3: (good[1] + good[3]) / 2, 6: (good[4] + good[5]) / 2})
    assert dict(values(watcher, "guess/loss", "epoch")) == pytest.approx(means)
    assert values(watcher, "skipped_steps") == [(3, 1), (6, 2)]


def test_an_epoch_of_nothing_but_bad_steps(tmp_path):
    watcher = Watcher()
    assert skipping(tmp_path, [4, 5, 6], watcher=watcher).run().status == "finished"
    assert [r.name for r in watcher.of("step")[-1].records] == ["model/lr", "scale/lr", "skipped_steps"]
    assert [len(report.records) > 0 for report in watcher.of("epoch")] == [True, False]


def test_where_nothing_is_skipped_nothing_is_counted(tmp_path):
    watcher = Watcher()
    poisoned(tmp_path, [], watcher=watcher).run()
    assert values(watcher, "skipped_steps") == []


def test_only_steps_that_were_skipped_are_counted(tmp_path):
    plain = poisoned(tmp_path / "plain", [])
    plain.run()
    run = skipping(tmp_path / "run", [2, 3], how="term")
    run.run()
    moved = equal(plain.assembly.parts.model.state_dict(), run.assembly.parts.model.state_dict())
    assert run.ledger.skipped == (0 if moved else 2)


# ---- patience ----------------------------------------------------------------------------------------------------

SINGLES = ["train.batch_size=1", "train.epochs=2", "train.log_every=1000", "evaluate={}"]


def test_a_hundred_bad_steps_in_a_row_are_borne(tmp_path):
    assert PATIENCE == 100
    bad = [*range(3, 103), *range(104, 150)]
    run = skipping(tmp_path, bad, *SINGLES)
    assert run.run().status == "finished"
    assert run.ledger.skipped == len(bad)


def test_one_more_is_too_many(tmp_path):
    run = skipping(tmp_path, range(3, 150), *SINGLES)
    with pytest.raises(genkit.TrainingDiverged, match=r"^step 103: term 'loss' of turn 'guess' is nan for the 101\w\w"):
        run.run()
    assert Poisoned.asked[-1] == 103
    assert read_checkpoint(RunFolder(tmp_path).last).facts["ledger"]["in_a_row"] == 94  # epochs have 96 steps


def test_counts_survive_a_resumption(tmp_path):
    def stop(name, report):
        if name == "step" and report.step == 60:
            signal.raise_signal(signal.SIGTERM)

    options = [*SINGLES, "train.log_every=60"]
    assert skipping(tmp_path, range(1, 150), *options, watcher=Watcher(stop)).run().status == "interrupted"
    kept = read_checkpoint(RunFolder(tmp_path).last)
    assert (kept.facts["ledger"]["skipped"], kept.facts["ledger"]["in_a_row"]) == (61, 61)
    run = skipping(tmp_path, range(1, 150), *options)
    run.restore(kept)
    with pytest.raises(genkit.TrainingDiverged, match=r"^step 101: "):
        run.run()


def test_a_resumed_run_counts_what_one_that_never_stopped_does(tmp_path):
    def stop(name, report):
        if name == "step" and report.step == 4:
            signal.raise_signal(signal.SIGTERM)

    watcher, first, second = Watcher(), Watcher(stop), Watcher()
    whole = skipping(tmp_path / "whole", [2, 4, 5], "train.log_every=2", watcher=watcher)
    whole.run()
    skipping(tmp_path / "parts", [2, 4, 5], "train.log_every=2", watcher=first).run()
    again = skipping(tmp_path / "parts", [2, 4, 5], "train.log_every=2", watcher=second)
    again.restore(read_checkpoint(RunFolder(tmp_path / "parts").last))
    again.run()
    for name in ("skipped_steps", "guess/loss"):
        assert values(first, name) + values(second, name) == values(watcher, name)
    assert values(watcher, "skipped_steps")[-1] == (6, 3)
    assert equal(whole.assembly.parts.model.state_dict(), again.assembly.parts.model.state_dict())


def test_the_ledger_looks_at_rows_one_by_one():
    def filled(ledger, *numbers):
        for value in numbers:
            ledger.write(("t/a", "t/b"), torch.tensor([1.0, value]))
        return ledger

    ledger = filled(Ledger(patience=2), 3.0, math.nan, math.inf, 5.0, math.nan)
    ledger.read(5)
    assert (ledger.skipped, ledger.window.count, ledger.window.sums) == (3, 2, [2.0, 8.0])
    state = json.loads(json.dumps(ledger.state()))
    again = Ledger(patience=2)
    again.load_state(state)
    assert again.state() == ledger.state()
    assert again.window.take() == [1.0, 4.0]
    filled(again, math.nan, math.nan)
    with pytest.raises(genkit.TrainingDiverged, match=r"^step 7: term 'b' of turn 't' is nan .*terms: a 1, b nan\)$"):
        again.read(7)
    strict = filled(Ledger(), 3.0, -math.inf, math.nan)
    with pytest.raises(genkit.TrainingDiverged, match=r"^step 2: term 'b' of turn 't' is -inf \(its terms: a 1, b"):
        strict.read(3)


# ---- the player --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_a_player_whose_very_first_step_is_skipped(name):
    layer, twin = nn.Linear(2, 2), nn.Linear(2, 2)
    twin.load_state_dict(layer.state_dict())
    moved = Player(list(layer.parameters()), toy.COMPONENTS[name](lr=0.01), toy.Decay())
    optimizer = OPTIMIZERS[name](twin.parameters())

    def descend(module, factor=1.0):
        module.zero_grad()
        (module(torch.ones(1, 2)).square().sum() * factor).backward()

    for sound in (False, True, False, False, True):
        descend(layer, 1.0 if sound else math.nan)
        moved.step_if(torch.tensor(sound, device=CPU))
        if sound:
            descend(twin)
            optimizer.step()
        assert equal(layer.state_dict(), twin.state_dict())
        own, other = moved.optimizer.state_dict()["state"], optimizer.state_dict()["state"]
        assert own.keys() == other.keys()
        assert all(equal(own[index], other[index]) for index in other)
