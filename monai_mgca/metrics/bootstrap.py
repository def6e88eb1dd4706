# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Confidence intervals of metrics by resampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

__all__ = ["mean_with_interval", "resample_counts", "weighted_auroc_and_ap", "with_intervals"]

# numbers in one array at a time: replicates times images
_CHUNK = 4_000_000


def resample_counts(num_images: int, replicates: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each image is drawn in each bootstrap replicate: as many draws as images, with replacement.

    Args:
        num_images: N.
        replicates: R.
        seed: of the draws.

    Yields:
        (r, N) counts of a few replicates at a time, R rows in all.

    Example::

        print(sum(len(counts) for counts in resample_counts(num_images=10, replicates=100)))  # 100
    """
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // num_images)
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        drawn = generator.integers(num_images, size=(rows, num_images)) + num_images * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * num_images).reshape(rows, num_images)


def weighted_auroc_and_ap(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision for many weightings of the same images, sorted once.

    Args:
        scores: (N,), higher where the class is more likely.
        labels: (N,) of 0 and 1.
        weights: (R, N), not negative; all ones give the plain values, counts of a resampling those of a replicate.

    Returns:
        Two arrays (R,), nan where a weighting has no positive or no negative. Equal scores are one threshold, as in
        scikit-learn.

    Example::

        print(weighted_auroc_and_ap(np.array([0.1, 0.9]), np.array([0, 1]), np.ones((1, 2)))[0])  # [1.]
    """
    if not len(scores):
        nothing = np.full(len(weights), np.nan)
        return nothing, nothing
    order = np.argsort(-scores, kind="stable")
    first = np.flatnonzero(np.diff(scores[order], prepend=np.inf))  # of equal scores
    weights = weights[:, order].astype(np.float64)
    positive = np.add.reduceat(weights * labels[order], first, axis=1)
    negative = np.add.reduceat(weights, first, axis=1) - positive
    true, false = positive.cumsum(1), negative.cumsum(1)
    all_true, all_false = true[:, -1], false[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        # of all pairs, those where the positive scores higher, and half of the ties
        auroc = (negative * (true - positive / 2)).sum(1) / (all_true * all_false)
        precision = np.where(positive > 0, true / (true + false), 0)
        ap = np.where(all_false > 0, (positive * precision).sum(1) / all_true, np.nan)
    return auroc, ap


def with_intervals(
    figures: Callable[[np.ndarray], Mapping[str, np.ndarray]], num_images: int, replicates: int, seed: int = 0
) -> dict[str, float]:
    """Figures of a set of images, with bootstrap confidence intervals.

    Args:
        figures: gives for (R, N) weights of the images each figure as (R,) numbers, nan where it has none.
        num_images: N.
        replicates: of the bootstrap; 0 gives no intervals.
        seed: of the draws.

    Returns:
        Each figure of the whole set, and with a bootstrap also NAME_low and NAME_high, the 2.5 and 97.5 percentiles
        over the replicates that have it.

    Example::

        right = np.array([True, False, True, True])
        print(with_intervals(lambda weights: {"accuracy": (weights * right).mean(1)}, num_images=4, replicates=100))
    """
    plain = figures(np.ones((1, num_images)))
    result = {name: float(values[0]) for name, values in plain.items()}
    parts = [figures(weights) for weights in resample_counts(num_images, replicates, seed)]
    for name in plain if parts else ():
        values = np.concatenate([part[name] for part in parts])
        values = values[~np.isnan(values)]
        low, high = np.percentile(values, (2.5, 97.5)) if len(values) else (np.nan, np.nan)
        result |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return result


def mean_with_interval(values: np.ndarray, name: str, replicates: int, seed: int = 0) -> dict[str, float]:
    """The mean of numbers of images, as :func:`with_intervals` gives it.

    Args:
        values: (N,), one an image, in any order; nan ones are left out.
        name: of the mean.
        replicates: of the bootstrap; 0 gives no interval.
        seed: of the draws.

    Example::

        print(mean_with_interval(np.array([0.5, 1.0, np.nan]), "dice", replicates=0))  # {'dice': 0.75}
    """
    known = np.sort(values[~np.isnan(values)])  # the draws do not depend on the images' order
    if not len(known):
        return {name: np.nan, **({f"{name}_low": np.nan, f"{name}_high": np.nan} if replicates else {})}
    return with_intervals(lambda weights: {name: weights @ known / len(known)}, len(known), replicates, seed)
