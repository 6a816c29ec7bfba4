"""Keeps what a module does while it is imported from harming others: prints, seeds, global settings.

Nothing here imports torch or numpy; what they hold is looked at where somebody else has imported them.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def watched() -> Iterator[Conduct]:
    """Watches the code within, holds back what it prints, and puts back what it changes for everybody."""
    conduct, output = Conduct(), io.StringIO()
    before = {setting.name: setting.read() for setting in _SETTINGS}
    began = time.perf_counter()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            yield conduct
    finally:
        conduct.seconds = time.perf_counter() - began
        conduct.printed = output.getvalue()
        conduct.changed = [setting.name for setting in _SETTINGS if setting.put_back(before[setting.name])]


@dataclass(frozen=True)
class _Setting:
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
        """Its value; a mark of its own where its library is not there yet."""
        module = sys.modules.get(self.library)
        return _ABSENT if module is None else self.get(module)

    def put_back(self, before: Any) -> bool:
        """Writes an earlier value, or a fresh one; returns whether it had to."""
        module = sys.modules.get(self.library)
        if module is None or (before is _ABSENT and self.fresh is None):
            return False
        with contextlib.suppress(AttributeError):  # an import that failed leaves half a library
            wanted = self.fresh(module) if before is _ABSENT and self.fresh is not None else before
            if _same(self.get(module), wanted):
                return False
            self.set(module, wanted)
            return True
        return False


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool((one == other).all()) if getattr(one, "shape", ()) else one == other


def _unseeded(torch: Any) -> Any:
    """The state of torch's generator before anybody drew from it; of one that somebody seeded, a new one's.

    Torch seeds it with 64 random bits. People's seeds are smaller numbers.
    """
    seed = torch.initial_seed()
    return torch.Generator().manual_seed(seed if seed >= 2**32 else torch.Generator().seed()).get_state()


_SETTINGS = (
    _Setting("Python's random numbers", "random", lambda m: random.getstate(), lambda m, value: random.setstate(value)),
    _Setting("the working directory", "os", lambda m: os.getcwd(), lambda m, value: os.chdir(value)),
    _Setting(
        "numpy's random numbers", "numpy", lambda m: m.random.get_state(), lambda m, value: m.random.set_state(value)
    ),
    _Setting(
        "torch's random numbers",
        "torch",
        lambda m: m.default_generator.get_state(),
        lambda m, value: m.default_generator.set_state(value),
        _unseeded,
    ),
    _Setting(
        "torch's default dtype",
        "torch",
        lambda m: m.get_default_dtype(),
        lambda m, value: m.set_default_dtype(value),
        lambda m: m.float32,
    ),
    _Setting(
        "torch's default device",
        "torch",
        lambda m: m.get_default_device(),
        lambda m, value: m.set_default_device(None if value.type == "cpu" else value),
        lambda m: m.device("cpu"),
    ),
    _Setting(
        "whether torch records gradients",
        "torch",
        lambda m: m.is_grad_enabled(),
        lambda m, value: m._C._set_grad_enabled(value),
        lambda m: True,
    ),
    _Setting(
        "torch's precision of matrix products",
        "torch",
        lambda m: m.get_float32_matmul_precision(),
        lambda m, value: m.set_float32_matmul_precision(value),
        lambda m: "highest",
    ),
    _Setting(
        "whether torch is deterministic",
        "torch",
        lambda m: m.are_deterministic_algorithms_enabled(),
        lambda m, value: m.use_deterministic_algorithms(value),
        lambda m: False,
    ),
    _Setting("torch's number of threads", "torch", lambda m: m.get_num_threads(), lambda m, v: m.set_num_threads(v)),
)
