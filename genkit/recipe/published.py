"""What a recipe says of a published figure: whether it can be said, and the values that are held against a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from genkit.errors import closest
from genkit.recipe.recipe import Published
from genkit.recipe.source import KeyPath, dotted, walk

EPOCHS = "train.epochs"
APART = ("published", "served_by")  # sections that say nothing of how a recipe is trained and judged
AWAY = "published: null is for a recipe that is compared with nothing"


def problems(published: Published, plain: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with the section, each with its place.

    Args:
        published: The section.
        plain: The resolved recipe that it stands in, as plain values.
    """
    entry, entries = published.figure.partition("/")[0], plain.get("evaluate", {})
    if entry not in entries:
        yield ("published", "figure"), f"no evaluator goes by {entry!r}{closest(entry, entries)}; {AWAY}"
    known = said(plain)
    for key, value in published.protocol.items():
        place = ("published", "protocol", key)
        if key not in known:
            hint = closest(key, known).partition(" (allowed")[0]
            yield place, f"the resolved recipe has no such key{hint}; {AWAY}"
        elif key == EPOCHS and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            yield place, f"a whole number of epochs is wanted, {value!r} given"


def said(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What a resolved recipe says, by dotted keys; a component stands for its name.

    Example:
        >>> said({"train": {"optimizer": {"use": "adam", "lr": 0.1}, "dims": [8, 8]}})
        {'train.optimizer': 'adam', 'train.optimizer.use': 'adam', 'train.optimizer.lr': 0.1, 'train.dims': [8, 8], \
'train.dims.0': 8, 'train.dims.1': 8}
    """
    own = {key: value for key, value in plain.items() if key not in APART}
    below = ((dotted(path), _name(value)) for path, value in walk(own) if path)
    return {key: value for key, value in below if not isinstance(value, Mapping)}


def _name(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get("use", value)
    return [_name(item) for item in value] if isinstance(value, list | tuple) else value
