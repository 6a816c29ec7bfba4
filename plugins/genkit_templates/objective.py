"""The maximum mean discrepancy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import PositiveFloat
from torch import Tensor, nn

from genkit import Batch, GenerativeModel, Loss, Objective, SamplesDifferentiably, Turn
from genkit.objective import MODEL


class Template(Objective):
    r"""The maximum mean discrepancy between samples and data: a distance that needs neither a likelihood nor a critic.

    .. math:: \mathrm{MMD}^2 = \mathbb{E}\, k(x, x') + \mathbb{E}\, k(y, y') - 2\, \mathbb{E}\, k(x, y), \qquad
        k(x, y) = \left(1 + \frac{\|x - y\|^2}{2 s^2}\right)^{-1}

    where :math:`x` is data, :math:`y` are samples, and expectations are means over all pairs of a batch. It is 0 only
    where both distributions are the same. Any model will do whose samples carry gradients: what it ``requires``.

    Args:
        scale: The distance :math:`s` at which the kernel's likeness falls off, in units of the data.

    References:
        Li, Swersky and Zemel: Generative Moment Matching Networks, ICML 2015, arXiv 1502.02761. Gretton et al.: A
        Kernel Two-Sample Test, JMLR 2012, equation 5 (the estimate, its pairs of equal examples included).

    Example:
        >>> import torch
        >>> x = torch.randn(5, 2)
        >>> round(abs(discrepancy(x, x, scale=1.0).item()), 6)
        0.0
    """

    requires = (SamplesDifferentiably,)
    examples = ({}, {"scale": 0.3})

    def __init__(self, model: GenerativeModel, /, *, scale: PositiveFloat = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def players(self, model: GenerativeModel) -> Mapping[str, Sequence[nn.Parameter]]:
        """One player, who moves what samples depend on."""
        assert isinstance(model, SamplesDifferentiably)
        return {MODEL: list(model.sampling_parameters())}

    def turns(self, model: GenerativeModel) -> Sequence[Turn]:
        """One turn in each step."""
        return [Turn(MODEL, MODEL, lambda batch, progress: self.loss(model, batch))]

    def loss(self, model: GenerativeModel, batch: Batch) -> Loss:
        """The squared discrepancy of as many samples as the batch has examples, without a unit."""
        assert isinstance(model, SamplesDifferentiably)
        mmd = discrepancy(batch.x, model.rsample(len(batch.x)), self.scale)
        return Loss(mmd, {"mmd": mmd})


def discrepancy(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """The squared discrepancy of two sets with shapes :math:`(B, *S)` and :math:`(N, *S)`, with shape :math:`()`."""
    return kernel(x, x, scale).mean() + kernel(y, y, scale).mean() - 2 * kernel(x, y, scale).mean()


def kernel(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """How alike all pairs of two sets are, with shape :math:`(B, N)`; heavy tails, so that gradients reach far."""
    squares = (x.flatten(1)[:, None] - y.flatten(1)[None]).square().sum(2)
    return 1 / (1 + squares / (2 * scale**2))
