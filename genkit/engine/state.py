"""Everything that the rest of a run depends on, taken from a trainer and given back to one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from genkit.engine.checkpoint import Checkpoint, load_weights
from genkit.engine.judge import Best
from genkit.engine.seeds import random_states, restore_random_states
from genkit.engine.shards import on_host
from genkit.events import Record

if TYPE_CHECKING:
    from genkit.engine.loop import Trainer


BUFFER = "buffer."
"""What the names of a process's own buffers begin with in a checkpoint."""


@dataclass
class Position:
    """The place in training.

    Attributes:
        epoch: Epochs completed.
        step_in_epoch: Steps taken of the next one.
        judged: Epochs completed when the evaluators were last called; -1 before the first time.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    judged: int = -1

    @property
    def is_judged(self) -> bool:
        """Whether it lies between two epochs, the first of them judged."""
        return self.step_in_epoch == 0 and self.judged == self.epoch


def capture(trainer: Trainer, reason: str) -> Checkpoint:
    """A checkpoint of a trainer between two steps.

    Args:
        trainer: The trainer.
        reason: Why it is taken; ``epoch`` where an epoch's checkpoint is due.
    """
    assembly, judge = trainer.assembly, trainer.judge
    streams = trainer.world.gather(random_states(assembly.device) | own_buffers(trainer))
    state = {f"random.{k}": v for k, v in streams[0].items() if not k.startswith(BUFFER)}
    state |= {f"rank.{rank}.{k}": v for rank, own in enumerate(streams[1:], 1) for k, v in own.items()}
    state |= {f"objective.{k}": v for k, v in assembly.parts.objective.state_dict().items()}
    numbers: dict[str, Any] = {}
    for name, player in assembly.players.items():
        tensors, numbers[name] = player.state()
        state |= {f"optimizer.{name}.{k}": v for k, v in tensors.items()}
    if trainer.ema is not None:
        state |= {f"trained.{k}": v for k, v in assembly.parts.model.state_dict().items()}
    state |= {f"evaluator.{entry}/{k}": v for entry, own in judge.evaluator_states().items() for k, v in own.items()}
    facts = {
        "reason": reason,
        "recipe": assembly.recipe.to_plain(),
        "position": asdict(trainer.position),
        "best": None if judge.best is None else asdict(judge.best),
        "ranking": [asdict(best) for best in judge.ranking],
        "ledger": trainer.ledger.state(),
        "started": trainer.started,
        "averaging": trainer.ema is not None and trainer.ema.started,
        "latest": [asdict(record) for record in trainer.latest.values()],
        "history": [asdict(record) for records in judge.history.values() for record in records],
        "optimizers": {name: player.optimizer_kind for name, player in assembly.players.items()},
        "optimizer_numbers": numbers,
    }
    kept = trainer.world.leader
    return Checkpoint(on_host(trainer.judged_model.state_dict(), kept), on_host(state, kept), facts)


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Puts a trainer back to where a checkpoint was taken.

    Raises:
        CheckpointError: It belongs to another recipe.
    """
    assembly, judge = trainer.assembly, trainer.judge
    state, facts = checkpoint.state, checkpoint.facts
    model, objective = assembly.parts.model, assembly.parts.objective
    load_weights(trainer.judged_model, checkpoint.weights, "this recipe's model")
    if trainer.ema is not None:
        load_weights(model, below("trained.", state), "this recipe's model")
        trainer.ema.started = facts["averaging"]
    load_weights(objective, below("objective.", state), "this recipe's objective")
    for name, player in assembly.players.items():
        if facts["optimizers"].get(name) == player.optimizer_kind:
            player.load_state(below(f"optimizer.{name}.", state), facts["optimizer_numbers"][name])
        else:
            warnings.warn(f"the optimizer of player {name!r} is another one: it starts anew", stacklevel=4)
    trainer.position = Position(**facts["position"])
    trainer.started = facts["started"]
    trainer.ledger.load_state(facts["ledger"])
    trainer.latest = {(r["split"], r["name"]): Record(**r) for r in facts["latest"]}
    judge.ranking = judge.eligible([Best(**best) for best in facts["ranking"]])
    judge.remember([Record(**r) for r in facts["history"]])
    judge.load_evaluator_states({entry: below(f"evaluator.{entry}/", state) for entry in assembly.parts.evaluators})
    stream = below(f"rank.{trainer.world.rank}." if trainer.world.rank else "random.", state)
    if stream:
        restore_random_states(stream, assembly.device)
        buffers = own_buffers(trainer)
        for name, value in below(BUFFER, stream).items():
            buffers[BUFFER + name].copy_(value)
    else:  # there are more processes than there were
        trainer.seed_noise()


def own_buffers(trainer: Trainer) -> dict[str, Tensor]:
    """What each of several processes has gathered for itself since the last epoch: running statistics."""
    parts = trainer.assembly.parts
    owners = {"model": parts.model, "objective": parts.objective} if trainer.world.size > 1 else {}
    return {
        f"{BUFFER}{what}.{name}": buffer
        for what, owner in owners.items()
        for saved in (owner.state_dict(),)
        for name, buffer in owner.named_buffers()
        if name in saved
    }


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
