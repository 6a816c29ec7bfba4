"""A mixture of normals fitted to latents."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from genkit import Decodes, GenerativeModel, GenkitError, LatentVariable, Objective, Views
from genkit_latents.latent_sampler import LatentSampler, Output

Covariance = Literal["full", "tied", "diag", "spherical"]


class GaussianMixture(LatentSampler):
    r"""Fits a mixture of normals to the latents of the training data, draws from it and decodes.

    .. math:: z \sim \sum_{k=1}^K \pi_k\, \mathcal{N}(\mu_k, \Sigma_k), \qquad x \sim p(x \mid z)

    In the prior's place it closes the gap between the prior and where the latents of examples lie, without training
    anything anew. It changes nothing in the model: likelihoods are still under the model's own prior.

    Fitted is by expectation and maximization, anew for whatever draws samples. A fit that has not settled after
    ``iterations`` steps serves as it is: each step only made the latents likelier.

    Args:
        components: How many normals, :math:`K`.
        covariance: "full" for any covariance of each, "tied" for any that they share, "diag" for independent
            dimensions, "spherical" for one variance.
        latents: What it is fitted to: "draw" for a draw from each posterior, "mean" for the posteriors' means, as in
            the paper, whose autoencoders have nothing else.
        examples: Training examples to fit to at most; ``null`` for all.
        iterations: Steps of expectation and maximization at most.
        output: "draw" for draws from the likelihood, noise included; "mean" for its mean.

    References:
        Ghosh et al.: From Variational to Deterministic Autoencoders, ICLR 2020, arXiv 1903.12436, section 4.
    """

    examples = ({}, {"components": 2, "covariance": "diag", "latents": "mean", "output": "mean"})

    def __init__(
        self,
        model: GenerativeModel,
        objective: Objective,
        /,
        *,
        components: PositiveInt = 10,
        covariance: Covariance = "full",
        latents: Literal["draw", "mean"] = "draw",
        examples: PositiveInt | None = 10_000,
        iterations: PositiveInt = 100,
        output: Output = "draw",
    ) -> None:
        super().__init__(model, examples, output)
        self.components = components
        self.covariance: Covariance = covariance
        self.latents = latents
        self.iterations = iterations
        self._seen: tuple[Tensor, int] | None = None
        self._mixture: Normals | None = None

    def fit(self, data: Views) -> None:
        """Takes the latents of the training data, and a seed; the mixture is fitted when something is drawn.

        Many an evaluator draws nothing, and would wait in vain.

        Raises:
            GenkitError: There are no training data, or fewer than components, or their latents are not finite.
        """
        z = torch.cat([self._latents(x).flatten(1) for x in self.training_examples(data)])  # (N, D)
        if len(z) < self.components:
            raise GenkitError(
                f"gaussian_mixture: {self.components} components need as many training examples, and there are "
                f"{len(z)}; use fewer components"
            )
        if not torch.isfinite(z).all():
            raise GenkitError("gaussian_mixture: latents of the training data are not finite; the model has diverged")
        self._seen, self._mixture = (z, int(torch.randint(2**31, ()))), None

    @property
    def mixture(self) -> Normals:
        """The mixture, which depends on nothing but what :meth:`fit` was given.

        Raises:
            GenkitError: Nothing was given yet, or no mixture can be fitted to it.
        """
        if self._seen is None:
            raise GenkitError("gaussian_mixture is not fitted to any training data; fit comes before sample")
        if self._mixture is None:
            self._mixture = self._fitted(*self._seen)
        return self._mixture

    def draw_latents(self, num_samples: int) -> Tensor:
        """Draws from the mixture."""
        assert isinstance(self.model, Decodes)
        return self.mixture.sample(num_samples).view(num_samples, *self.model.latent_shape)

    def _latents(self, x: Tensor) -> Tensor:
        assert isinstance(self.model, LatentVariable)
        q = self.model.posterior(x)
        return q.mean if self.latents == "mean" else q.rsample()

    def _fitted(self, z: Tensor, seed: int) -> Normals:
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  (only who fits waits for it)
        from sklearn.mixture import GaussianMixture as Fit  # noqa: PLC0415

        kind: Any = self.covariance
        fit = Fit(self.components, covariance_type=kind, max_iter=self.iterations, random_state=seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # what was reached by then serves
                fit.fit(z.cpu().double().numpy())
        except ValueError as error:
            raise GenkitError(
                f"gaussian_mixture: {self.components} components of covariance={self.covariance} cannot be fitted to "
                "these latents, which have next to no spread in some direction; use fewer components, or "
                "covariance=diag"
            ) from error
        weights, means, covariances = map(torch.as_tensor, (fit.weights_, fit.means_, fit.covariances_))
        roots = ROOTS[self.covariance](covariances, self.components, z.shape[1])
        return Normals(weights.to(z), means.to(z), roots.to(z))


@dataclass(frozen=True)
class Normals:
    r"""A mixture of normals in :math:`D` dimensions.

    Attributes:
        weights: With shape :math:`(K,)`.
        means: With shape :math:`(K, D)`.
        roots: Lower triangular :math:`L_k` with :math:`\Sigma_k = L_k L_k^\top`, with shape :math:`(K, D, D)`.
    """

    weights: Tensor
    means: Tensor
    roots: Tensor

    def sample(self, num_samples: int) -> Tensor:
        """Draws with shape :math:`(N, D)`; one root at a time, so that memory does not grow with their number."""
        k = torch.multinomial(self.weights, num_samples, replacement=True)  # (N,)
        z, noise = self.means[k], torch.randn_like(self.means[k])
        for number, root in enumerate(self.roots):
            own = k == number
            z[own] += noise[own] @ root.T
        return z


#: The triangular roots of what scikit-learn gives for each sort of covariance, of K normals in D dimensions.
ROOTS: Mapping[Covariance, Callable[[Tensor, int, int], Tensor]] = {
    "full": lambda covariances, k, d: torch.linalg.cholesky(covariances),
    "tied": lambda covariance, k, d: torch.linalg.cholesky(covariance).expand(k, d, d),
    "diag": lambda variances, k, d: torch.diag_embed(variances.sqrt()),
    "spherical": lambda variances, k, d: torch.diag_embed(variances.sqrt()[:, None].expand(k, d)),
}
