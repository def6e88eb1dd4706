# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""AUROC and average precision of zero-shot classification, class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from monai_mgca.metrics.bootstrap import with_intervals
from monai_mgca.metrics.classification import ClassificationMetric, compute_classification

__all__ = ["ZeroShotMetric", "compute_zero_shot"]

BINS = 10


class ZeroShotMetric(ClassificationMetric):
    """What can be said of probabilities that nothing was trained for: do they rank, do they decide, are they true.

    To AUROC and average precision of :class:`ClassificationMetric` it adds those that hang on the values themselves:
    the balanced accuracy at a threshold, and the expected calibration error (Naeini et al. 2015).

    Args:
        classes: names of the findings.
        bootstrap: number of replicates; 0 gives no intervals.
        seed: of the bootstrap.
        thresholds: from which on a finding is taken for present; 0.5 of those that it does not name.

    Example::

        metric = ZeroShotMetric(["edema", "effusion"])
        metric(torch.tensor([[0.9, 0.2], [0.1, 0.7]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        print(metric.aggregate()["mean_balanced_accuracy"])  # 1.0
    """

    def __init__(
        self,
        classes: Sequence[str],
        bootstrap: int = 0,
        seed: int = 0,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(classes, bootstrap=bootstrap, seed=seed)
        self.thresholds = thresholds

    def _measure(self, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return compute_zero_shot(scores, labels, self.classes, self.bootstrap, self.seed, self.thresholds)


def compute_zero_shot(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    bootstrap: int = 0,
    seed: int = 0,
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """The figures of :class:`ZeroShotMetric` for a whole set.

    Args:
        probabilities: (N, C), 0 to 1.
        labels: (N, C) of 0 and 1, nan where unknown.
        classes: C names.
        bootstrap: number of replicates.
        seed: of the bootstrap.
        thresholds: by class, from which on the finding is taken for present; 0.5 of those that it does not name.

    Returns:
        What :func:`compute_classification` gives, and in the same way "balanced_accuracy_CLASS", the mean of
        sensitivity and specificity where the threshold and more is taken for the finding, "ece_CLASS", the mean
        distance of probability and truth in ten bins of equal width, weighted by their images, and the means of both
        over the classes that have both values.

    Raises:
        ValueError: when a probability is not a number.

    Example::

        labels = np.array([[1.0], [0], [0], [1]])
        print(compute_zero_shot(np.array([[0.9], [0.2], [0.6], [0.4]]), labels, ["edema"])["ece_edema"])  # 0.375
    """
    result = compute_classification(probabilities, labels, classes, bootstrap=bootstrap, seed=seed)
    # as there: the draws are the same however many processes saw the images
    order = np.lexsort(np.concatenate((labels, probabilities), axis=1).T)
    probabilities, labels = probabilities[order], labels[order]
    lowest = [(thresholds or {}).get(name, 0.5) for name in classes]
    return result | with_intervals(
        lambda weights: _figures(probabilities, labels, weights, classes, lowest), len(labels), bootstrap, seed
    )


def _figures(
    probabilities: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    classes: Sequence[str],
    lowest: Sequence[float],
) -> dict[str, np.ndarray]:
    """Each figure for each weighting (R, N) of the images."""
    known = ~np.isnan(labels)
    columns = [
        _column(probabilities[rows, i], labels[rows, i], weights[:, rows], lowest[i]) for i, rows in enumerate(known.T)
    ]
    there = [len(np.unique(labels[rows, i])) > 1 for i, rows in enumerate(known.T)]
    figures = {}
    for kind, values in zip(("balanced_accuracy", "ece"), np.moveaxis(np.array(columns), 1, 0), strict=True):
        some = values[there]
        figures[f"mean_{kind}"] = some.mean(0) if len(some) else np.full(len(weights), np.nan)
        figures |= {f"{kind}_{name.replace(' ', '_')}": row for name, row in zip(classes, values, strict=True)}
    return figures


def _column(
    probability: np.ndarray, label: np.ndarray, weights: np.ndarray, lowest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Balanced accuracy and calibration error (R,) of one finding; nan where a weighting lacks a value, or all."""
    right = (probability >= lowest) == label
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = np.eye(BINS)[bins] * (probability - label)[:, None]  # (N, bins)
    with np.errstate(invalid="ignore"):
        rates = [weights @ (right * mask) / (weights @ mask) for mask in (label == 1, label == 0)]
        return sum(rates) / 2, np.abs(weights @ gaps).sum(1) / weights.sum(1)
