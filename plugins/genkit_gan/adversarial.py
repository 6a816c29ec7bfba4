"""The adversarial objective."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from genkit import (
    Backbone,
    Batch,
    Factory,
    GenerativeModel,
    Loss,
    Objective,
    Progress,
    SamplesDifferentiably,
    Scores,
    Turn,
    use,
)
from genkit.objective import MODEL
from genkit_gan.critic import Critic
from genkit_gan.loss import AdversarialLoss
from genkit_gan.regularizer import (
    CriticInput,
    CriticLabels,
    CriticPenalty,
    CriticWeights,
    ModelPenalty,
    Regularizer,
    Scored,
)

R = TypeVar("R")
CRITIC = "critic"
DEFAULT_CRITIC = use("mlp", hidden_dims=[512, 256], activation="leaky_relu", dropout=0.3)


class Adversarial(Objective, Scores):
    r"""A game between a critic, which tells data from samples, and any model whose samples are differentiable.

    .. math:: \min_D L_D(D(x), D(g(z))), \qquad \min_g L_g(D(g(z)))

    The players are ``model``, who moves whatever the model's samples depend on, and ``critic``. Their turns go by
    ``generator`` and ``critic``. The critic's score, accuracy and the gradient norms of both are logged.

    Args:
        critic: The network that scores examples. It sees images in :math:`[-1, 1]`.
        loss: What both make of the scores.
        regularizers: What keeps the game in balance: any number of different ones.
        critic_steps: The critic's moves in one step, each on a new batch; the model makes one.
        first: Who moves first in a step.
        fresh_fakes: Whether each move draws samples of its own; if not, both moves of a step share theirs.

    References:
        Goodfellow et al.: Generative Adversarial Nets, NeurIPS 2014, arXiv 1406.2661, algorithm 1 (where the critic
        is first).
    """

    requires = (SamplesDifferentiably,)
    examples = (
        {},
        {"loss": "relativistic", "regularizers": ["r1", "r2", "instance_noise"], "critic_steps": 2},
        {"loss": "wasserstein", "regularizers": ["gradient_penalty", "packing", "diversity"], "first": "critic"},
        {"loss": "hinge", "regularizers": ["spectral_norm", "minibatch_stddev"]},
        {"loss": "least_squares", "regularizers": ["label_smoothing"], "fresh_fakes": False},
    )

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        critic: Factory[Backbone] = DEFAULT_CRITIC,
        loss: Factory[AdversarialLoss] = use("non_saturating"),
        regularizers: Sequence[Factory[Regularizer]] = (),
        critic_steps: PositiveInt = 1,
        first: Literal["generator", "critic"] = "generator",
        fresh_fakes: bool = True,
    ) -> None:
        super().__init__()
        if not fresh_fakes and critic_steps > 1:
            raise ValueError("fresh_fakes: false has both moves share one batch of samples, so critic_steps must be 1")
        names = [factory.name for factory in regularizers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"regularizer {name!r} is there {names.count(name)} times; once would do")
        self.loss = loss()
        self.critic_steps = critic_steps
        self.first = first
        self.regularizers = {factory.name: factory() for factory in regularizers}
        self.real_label = self._label(loss.name)
        inputs, weights = self._of(CriticInput).values(), self._of(CriticWeights).values()
        self.critic = Critic(model.spec, critic, tuple(inputs), tuple(weights))
        self._shared: deque[Tensor] | None = None if fresh_fakes else deque()

    def _of(self, place: type[R]) -> dict[str, R]:
        """The regularizers that act in one place, by name."""
        return {name: each for name, each in self.regularizers.items() if isinstance(each, place)}

    def _label(self, loss: str) -> float:
        for name, change in self._of(CriticLabels).items():
            if not self.loss.labels:
                raise ValueError(
                    f"{name} changes labels, and {loss} has none; minimax, non_saturating and least_squares do"
                )
            return change.real_label
        return 1.0

    @property
    def batch_multiple(self) -> int:
        """Examples that the critic judges together."""
        return self.critic.group

    def start(self, model: GenerativeModel, x: Tensor) -> None:
        """Shows the critic its first batch."""
        self.critic.network.start(self.critic.view(self.critic.rescale(x)))

    def score(self, x: Tensor) -> Tensor:
        """The critic's scores."""
        return self.critic(x)

    @property
    def log_ratio(self) -> bool:
        """Whether loss and regularizers make the score a log density ratio, example by example."""
        return self.loss.log_ratio and not self.critic.joint and self.real_label == 1

    def players(self, model: GenerativeModel) -> Mapping[str, Sequence[nn.Parameter]]:
        """The model's part that makes samples, and the critic."""
        assert isinstance(model, SamplesDifferentiably)
        return {MODEL: list(model.sampling_parameters()), CRITIC: list(self.critic.parameters())}

    def turns(self, model: GenerativeModel) -> Sequence[Turn]:
        """One move of the model and the critic's moves."""
        generator = Turn("generator", MODEL, lambda b, p: self.generator_loss(model, b, p), log_grad_norm=True)
        critic = Turn(CRITIC, CRITIC, lambda b, p: self.critic_loss(model, b, p), self.critic_steps, log_grad_norm=True)
        return [generator, critic] if self.first == "generator" else [critic, generator]

    def generator_loss(self, model: GenerativeModel, batch: Batch, progress: Progress) -> Loss:
        """What the model minimizes: the loss of as many samples as the batch has, and penalties."""
        fake = self.critic(self._fakes(model, len(batch.x), first=self.first == "generator"), progress)
        real = self.critic(batch.x, progress) if self.loss.compares else None
        terms = {"adversarial": self.loss.model_loss(fake, real)}
        terms |= {name: part.penalty(model, len(batch.x)) for name, part in self._of(ModelPenalty).items()}
        return Loss(total(terms), terms)

    def critic_loss(self, model: GenerativeModel, batch: Batch, progress: Progress) -> Loss:
        """What the critic minimizes: the loss of the batch beside as many samples, and penalties."""
        penalties = self._of(CriticPenalty)
        with contextlib.nullcontext() if self._shared is not None else torch.no_grad():
            fakes = self._fakes(model, len(batch.x), first=self.first == "critic").detach()
        real, fake = (self._scored(x, progress, track=bool(penalties)) for x in (batch.x, fakes))
        terms = {"adversarial": self.loss.critic_loss(real.scores, fake.scores, self.real_label)}
        terms |= {
            name: part.penalty(lambda x: self.critic.judge(x, progress), real, fake) for name, part in penalties.items()
        }
        figures = {
            "real": real.scores.mean(),
            "fake": fake.scores.mean(),
            "accuracy": self.loss.accuracy(real.scores, fake.scores),
        }
        return Loss(total(terms), {**terms, **figures})

    def _scored(self, x: Tensor, progress: Progress, *, track: bool) -> Scored:
        x = self.critic.rescale(x)
        x = x.detach().requires_grad_() if track else x
        return Scored(x, self.critic.judge(x, progress))

    def _fakes(self, model: GenerativeModel, count: int, *, first: bool) -> Tensor:
        """Samples with their graph: new ones, or those of the step's first move where they are shared."""
        assert isinstance(model, SamplesDifferentiably)
        if self._shared is None:
            return model.rsample(count)
        if first:
            self._shared.append(model.rsample(count))
            return self._shared[-1]
        return self._shared.popleft() if self._shared else model.rsample(count)


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of a loss's terms."""
    return torch.stack(list(terms.values())).sum()
