"""The engine: one loop that trains and judges whatever a recipe combines."""

from genkit.engine.assembly import Assembly, assemble
from genkit.engine.device import choose_device
from genkit.engine.loop import Trainer

__all__ = ["Assembly", "Trainer", "assemble", "choose_device"]
