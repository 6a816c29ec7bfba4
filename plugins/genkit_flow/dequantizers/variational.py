"""Variational dequantization."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from genkit import DataSpec, use
from genkit_flow.bijections.multiscale import Bijections
from genkit_flow.chain import Chain
from genkit_flow.dequantizer import Dequantizer, refuse_continuous

COUPLING = {"mask": "checkerboard", "conditioner": {"use": "gated_cnn", "channels": 16}}
SMALL = {"use": "cnn", "channels": 8}
BIJECTIONS = (
    use("affine_coupling", **COUPLING),
    use("affine_coupling", **COUPLING, flip=True),
    use("affine_coupling", **COUPLING),
    use("affine_coupling", **COUPLING, flip=True),
)


class VariationalDequantizer(Dequantizer):
    r"""Noise from a flow that sees the data: a tighter bound than uniform noise gives.

    .. math:: u = \sigma(g(v; x)), \qquad v \sim \mathrm{Logistic}(0, 1)

    Where all of :math:`g` is the identity, as couplings are at their start, the noise is uniform. The bijections see
    the data as a context, images in :math:`[-1, 1]`.

    Args:
        bijections: The bijections that make :math:`g`, in the order from :math:`u` to the noise.

    References:
        Ho et al.: Flow++: Improving Flow-Based Generative Models with Variational Dequantization and Architecture
        Design, ICML 2019, arXiv 1902.00275, section 3.1.
    """

    examples = ({"bijections": [{"use": "affine_coupling", "mask": "checkerboard", "conditioner": SMALL}]},)

    def __init__(self, spec: DataSpec, /, *, bijections: Bijections = BIJECTIONS) -> None:
        super().__init__(spec)
        refuse_continuous("variational", spec)
        self.chain = Chain(bijections, spec.shape, spec.shape)
        if self.chain.one_way == "forward":
            raise ValueError(f"noise is drawn from latents to data, but {self.chain.why_one_way()}")
        self.tiny = torch.finfo(torch.float32).eps / 2

    @property
    def label(self) -> str:
        """By its name."""
        return "variational dequantization"

    def dequantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draws the noise from the flow."""
        v = torch.rand_like(x).clamp(self.tiny, 1 - self.tiny).logit()
        w, log_det = self.chain.inverse(v.view(len(x), *self.chain.out_shape), 2 * x - 1)
        log_q = _log_slopes(v) - log_det - _log_slopes(w)
        return self.within_cell(x, torch.sigmoid(w)), -self.log_cells - log_q


def _log_slopes(v: Tensor) -> Tensor:
    r"""The log-determinant of the sigmoid, :math:`\sum \log \sigma'(v)`, which is also the logistic log-density."""
    return (logsigmoid(v) + logsigmoid(-v)).flatten(1).sum(1)
