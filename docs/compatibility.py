"""Writes compatibility.md from what fits together now: ``python docs/compatibility.py``.

With ``--check`` nothing is written; it ends with 1 if the page is not what would be written. Only components of
genkit's own distribution go into the page, whatever else is installed.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from genkit.plugin import ONLY
from genkit.registry import GROUP, OWN_DISTRIBUTION, Registry, load_registry
from genkit.testing.compatibility import Compatibility
from genkit.testing.compatibility_page import NO, YES, markdown

PAGE = Path(__file__).with_suffix(".md")
COMMAND = "python docs/compatibility.py"

SIZES = {"train": 32, "validation": 16, "test": 16}
GROUNDS = {
    "binary images": {"use": "mnist", "binarize": "threshold", **SIZES},
    "8-bit images": {"use": "mnist", **SIZES},
    "points in the plane": {"use": "mixture", **SIZES},
}
#: Options that change no verdict, but have networks, pictures and draws be small.
SMALL = {
    ("backbone", "mlp"): {"hidden_dims": [8]},
    ("backbone", "cnn"): {"channels": 4},
    ("backbone", "gated_cnn"): {"channels": 4},
    ("bijection", "spline_coupling"): {"bins": 2},
    ("feature_extractor", "classifier"): {"epochs": 1, "num_features": 4},
    ("sampler", "rejection"): {"burn_in": 500},
    ("sampler", "gaussian_mixture"): {"components": 2},
    ("evaluator", "density"): {"num_samples": 32, "size": 100, "grid": 16},
    ("evaluator", "kernel"): {"subsets": 2, "subset_size": 8},
    ("evaluator", "mode_coverage"): {"num_samples": 32},
    ("evaluator", "scatter"): {"num_samples": 32, "size": 100},
}
INTRODUCTION = f"""# Compatibility

A recipe swaps any component for another of its kind. Whether the new one fits is decided by what the model can do, by
what the data looks like, and by what the objective keeps; this page says what fits what among genkit's own components,
and why not otherwise. `genkit validate` says the same of a recipe before anything is trained, and names what would do.

- {YES} fits. A combination that fits is not only accepted: a test trains each one for two steps, with every evaluator
  that fits it.
- {NO} is refused, for the reason whose number stands beside it below the table. What is missing is a capability of the
  model (see [Concepts](concepts.md)) or a property of the data; another option of the same component often has it.

The page is written by `{COMMAND}` from the components that are registered; a test fails when it is not what
that command writes. `genkit.testing.compatibility` makes the same table of everything that is installed, yours
included:

```python
from genkit.testing.compatibility import Compatibility
from genkit.testing.compatibility_page import markdown

print(markdown(Compatibility({{"small digits": {{"use": "mnist", "train": 32, "validation": 16, "test": 16}}}})))
```
"""


def own_registry() -> Registry:
    """What genkit's own distribution brings."""
    entries = importlib.metadata.entry_points(group=GROUP)
    return load_registry(entry for entry in entries if entry.dist and entry.dist.name == OWN_DISTRIBUTION)


def page() -> str:
    """The page as it should be."""
    return f"{INTRODUCTION}\n{markdown(Compatibility(GROUNDS, registry=own_registry(), small=SMALL))}"


def main(arguments: Sequence[str]) -> int:
    """Writes the page, or compares it."""
    os.environ[ONLY] = OWN_DISTRIBUTION  # components that look for others like them find genkit's own
    text = page()
    if "--check" in arguments:
        if PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{PAGE.name} is not what the components say now: run {COMMAND}", file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
