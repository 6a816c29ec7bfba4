"""Maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from genkit import Batch, GenerativeModel, HasLogProb, Loss, Objective, Turn
from genkit.objective import MODEL


class MaximumLikelihood(Objective):
    r"""The mean negative log-likelihood of the data, the loss of every model that can say one.

    .. math:: \mathcal{L} = -\frac{1}{B} \sum_{b=1}^B \log p(x_b)

    Exact or a bound, as the model's ``log_prob`` is: for a flow of continuous data it is the likelihood itself, for one
    of discrete data the bound of its dequantization, for a variational autoencoder the negative evidence lower bound
    with one latent. Its minimum over all models is the data's entropy. It is logged as ``nll``, in nats per example.

    References:
        Papamakarios et al.: Normalizing Flows for Probabilistic Modeling and Inference, JMLR 2021, arXiv 1912.02762,
        section 2.3.1.
    """

    requires = (HasLogProb,)

    def __init__(self, model: GenerativeModel, /) -> None:
        super().__init__()

    def players(self, model: GenerativeModel) -> Mapping[str, Sequence[nn.Parameter]]:
        """One player, who moves the whole model."""
        return {MODEL: list(model.parameters())}

    def turns(self, model: GenerativeModel) -> Sequence[Turn]:
        """One turn."""
        return [Turn(MODEL, MODEL, lambda batch, progress: self.loss(model, batch), units={"nll": "nats"})]

    def loss(self, model: GenerativeModel, batch: Batch) -> Loss:
        """The loss on one batch, nats per example."""
        assert isinstance(model, HasLogProb)
        nll = -model.log_prob(batch.x).nats.mean()
        return Loss(nll, {"nll": nll})
