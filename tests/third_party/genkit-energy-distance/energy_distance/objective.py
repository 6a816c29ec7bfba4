"""The energy distance as an objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from energy_distance.estimate import estimate
from energy_distance.kernel import Kernel
from genkit import Batch, Factory, GenerativeModel, Loss, Objective, SamplesDifferentiably, Turn, use

PLAYER = "model"  # so that the objective can be summed with others that move the whole model


class EnergyDistance(Objective):
    r"""The squared distance between data and samples that a kernel defines: an adversary that need not be trained.

    .. math:: \mathcal{L} = \mathbb{E}\, k(x, x') + \mathbb{E}\, k(y, y') - 2\, \mathbb{E}\, k(x, y)

    with data :math:`x, x'` and as many samples :math:`y, y'` of the model as the batch has examples. Samples are drawn
    towards the data and pushed off each other, so that none stands for all. With the kernel ``euclidean`` it is the
    energy distance, with others the squared maximum mean discrepancy (MMD).

    The estimate is unbiased, so its gradient is: batches of a few hundred make it steady, not right. It is logged as
    ``squared_distance``, which can be a little below 0; ``attraction`` is :math:`\mathbb{E}\, k(x, y)` and
    ``repulsion`` :math:`\mathbb{E}\, k(y, y')`. A batch of one example has no pairs: then the first part, which no
    gradient comes from, is left out.

    Args:
        kernel: How alike two examples are.

    References:
        Székely and Rizzo: Energy Statistics, Journal of Statistical Planning and Inference 143 (2013). Gretton et al.:
        A Kernel Two-Sample Test, JMLR 13 (2012). Li, Swersky and Zemel: Generative Moment Matching Networks, ICML
        2015, arXiv 1502.02761. Dziugaite, Roy and Ghahramani: Training Generative Neural Networks via Maximum Mean
        Discrepancy Optimization, UAI 2015, arXiv 1505.03906.
    """

    requires = (SamplesDifferentiably,)
    examples = ({}, {"kernel": "gaussian"}, {"kernel": {"use": "laplacian", "scales": [0.5]}})

    def __init__(self, model: GenerativeModel, /, *, kernel: Factory[Kernel] = use("euclidean")) -> None:
        super().__init__()
        self.kernel = kernel()

    def players(self, model: GenerativeModel) -> Mapping[str, Sequence[nn.Parameter]]:
        """One player, who moves what samples depend on."""
        assert isinstance(model, SamplesDifferentiably)
        return {PLAYER: list(model.sampling_parameters())}

    def turns(self, model: GenerativeModel) -> Sequence[Turn]:
        """One turn."""
        return [Turn(PLAYER, PLAYER, lambda batch, progress: self.loss(model, batch))]

    def loss(self, model: GenerativeModel, batch: Batch) -> Loss:
        """The estimate on one batch and as many samples, but no fewer than two."""
        assert isinstance(model, SamplesDifferentiably)
        samples = model.rsample(max(len(batch.x), 2)).float()  # small differences of large means: no half precision
        found = estimate(self.kernel, batch.x, samples)
        terms = {"attraction": found.across, "repulsion": found.samples, "squared_distance": found.squared_distance}
        return Loss(found.squared_distance, terms)
