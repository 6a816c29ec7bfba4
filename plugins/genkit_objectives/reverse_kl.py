"""The reverse divergence: fitting a model to an energy, without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import NonNegativeFloat
from torch import Tensor, nn

from genkit import Batch, Dataset, GenerativeModel, HasEnergy, Loss, Objective, Progress, SamplesWithLogProb, Turn
from genkit.objective import MODEL
from genkit.registry import installed

COLDEST = 0.01  # weight of the energy at the start of a warm-up


class ReverseKL(Objective):
    r"""The divergence of the model :math:`q` from a target known by its energy, :math:`p(x) = e^{-U(x)} / Z`.

    .. math:: \mathcal{F} = \mathbb{E}_{q(x)}[\log q(x) + U(x)] = \mathrm{KL}(q \,\|\, p) - \ln Z

    The expectation is over samples of the model, as many as the batch has examples; the data itself is not used. What
    is logged as ``free_energy`` is :math:`\mathcal{F}` in nats: no model gets below :math:`-\ln Z`. Where the energy's
    :math:`\ln Z` is known, ``reverse_kl`` is the divergence itself, in nats, whose floor is 0.

    The divergence is reverse: a model is punished for going where the target has nothing, not for leaving out a mode
    that it has.

    Args:
        warmup_epochs: Epochs over which the energy's weight in the loss rises from 0.01 to 1, as
            :math:`\min(1, 0.01 + \mathrm{epoch} / \mathrm{warmup\_epochs})`; the terms always have weight 1.

    References:
        Rezende and Mohamed: Variational Inference with Normalizing Flows, ICML 2015, arXiv 1505.05770, equations 15
        (free energy) and 20 (annealing), section 6.1 (energies in the plane).
    """

    requires = (SamplesWithLogProb,)

    def __init__(self, model: GenerativeModel, /, *, warmup_epochs: NonNegativeFloat = 0.0) -> None:
        super().__init__()
        if model.spec.levels is not None:
            raise ValueError(
                "an energy is that of a density, which takes continuous data, but the data has "
                f"{model.spec.describe_values()}"
            )
        self.warmup_epochs = warmup_epochs
        self.target: HasEnergy | None = None

    def prepare(self, dataset: Dataset) -> None:
        """Takes the target's energy.

        Raises:
            ValueError: The dataset has none.
        """
        if not isinstance(dataset, HasEnergy) or not dataset.finite_energy:
            able = ", ".join(with_energy()) or "none that is installed"
            raise ValueError(
                "needs data whose energy is known and finite everywhere, which that of "
                f"{type(dataset).__name__} is not; datasets that would do: {able}"
            )
        self.target = dataset

    def players(self, model: GenerativeModel) -> Mapping[str, Sequence[nn.Parameter]]:
        """One player, who moves what samples depend on."""
        assert isinstance(model, SamplesWithLogProb)
        return {MODEL: list(model.sampling_parameters())}

    def turns(self, model: GenerativeModel) -> Sequence[Turn]:
        """One turn."""
        units = {"free_energy": "nats", "reverse_kl": "nats"}
        return [Turn(MODEL, MODEL, lambda batch, progress: self.loss(model, batch, progress), units=units)]

    def loss(self, model: GenerativeModel, batch: Batch, progress: Progress) -> Loss:
        """The loss over as many samples as the batch has examples, nats per sample."""
        assert isinstance(model, SamplesWithLogProb)
        assert self.target is not None, "prepare comes first"
        x, log_q = model.rsample_with_log_prob(len(batch.x))
        entropy, energy = -log_q.mean(), self.target.energy(x).mean()
        terms = {"free_energy": energy - entropy}
        if self.target.log_partition is not None:
            terms["reverse_kl"] = terms["free_energy"] + self.target.log_partition
        return Loss(self.weight(progress) * energy - entropy, terms)

    def weight(self, progress: Progress) -> Tensor | float:
        """The weight of the energy at this point of training."""
        if not self.warmup_epochs:
            return 1.0
        return (COLDEST + progress.epoch / self.warmup_epochs).clamp(max=1)


def with_energy() -> list[str]:
    """The names of the installed datasets whose energy is known and finite everywhere."""
    classes = {r.name: r.load() for r in installed().components("dataset")}
    return [name for name, cls in classes.items() if issubclass(cls, HasEnergy) and cls.finite_energy]
