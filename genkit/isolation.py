"""Keeps what a module does while it is imported from harming others: prints, seeds, global settings.

Nothing here imports torch or numpy; what they hold is looked at where somebody else has imported them.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

SLOW = 2.0
"""Seconds from which a plugin that is loaded is called slow."""

_SHOWN = 100
_ABSENT = object()


@dataclass
class Conduct:
    """What code did while it was watched.

    Attributes:
        seconds: How long it took.
        printed: What it printed, which was kept from the terminal.
        changed: The global settings that it changed, which were put back, in words.
    """

    seconds: float = 0.0
    printed: str = ""
    changed: list[str] = field(default_factory=list)

    def complaints(self, slow: float | None = SLOW) -> list[str]:
        """What should not have been, as sentences without a subject.

        Args:
            slow: Seconds from which it was too slow; ``None`` where no time is too long.
        """
        found = []
        if slow is not None and self.seconds >= slow:
            found.append(f"took {self.seconds:.1f} s to load, which every command waits for")
        if self.printed.strip():
            text = " ".join(self.printed.split())
            found.append(f"printed {text[:_SHOWN] + '...' if len(text) > _SHOWN else text!r}")
        if self.changed:
            found.append(f"changed {', '.join(self.changed)}; that was put back")
        return found


class _Held:
    """A stream whose text is kept from it for a while; in all else, and afterwards, it is that stream."""

    def __init__(self, stream: Any, kept: list[str]) -> None:
        self._stream = stream
        self._kept: list[str] | None = kept

    def write(self, text: str) -> int:
        if self._kept is None:
            return self._stream.write(text)
        self._kept.append(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def let_go(self) -> None:
        """From now on text passes: a log handler that was made meanwhile writes to this for ever."""
        self._kept = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _output_kept() -> Iterator[list[str]]:
    kept: list[str] = []
    out, err = sys.stdout, sys.stderr
    held = [None if stream is None else _Held(stream, kept) for stream in (out, err)]
    sys.stdout, sys.stderr = held  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield kept
    finally:
        sys.stdout, sys.stderr = out, err
        for stream in held:
            if stream is not None:
                stream.let_go()


@contextlib.contextmanager
def watched() -> Iterator[Conduct]:
    """Watches the code within, holds back what it prints, and puts back what it changes for everybody."""
    conduct = Conduct()
    kept: list[str] = []
    before = {setting.name: setting.read() for setting in SETTINGS}
    began = time.perf_counter()
    try:
        with _output_kept() as kept:
            yield conduct
    finally:
        conduct.seconds = time.perf_counter() - began
        conduct.printed = "".join(kept)
        conduct.changed = [setting.name for setting in SETTINGS if setting.put_back(before[setting.name])]


@dataclass(frozen=True)
class Setting:
    """Something that the whole process shares.

    Attributes:
        name: What it is called in messages.
        library: The module that must have been imported for it to be there.
        get: Reads it.
        set: Writes it.
        fresh: What it is right after the library's import; ``None`` where that is not known.
    """

    name: str
    library: str
    get: Callable[[Any], Any]
    set: Callable[[Any, Any], Any]
    fresh: Callable[[Any], Any] | None = None

    def read(self) -> Any:
        """Its value; a mark of its own where its library is not there yet, or it cannot be read."""
        module = sys.modules.get(self.library)
        try:
            return _ABSENT if module is None else self.get(module)
        except Exception:  # half a library whose import failed, a folder that is gone
            return _ABSENT

    def put_back(self, before: Any) -> bool:
        """Writes an earlier value, or a fresh one; returns whether it had to."""
        module, now = sys.modules.get(self.library), self.read()
        if module is None or (before is _ABSENT and self.fresh is None):
            return False
        with contextlib.suppress(Exception):
            wanted = self.fresh(module) if before is _ABSENT and self.fresh is not None else before
            if now is not _ABSENT and _same(now, wanted):
                return False
            self.set(module, wanted)
            return True
        return False


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool((one == other).all()) if getattr(one, "shape", ()) else one == other


def _backends(torch: Any) -> tuple[Any, ...]:
    """Whose precision of float32 products can be set, the one that others fall back on first."""
    backends = torch.backends
    return backends, backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul


def _precision(torch: Any) -> tuple[str, ...]:
    """The older name of the setting first, which torch refuses to read where the newer ones were written."""
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:
        older = ""
    return older, *(backend.fp32_precision for backend in _backends(torch))


def _set_precision(torch: Any, values: tuple[str, ...]) -> None:
    older, *newer = values
    if older:
        torch.set_float32_matmul_precision(older)
    for backend, value in zip(_backends(torch), newer, strict=True):
        backend.fp32_precision = value


def _unseeded(torch: Any) -> Any:
    """The state of torch's generator before anybody drew from it; of one that somebody seeded, a new one's.

    Torch seeds it with 64 random bits. People's seeds are smaller numbers.
    """
    seed = torch.initial_seed()
    return torch.Generator().manual_seed(seed if seed >= 2**32 else torch.Generator().seed()).get_state()


_ELSEWHERE = (
    Setting("Python's random numbers", "random", lambda m: random.getstate(), lambda m, value: random.setstate(value)),
    Setting("the working directory", "os", lambda m: os.getcwd(), lambda m, value: os.chdir(value)),
    Setting(
        "numpy's random numbers", "numpy", lambda m: m.random.get_state(), lambda m, value: m.random.set_state(value)
    ),
    Setting(
        "torch's random numbers",
        "torch",
        lambda m: m.default_generator.get_state(),
        lambda m, value: m.default_generator.set_state(value),
        _unseeded,
    ),
)
"""What is not torch's own setting: where random numbers come from, and the working directory."""

TORCH = (
    Setting(
        "torch's default dtype",
        "torch",
        lambda m: m.get_default_dtype(),
        lambda m, value: m.set_default_dtype(value),
        lambda m: m.float32,
    ),
    Setting(
        "torch's default device",
        "torch",
        lambda m: m.get_default_device(),
        lambda m, value: m.set_default_device(None if value.type == "cpu" else value),
        lambda m: m.device("cpu"),
    ),
    Setting(
        "torch's grad mode",
        "torch",
        lambda m: m.is_grad_enabled(),
        lambda m, value: m._C._set_grad_enabled(value),
        lambda m: True,
    ),
    Setting("torch's precision of float32 products", "torch", _precision, _set_precision),
    Setting(
        "torch's anomaly detection",
        "torch",
        lambda m: m.is_anomaly_enabled(),
        lambda m, value: m.autograd.set_detect_anomaly(value),
        lambda m: False,
    ),
    Setting(
        "torch's cudnn benchmark",
        "torch",
        lambda m: m.backends.cudnn.benchmark,
        lambda m, value: setattr(m.backends.cudnn, "benchmark", value),
        lambda m: False,
    ),
    Setting(
        "torch's deterministic algorithms",
        "torch",
        lambda m: m.are_deterministic_algorithms_enabled(),
        lambda m, value: m.use_deterministic_algorithms(value),
        lambda m: False,
    ),
    Setting("torch's number of threads", "torch", lambda m: m.get_num_threads(), lambda m, v: m.set_num_threads(v)),
)
"""Torch's global settings."""

SETTINGS = (*_ELSEWHERE, *TORCH)
"""All that code must leave as it is for others in the process."""
