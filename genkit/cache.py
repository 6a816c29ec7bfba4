"""Where genkit keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """A folder in the user's cache folder, ``~/.cache/genkit/...`` where nothing else is set; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").joinpath("genkit", *parts)
