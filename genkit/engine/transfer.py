"""Brings batches to the device."""

from __future__ import annotations

import torch
from torch import Tensor


class Transfer:
    """Copies tensors to a device; to a GPU beside what it computes.

    Nobody waits: the loop hands the GPU a step and comes for the next batch while that step is computed, so that
    the copy is over when the batch is used. It goes through a stream of its own, on which the step to come waits.

    Args:
        device: Where tensors go.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; what is there already stays what it is."""
        if self.stream is None or not tensor.is_cpu:
            return tensor.to(self.device)
        with torch.cuda.stream(self.stream):
            copied = tensor.to(self.device, non_blocking=True)
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self.stream)
        copied.record_stream(current)  # else its memory could take the next copy while it is still read
        return copied
