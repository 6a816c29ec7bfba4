"""What is said when a run breaks down."""

from __future__ import annotations

import math

from torch import nn

from genkit.engine.shards import total_norm

MOST = 6


def gradient_norms(*owners: nn.Module) -> str:
    """The norms of the last gradients by module: those that are not finite, then the largest.

    Example:
        >>> layers = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
        >>> for layer, value in zip(layers, (3.0, math.inf)):
        ...     layer.weight.grad = layer.weight.detach().new_full((1, 1), value)
        >>> gradient_norms(layers)
        'gradient norms by module: 1 inf, 0 3'
    """
    norms = []
    for name, module in (named for owner in owners for named in owner.named_modules()):
        gradients = [own.grad for own in module.parameters(recurse=False) if own.grad is not None]
        if gradients:
            norms.append((name or type(module).__name__, total_norm(gradients).item()))
    ordered = sorted(norms, key=lambda item: (math.isfinite(item[1]), -item[1]))
    shown = ", ".join(f"{name} {norm:.3g}" for name, norm in ordered[:MOST])
    more = f" and {len(ordered) - MOST} more" if len(ordered) > MOST else ""
    return f"gradient norms by module: {shown}{more}" if ordered else "there are no gradients yet"
