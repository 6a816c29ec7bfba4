"""No dequantization, for data that is continuous."""

from __future__ import annotations

from torch import Tensor

from genkit import DataSpec
from genkit_flow.dequantizer import Dequantizer


class NoDequantizer(Dequantizer):
    """Leaves continuous data as it is; discrete data is refused, since it has no density."""

    def __init__(self, spec: DataSpec, /) -> None:
        super().__init__(spec)
        if spec.levels is not None:
            raise ValueError(
                f"the data takes {spec.levels} discrete levels, where a density means nothing: it can grow without "
                "bound at each level; use dequantizer: uniform or variational"
            )

    @property
    def label(self) -> str:
        """Nothing is changed."""
        return ""

    def dequantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The data itself."""
        return x, x.new_zeros(len(x))

    def centre(self, x: Tensor) -> Tensor:
        """The data itself."""
        return x

    def quantize(self, y: Tensor) -> Tensor:
        """Images within their range, vectors as they are."""
        return y.clamp(0, 1) if self.spec.is_image else y
