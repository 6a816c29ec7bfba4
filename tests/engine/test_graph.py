"""What is recorded when, on a stand-in for a device that records."""

import pytest
import torch
import toy

from genkit import GenkitError, TrainingDiverged
from genkit.engine import Trainer, assemble
from genkit.engine.folder import RunFolder
from genkit.engine.graph import WARM_UP, Recorder, obstacle_to_graphs
from genkit.engine.player import Player
from genkit.recipe import load_recipe
from genkit.registry import load_registry

CPU = torch.device("cpu")


class Tape:
    """Records by keeping the work and its places; refuses work that asks for a value."""

    def __init__(self, refuses=False):
        self.refuses = refuses
        self.log = []

    def aside(self, work, inputs):
        self.log.append("aside")
        return work(*inputs)

    def record(self, work, inputs):
        self.log.append("record")
        if self.refuses:
            try:
                raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
            finally:  # as torch's recording does when it is left
                raise RuntimeError("operation failed due to a previous error during capture")
        result = torch.empty(0)

        def replay():
            self.log.append("replay")
            result.set_(work(*inputs))

        return replay, result


def recorder(device, switch="auto"):
    done = []

    def work(x):
        done.append(x.clone())
        return x.sum()

    return Recorder(work, switch, device), done


def test_a_step_is_recorded_once_for_each_shape_and_done_once_a_call():
    tape = Tape()
    record, done = recorder(tape)
    inputs = [torch.full((n,), float(i)) for i, n in enumerate([2] * 6 + [3] * 2 + [2] + [3] * 3)]
    results = [record(x).item() for x in inputs]
    assert results == [x.sum().item() for x in inputs]
    assert [x.tolist() for x in done] == [x.tolist() for x in inputs]
    first, second = ["aside"] * WARM_UP + ["record"] + ["replay"] * 3, ["aside"] * 2
    assert tape.log == [*first, *second, "replay", "aside", "record", "replay", "replay"]


def test_another_type_is_another_recording():
    tape = Tape()
    record, _ = recorder(tape)
    for _ in range(WARM_UP + 1):
        record(torch.ones(2))
    record(torch.ones(2, dtype=torch.int64))
    assert tape.log[-2:] == ["replay", "aside"]


def test_what_cannot_be_recorded_is_done_as_it_is_and_told():
    tape = Tape(refuses=True)
    record, done = recorder(tape)
    assert [record(torch.ones(2)).item() for _ in range(WARM_UP + 3)] == [2.0] * (WARM_UP + 3)
    assert len(done) == WARM_UP + 3
    assert tape.log.count("record") == 1
    assert record.obstacle == "the step cannot be recorded: operation not permitted when stream is capturing"


def test_who_insists_is_refused():
    record, _ = recorder(Tape(refuses=True), "on")
    for _ in range(WARM_UP):
        record(torch.ones(2))
    with pytest.raises(GenkitError, match=r"train\.cuda_graph is on, but the step cannot be recorded"):
        record(torch.ones(2))
    with pytest.raises(GenkitError, match=r"train\.cuda_graph is on, but cpu has no CUDA graphs"):
        Recorder(torch.sum, "on", None, obstacle_to_graphs(torch.device("cpu"), 1))


def test_off_is_off():
    tape = Tape()
    record, _ = recorder(tape, "off")
    for _ in range(WARM_UP + 3):
        record(torch.ones(2))
    assert (tape.log, record.obstacle) == ([], "train.cuda_graph is off")


@pytest.mark.parametrize(
    ("device", "processes", "obstacle"),
    [("cuda", 1, ""), ("cuda", 2, "several processes train together"), ("mps", 1, "mps has no CUDA graphs")],
)
def test_obstacles(device, processes, obstacle):
    assert obstacle_to_graphs(torch.device(device), processes) == obstacle


def test_what_is_absent_stays_absent():
    seen = []

    def work(x, labels):
        seen.append(labels)
        return x.sum()

    record = Recorder(work, "auto", Tape())
    for _ in range(WARM_UP + 2):
        record(torch.ones(2), None)
    assert seen == [None] * (WARM_UP + 2)
    assert record.recorded == 1


def test_learning_rates_of_recordable_players_change_in_place():
    """A replayed step reads them where they were when it was recorded."""
    layer = torch.nn.Linear(2, 1, bias=False)
    player = Player(list(layer.parameters()), toy.Momentum(lr=0.5), toy.Decay(gamma=0.5), recordable=True)
    (group,) = player.optimizer.param_groups
    rate, before = group["lr"], layer.weight.detach().clone()
    player.set_learning_rate(2.0, 10)
    assert group["lr"] is rate
    assert (rate.item(), player.learning_rate) == (0.125, 0.125)
    layer.weight.grad = torch.ones_like(layer.weight)
    player.step()
    assert torch.allclose(before - layer.weight, torch.full((1, 2), 0.125))


def test_a_trainer_records_its_steps(tmp_path):
    """With a stand-in for the device: the same weights, figures and order of random numbers as without."""
    recipe, tape, found = load_recipe(toy.RECIPE, ["train.epochs=6"], toy.registry()), Tape(), []
    for name in ("plain", "recorded"):
        trainer = Trainer(assemble(recipe, CPU), RunFolder(tmp_path / name), load_registry([]).manager)
        if name == "recorded":
            trainer.recorder = Recorder(trainer._step_on_device, "auto", tape)
        found.append((trainer.run().records, trainer.assembly.parts.model.state_dict()))
    assert tape.log.count("replay") == 6 * 3 - WARM_UP
    assert found[0][0] == found[1][0]
    assert all(torch.equal(found[0][1][key], found[1][1][key]) for key in found[0][1])


@pytest.mark.parametrize("recorded", [False, True])
def test_gradients_of_a_replayed_step_are_not_told(tmp_path, recorded):
    """They lie in the recording's memory: those of the modules are of an earlier step."""
    recipe = load_recipe(toy.RECIPE, ["train.epochs=6"], toy.registry())
    trainer = Trainer(assemble(recipe, CPU), RunFolder(tmp_path / "run"), load_registry([]).manager)
    if recorded:
        trainer.recorder = Recorder(trainer._step_on_device, "auto", Tape())
    trainer.run()
    trainer.ledger.write(("t/loss",), torch.tensor([torch.nan]))
    with pytest.raises(TrainingDiverged, match="term 'loss' of turn 't' is nan") as caught:
        trainer._read_ledger(19)
    assert ("gradient norms by module" in str(caught.value)) != recorded
