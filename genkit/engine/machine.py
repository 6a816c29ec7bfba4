"""What this process may use of its machine: cores and memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch

MOST_WORKERS = 8
"""Workers that a recipe gets, however many cores there are, unless it asks for more."""


def usual_workers() -> int:
    """One worker for each core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(cores // local_ranks(), MOST_WORKERS))


def local_ranks() -> int:
    """Processes of one training on this machine, among which it is shared, as torch's launcher tells them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take, 0 if that is not known; ranks on one machine share the host's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([host_bytes(), *limits()]) // local_ranks()


def host_bytes() -> int:
    """What the system says is free, or all that there is where it does not say."""
    for line in _text(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def limits(membership: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """What containers and batch systems allow this process and those beside it: Linux's control groups, 1 and 2."""
    for line in _text(membership).splitlines():
        _, kinds, own = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root, name = (groups / "memory", "memory.limit_in_bytes") if kinds else (groups, "memory.max")
        for group in (PurePosixPath(own), *PurePosixPath(own).parents):
            limit = _text(root / group.relative_to("/") / name).strip()
            if limit.isdigit():  # else it is "max", or there is no such group here
                yield int(limit)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
