# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""How unlike the images of a training an image is: the distance of its features from theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

__all__ = ["OutlierScore", "fit_outlier_score", "shrunk_covariance"]

# axes that are kept: of 2048 features these are 2 MB
AXES = 256
# parts of the features, of which each is measured by the others
PARTS = 5


@dataclass(frozen=True, eq=False)
class OutlierScore:
    """Mahalanobis distance from the features of a training set, of a Gaussian with few axes of its own.

    It is of the features' square roots, with their signs: pooled activations have a long tail, by which some images of
    the training would be far from all others. The squared distance is the sum of the squares along the axes, each over
    its variance, and of the squared length of what is beside the axes, over its mean variance.

    Args:
        mean: (D,), of the roots.
        axes: (D, K), orthonormal; K = D where all are kept.
        variances: (K,), along the axes.
        residual: variance of each direction beside the axes; not used where there is none.
        threshold: the distance above which an image is unlike those of the training.

    Example::

        score = OutlierScore(torch.zeros(2), torch.eye(2), torch.tensor([1.0, 4.0]), 1.0, threshold=2.5)
        print(score.distances(torch.tensor([[9.0, 0.0], [0.0, -9.0]])))  # 3.0 and 1.5
    """

    mean: torch.Tensor
    axes: torch.Tensor
    variances: torch.Tensor
    residual: float
    threshold: float

    def distances(self, features: torch.Tensor) -> torch.Tensor:
        """
        Args:
            features: (N, D).

        Returns:
            (N,) float64, on the CPU: 0 at the training's mean, about the square root of D for one of its images.

        Raises:
            ValueError: when they are not of D numbers each.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"The score is of (N, {len(self.mean)}) features, got {tuple(features.shape)}.")
        apart = _roots(features) - self.mean.double()
        axes = self.axes.double()
        along = apart @ axes
        squared = (along**2 / self.variances.double()).sum(1)
        if axes.shape[1] < len(self.mean):
            squared += ((apart - along @ axes.T) ** 2).sum(1) / self.residual
        return squared.sqrt()

    def flags(self, distances: torch.Tensor) -> torch.Tensor:
        """(N,) distances -> (N,) bool: of an image that is unlike those of the training, or has no distance at all."""
        return ~(distances <= self.threshold)


def shrunk_covariance(features: torch.Tensor) -> torch.Tensor:
    """The covariance of features, drawn towards a multiple of the identity as much as their number asks for.

    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004: it can be inverted
    also where there are fewer images than features.

    Args:
        features: (N, D).

    Returns:
        (D, D) float64.

    Example::

        print(shrunk_covariance(torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0], [2.0, 3.0]])))  # the identity
    """
    number, size = features.shape
    apart = features.double() - features.double().mean(0)
    covariance = apart.T @ apart / number
    mean = covariance.diagonal().mean()
    # how uncertain the covariance is, and how far from a multiple of the identity
    spread = (covariance**2).sum()
    uncertainty = ((apart**2).sum(1) ** 2).mean() - spread
    dispersion = spread - size * mean**2
    uncertainty = torch.minimum(uncertainty / number, dispersion)
    share = uncertainty / dispersion if uncertainty > 0 else torch.zeros(())
    return (1 - share) * covariance + share * mean * torch.eye(size, dtype=torch.float64)


def fit_outlier_score(
    features: torch.Tensor, held_out: torch.Tensor | None = None, percentile: float = 95, axes: int = AXES
) -> OutlierScore:
    """Fit the distance to a training's features, and its threshold to images that no training has seen.

    Args:
        features: (N, D) of the training's images.
        held_out: (M, D) of other images like them; without, each fifth of the features is measured by the others,
            which is too near where the network was trained on all of them.
        percentile: of the held-out distances, at which the threshold is.
        axes: how many are kept at most, those of the largest variances.

    Raises:
        ValueError: for fewer than two images, features that are not finite, or that are all the same.

    Example::

        torch.manual_seed(0)
        score = fit_outlier_score(torch.randn(500, 8), torch.randn(200, 8))
        print(score.flags(score.distances(torch.randn(200, 8) + 9)).float().mean())  # 1
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"An outlier score takes (N, D) features of two images or more, got {tuple(features.shape)}.")
    score = _fit(features, axes)
    distances = torch.cat(list(_crossed(features, axes))) if held_out is None else score.distances(held_out)
    return replace(score, threshold=float(torch.quantile(distances, percentile / 100)))


def _roots(features: torch.Tensor) -> torch.Tensor:
    """(N, D) float64 on the CPU."""
    features = features.detach().cpu().double()
    return features.sign() * features.abs().sqrt()


def _crossed(features: torch.Tensor, axes: int) -> Iterator[torch.Tensor]:
    """The distances of each part from the others, in parts that lie together as the images of a patient do."""
    place = torch.arange(len(features)) * PARTS // len(features)
    for part in place.unique():
        others = features[place != part]
        yield _fit(others if len(others) > 1 else features, axes).distances(features[place == part])


def _fit(features: torch.Tensor, axes: int) -> OutlierScore:
    if not features.isfinite().all():
        raise ValueError("Features that are not finite have no distance.")
    roots = _roots(features)
    values, vectors = torch.linalg.eigh(shrunk_covariance(roots))
    if not values[-1] > 0:
        raise ValueError("The features of all images are the same: the network tells none from another.")
    # where features are always the same, as dead ones are, and nothing was shrunk
    values = values.clamp_min(float(values[-1]) * 1e-9).flip(0)
    kept, left = values[:axes], values[axes:]
    residual = float(left.mean()) if len(left) else 1.0
    directions = vectors.flip(1)[:, :axes].contiguous()
    return OutlierScore(roots.mean(0).float(), directions.float(), kept.float(), residual, float("inf"))
