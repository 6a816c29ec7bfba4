"""What is asked of components that are torch modules: modes, moves, gradients, states that a checkpoint can hold."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from genkit.engine.checkpoint import Checkpoint, load_weights, read_checkpoint, write_checkpoint
from genkit.errors import CheckpointError
from genkit.testing.component import states
from genkit.testing.keeping import equal

M = TypeVar("M", bound=nn.Module)
#: What torch says where tensors lie on two devices.
MIXED = ("on the expected device", "all tensors to be on the same device", "must be on the same device")


def check_module(module: M, rebuild: Callable[[], M], what: str) -> M:
    """Checks what every component that is a torch module keeps, whatever it computes.

    Its modes reach all of its parts, nothing is hidden from torch, precision and device are changed as one, and a
    checkpoint, which is never a pickle, holds all that a second instance needs.

    Args:
        module: The component.
        rebuild: Builds another.
        what: How messages name it.

    Returns:
        The second instance, with the state of the first.

    Raises:
        AssertionError: It breaks the contract.
    """
    check_hidden(module, what)
    check_modes(module, what)
    check_precision(module, what)
    return check_state_round_trip(module, rebuild, what)


def check_modes(module: nn.Module, what: str) -> None:
    """``train()`` and ``eval()`` reach every part."""
    before = {name: part.training for name, part in module.named_modules()}
    for call, training in ((module.eval, False), (module.train, True)):
        call()
        deaf = [name or "itself" for name, part in module.named_modules() if part.training is not training]
        assert not deaf, f"{what}: {call.__name__}() does not reach {', '.join(deaf)}; an override must call super()"
    for name, part in module.named_modules():
        part.training = before[name]


def check_hidden(module: nn.Module, what: str) -> None:
    """No part with parameters is hidden from torch in a plain list, tuple or mapping."""
    known = {id(part) for part in module.modules()}
    for owner_name, owner in module.named_modules():
        for name, value in vars(owner).items():
            for part in _inside(value):
                found = id(part) in known or not any(True for _ in states(part))
                where = f"{owner_name}.{name}".lstrip(".")
                assert found, (
                    f"{what}: {where} hides a {type(part).__name__} in a plain {type(value).__name__}, where neither "
                    "train() and eval(), moves nor checkpoints reach it; use nn.ModuleList or nn.ModuleDict"
                )


def _inside(value: Any) -> Iterator[nn.Module]:
    """The modules in a plain list, tuple or mapping."""
    items = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
    yield from (item for item in items if isinstance(item, nn.Module))


def check_precision(module: nn.Module, what: str) -> None:
    """``double()`` reaches all parameters and buffers that hold fractions."""
    exact = copy.deepcopy(module).double()
    for name, value in states(exact):
        kept = not value.is_floating_point() or value.dtype == torch.float64
        assert kept, f"{what}: double() leaves {name} at {value.dtype}; do not override how a module is moved"


def check_device(module: M, call: Callable[[M, Sequence[Tensor]], Any], inputs: Sequence[Tensor], what: str) -> None:
    """Moved to another device, a module computes there.

    To torch's meta device, which every machine has, and to a GPU where there is one. On the meta device only what lies
    on two devices counts: not everything can be computed without values.

    Args:
        module: The component; it stays where it is.
        call: Computes something with a copy of it.
        inputs: What it computes from, moved with it.
        what: How messages name it.

    Raises:
        AssertionError: A part stays behind.
    """
    for device in ("meta", *(["cuda"] if torch.cuda.is_available() else [])):
        moved = copy.deepcopy(module).to(device)
        for name, value in states(moved):
            assert value.device.type == device, f"{what}: to({device!r}) leaves {name} on {value.device}"
        try:
            call(moved, [value.to(device) for value in inputs])
        except (RuntimeError, NotImplementedError) as error:
            _explain_move(moved, error, device, what)


def _explain_move(moved: nn.Module, error: Exception, device: str, what: str) -> None:
    text = str(error)
    if not any(words in text for words in MIXED):
        if device == "meta":
            return  # torch cannot carry out everything without values
        raise AssertionError(f"{what}: after to({device!r}) it fails: {text.partition(chr(10))[0]}") from error
    plain = [
        f"{owner_name}.{name}".lstrip(".")
        for owner_name, owner in moved.named_modules()
        for name, value in vars(owner).items()
        if isinstance(value, Tensor) and value.device.type != device
    ]
    hint = f"{', '.join(plain)} is a plain attribute; use nn.Buffer" if plain else "make tensors where the inputs are"
    raise AssertionError(f"{what}: after to({device!r}) a part stays behind: {hint} ({text})") from error


def check_gradients(
    module: nn.Module, parameters: Iterable[nn.Parameter], what: str, *, each_moves: bool = True
) -> None:
    """Every parameter has a finite gradient, and each of them, or at least one, a gradient that is not zero."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    moves: list[bool] = []
    for parameter in parameters:
        name = names.get(id(parameter), "a parameter")
        assert parameter.grad is not None, f"{what}: no gradient reaches {name}"
        assert torch.isfinite(parameter.grad).all(), f"{what}: the gradient of {name} is not finite"
        moves.append(bool(parameter.grad.abs().sum() > 0))
        assert moves[-1] or not each_moves, f"{what}: the gradient of {name} is zero"
    assert any(moves), f"{what}: all gradients are zero"


def shake(module: nn.Module, scale: float = 0.01) -> None:
    """Moves all parameters a little way from their start, where a layer may be zero and gradients vanish."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))


def check_state_round_trip(module: nn.Module, rebuild: Callable[[], M], what: str) -> M:
    """A second instance takes the state of the first from a checkpoint on disk; it is returned.

    The checkpoint is the engine's own: safetensors, nothing pickled. Tensors that share memory, or do not lie in one
    piece, come back as they were.
    """
    state = module.state_dict()
    for name, value in state.items():
        assert isinstance(value, Tensor), f"{what}: {name} in the state dict is no tensor, so no checkpoint can hold it"
    other = rebuild()
    try:
        load_weights(other, through_checkpoint(state), what)
    except (CheckpointError, RuntimeError, ValueError, NotImplementedError) as error:
        raise AssertionError(f"{what}: its state does not survive a checkpoint: {error}") from error
    restored = other.state_dict()
    for name, value in state.items():
        assert equal(restored[name], value), f"{what}: {name} does not survive a checkpoint"
    copy.deepcopy(module)
    return other


def through_checkpoint(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A state dict as it comes back from a checkpoint on disk."""
    with tempfile.TemporaryDirectory() as place:
        write_checkpoint(Path(place, "last"), Checkpoint(state))
        return read_checkpoint(Path(place, "last")).weights
