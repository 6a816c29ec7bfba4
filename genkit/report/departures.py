"""How a run's recipe departs from the protocol that a published figure was taken under, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from genkit.recipe.published import EPOCHS, said
from genkit.report.account import Account


def departures(run: Account) -> str:
    """What a reader must know before comparing a run with its paper; empty where it is compared with nothing.

    A run that is not at its end, or has no such figure, says that in any case.
    """
    parts = [*_unreached(run), *_from_protocol(run), *run.changes]
    if run.published is None or parts:
        return "; ".join(parts)
    return "none" if run.published.protocol else "the paper's protocol is not said"


def _unreached(run: Account) -> Iterator[str]:
    if not run.finished:
        yield f"unfinished: {run.epochs:,} of its {run.total_epochs:,} epochs are over"
    elif run.record is None:
        yield f"no figure {run.figure!r} on the test data" if run.figure else "no figure on the test data"
    elif run.published and run.published.unit and run.published.unit != run.record.unit:
        yield f"in {run.record.unit or 'no unit'}, not {run.published.unit}"


def _from_protocol(run: Account) -> Iterator[str]:
    protocol = run.published.protocol if run.published else {}
    ours = said(run.recipe)
    for key, value in protocol.items():
        if same(ours[key], value):
            continue
        if key == EPOCHS:
            yield f"{shown(ours[key])} of {shown(value)} epochs"
        else:
            yield f"{short(key, protocol)} {shown(ours[key])}, not {shown(value)}"


def same(one: Any, other: Any) -> bool:
    """Whether two values of a recipe are one: 1 is 1.0, but true is not 1."""
    if isinstance(one, list) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def shown(value: Any) -> str:
    """A value in words.

    Example:
        >>> shown(3280), shown(0.001), shown(True), shown(None), shown([200, 200]), shown("adam")
        ('3,280', '0.001', 'true', 'none', '[200, 200]', 'adam')
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def short(key: str, keys: Collection[str]) -> str:
    """The shortest end of a dotted key that tells it from others.

    Example:
        >>> short("model.encoder.hidden_dims", ["model.encoder.hidden_dims", "model.decoder.hidden_dims"])
        'encoder.hidden_dims'
        >>> short("train.optimizer.use", ["train.optimizer.use", "train.batch_size"])
        'optimizer'
    """
    words = key.removesuffix(".use").split(".")
    others = [other.removesuffix(".use").split(".") for other in keys if other != key]
    lengths = (n for n in range(1, len(words)) if all(other[-n:] != words[-n:] for other in others))
    return ".".join(words[-next(lengths, len(words)) :])
