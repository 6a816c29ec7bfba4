r"""The adversarial losses. Throughout, :math:`D` is a score; :math:`\sigma(D)` is the probability of real data."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import relu, softplus

from genkit_gan.loss import AdversarialLoss


def cross_entropy(real: Tensor, fake: Tensor, real_label: float) -> Tensor:
    r"""What a classifier of real and drawn examples minimizes, from logits.

    .. math:: -\mathbb{E}_x [l \log \sigma(D(x)) + (1 - l) \log (1 - \sigma(D(x)))] - \mathbb{E}_z \log(1 - \sigma(D(g(z))))

    Example:
        >>> import torch
        >>> round(cross_entropy(torch.zeros(3), torch.zeros(3), 1.0).item(), 4)  # 2 ln 2
        1.3863
    """  # noqa: E501
    real_part = real_label * softplus(-real) + (1 - real_label) * softplus(real)
    return real_part.mean() + softplus(fake).mean()


class Minimax(AdversarialLoss):
    r"""The original game: the model minimizes exactly what the critic maximizes.

    .. math:: V = \mathbb{E}_x \log \sigma(D(x)) + \mathbb{E}_z \log (1 - \sigma(D(g(z))))

    The model's gradient vanishes where the critic is sure (it saturates).

    References:
        Goodfellow et al.: Generative Adversarial Nets, NeurIPS 2014, arXiv 1406.2661, equation 1.
    """

    labels = True
    log_ratio = True

    def critic_loss(self, real: Tensor, fake: Tensor, real_label: float = 1.0) -> Tensor:
        """The value, negated."""
        return cross_entropy(real, fake, real_label)

    def model_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """The part of the value that depends on the model."""
        return -softplus(fake).mean()


class NonSaturating(AdversarialLoss):
    r"""The game that is played in practice: the model maximizes the probability of being taken for real.

    .. math:: L_g = -\mathbb{E}_z \log \sigma(D(g(z)))

    References:
        Goodfellow et al.: Generative Adversarial Nets, NeurIPS 2014, arXiv 1406.2661, section 3.
    """

    labels = True
    log_ratio = True

    def critic_loss(self, real: Tensor, fake: Tensor, real_label: float = 1.0) -> Tensor:
        """That of the minimax game."""
        return cross_entropy(real, fake, real_label)

    def model_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Large where the critic is sure, with a gradient that does not vanish there."""
        return softplus(-fake).mean()


class LeastSquares(AdversarialLoss):
    r"""Squared distances from the labels 0 and 1.

    .. math:: L_D = \tfrac12 \mathbb{E}_x (D(x) - 1)^2 + \tfrac12 \mathbb{E}_z D(g(z))^2, \qquad
        L_g = \tfrac12 \mathbb{E}_z (D(g(z)) - 1)^2

    References:
        Mao et al.: Least Squares Generative Adversarial Networks, ICCV 2017, arXiv 1611.04076, equation 9.
    """

    labels = True
    boundary = 0.5

    def critic_loss(self, real: Tensor, fake: Tensor, real_label: float = 1.0) -> Tensor:
        """Distances from the labels."""
        return ((real - real_label).square().mean() + fake.square().mean()) / 2

    def model_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Distance of samples from the label of real data."""
        return (fake - 1).square().mean() / 2


class Hinge(AdversarialLoss):
    r"""Margins of 1 around a score of 0.

    .. math:: L_D = \mathbb{E}_x [1 - D(x)]_+ + \mathbb{E}_z [1 + D(g(z))]_+, \qquad L_g = -\mathbb{E}_z D(g(z))

    References:
        Lim and Ye: Geometric GAN, 2017, arXiv 1705.02894. Miyato et al.: Spectral Normalization for Generative
        Adversarial Networks, ICLR 2018, arXiv 1802.05957, equations 16 and 17.
    """

    def critic_loss(self, real: Tensor, fake: Tensor, real_label: float = 1.0) -> Tensor:
        """What is within the margins, or beyond the wrong one."""
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def model_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Scores of samples, negated."""
        return -fake.mean()


class Wasserstein(AdversarialLoss):
    r"""The difference of mean scores: a distance between distributions, if the critic is 1-Lipschitz.

    .. math:: L_D = \mathbb{E}_z D(g(z)) - \mathbb{E}_x D(x), \qquad L_g = -\mathbb{E}_z D(g(z))

    Nothing here bounds the critic: add ``gradient_penalty`` or ``spectral_norm``, and several critic steps.

    References:
        Arjovsky, Chintala and Bottou: Wasserstein Generative Adversarial Networks, ICML 2017, arXiv 1701.07875,
        equation 3.
    """

    boundary = None

    def critic_loss(self, real: Tensor, fake: Tensor, real_label: float = 1.0) -> Tensor:
        """The distance, negated."""
        return fake.mean() - real.mean()

    def model_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """The part of the distance that depends on the model."""
        return -fake.mean()


class Relativistic(AdversarialLoss):
    r"""Each sample is judged beside a real example: only the difference of their scores counts (RpGAN).

    .. math:: L_D = \mathbb{E}_{x, z}\, \mathrm{softplus}(D(g(z)) - D(x)), \qquad
        L_g = \mathbb{E}_{x, z}\, \mathrm{softplus}(D(x) - D(g(z)))

    Converges with ``r1`` and ``r2``.

    References:
        Jolicoeur-Martineau: The relativistic discriminator, ICLR 2019, arXiv 1807.00734, section 4.1.
        Huang et al.: The GAN is dead; long live the GAN! (R3GAN), NeurIPS 2024, arXiv 2501.05441, equation 2.
    """

    compares = True
    log_ratio = True
    boundary = None

    def critic_loss(self, real: Tensor, fake: Tensor, real_label: float = 1.0) -> Tensor:
        """Large where a sample scores above its real partner."""
        return softplus(fake - real).mean()

    def model_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Large where a sample scores below its real partner."""
        assert real is not None, "a loss that compares is given the scores of real data"
        return softplus(real - fake).mean()
