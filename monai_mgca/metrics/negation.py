# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Whether an image is nearer to what is said where a finding is there than to its denial, and what a query finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_mgca.metrics.bootstrap import weighted_auroc_and_ap, with_intervals
from monai_mgca.metrics.classification import ClassificationMetric

__all__ = ["NegationMetric", "compute_negation", "compute_queries"]


class NegationMetric(ClassificationMetric):
    """Balanced accuracy and AUROC of a sentence against its negation.

    An image that has the finding must be nearer to the sentence that states it, and one that has not to the sentence
    that denies it. A model that does not read "no" has a balanced accuracy of 0.5.

    Args:
        classes: names of the findings.
        bootstrap: number of replicates; 0 gives no intervals.
        seed: of the bootstrap.

    Example::

        metric = NegationMetric(["edema"])
        # similarity to "there is edema" less that to "there is no edema"
        metric(torch.tensor([[0.2], [-0.1]]), torch.tensor([[1.0], [0.0]]))
        print(metric.aggregate()["mean_balanced_accuracy"])  # 1.0
    """

    def __init__(self, classes: Sequence[str], bootstrap: int = 0, seed: int = 0) -> None:
        super().__init__(classes, bootstrap=bootstrap, seed=seed)

    def _measure(self, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return compute_negation(scores, labels, self.classes, self.bootstrap, self.seed)


def compute_negation(
    difference: np.ndarray, labels: np.ndarray, classes: Sequence[str], bootstrap: int = 0, seed: int = 0
) -> dict[str, float]:
    """The figures of :class:`NegationMetric` for a whole set.

    Args:
        difference: (N, C), an image's similarity to the affirmed sentence less that to the negated one. None of both
            is nearer where it is 0, which is wrong for every label.
        labels: (N, C) of 0 and 1, nan where unknown.
        classes: C names.
        bootstrap: number of replicates of the images.
        seed: of the bootstrap.

    Returns:
        "balanced_accuracy_CLASS", the mean of the parts of the images with and without the finding that are nearer to
        the right sentence, "auroc_CLASS" of the difference (blanks of a name as underscores), and the means over the
        classes that have both labels, "mean_balanced_accuracy" and "mean_auroc"; with a bootstrap each also with "_low"
        and "_high", the 2.5 and 97.5 percentiles.

    Example::

        labels = np.array([[1.0], [0], [0], [1]])
        print(compute_negation(np.array([[0.2], [-0.1], [0.1], [0.3]]), labels, ["edema"])["balanced_accuracy_edema"])
        # 0.75
    """

    def column(difference: np.ndarray, label: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        right = np.where(label == 1, difference > 0, difference < 0)
        with np.errstate(invalid="ignore"):
            rates = [weights @ (right & side) / (weights @ side) for side in (label == 1, label == 0)]
        return {
            "balanced_accuracy": (rates[0] + rates[1]) / 2,
            "auroc": weighted_auroc_and_ap(difference, label, weights)[0],
        }

    return _by_class(column, difference, labels, classes, bootstrap, seed)


def compute_queries(
    similarity: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    count: int = 10,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, float]:
    """What a query for each finding has among its first images.

    Args:
        similarity: (N, C) of each image to each query.
        labels: (N, C) of 0 and 1, nan where unknown, which are left out.
        classes: C names.
        count: of the first images.
        bootstrap: number of replicates of the images.
        seed: of the bootstrap.

    Returns:
        As :func:`compute_negation`: "precision_CLASS", the part of the first images that has the finding, "auroc_CLASS"
        and "prevalence_CLASS", what chance would have.

    Example::

        labels = np.array([[1.0], [0], [0], [1]])
        print(compute_queries(np.array([[0.9], [0.7], [0.1], [0.2]]), labels, ["edema"], count=2)["precision_edema"])
        # 0.5
    """

    def column(score: np.ndarray, label: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        order = np.argsort(-score, kind="stable")
        drawn = weights[:, order]
        first = np.clip(count - (drawn.cumsum(1) - drawn), 0, drawn)
        return {
            "precision": first @ label[order] / first.sum(1),
            "prevalence": weights @ label / weights.sum(1),
            "auroc": weighted_auroc_and_ap(score, label, weights)[0],
        }

    return _by_class(column, similarity, labels, classes, bootstrap, seed)


def _by_class(
    column, scores: np.ndarray, labels: np.ndarray, classes: Sequence[str], bootstrap: int, seed: int
) -> dict[str, float]:
    """Figures of each class that has both labels, over the images whose label is known, and their means."""
    order = np.lexsort(np.concatenate((labels, scores), axis=1).T)  # the draws do not depend on the images' order
    scores, labels = scores[order], labels[order]
    known = ~np.isnan(labels)
    both = [len(np.unique(labels[rows, i])) > 1 for i, rows in enumerate(known.T)]

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        columns = [column(scores[rows, i], labels[rows, i], weights[:, rows]) for i, rows in enumerate(known.T)]
        found = {}
        for kind in columns[0]:
            values = np.array(
                [own[kind] if there else own[kind] * np.nan for own, there in zip(columns, both, strict=True)]
            )
            found[f"mean_{kind}"] = values[both].mean(0) if any(both) else np.full(len(weights), np.nan)
            found |= {f"{kind}_{name.replace(' ', '_')}": row for name, row in zip(classes, values, strict=True)}
        return found

    return with_intervals(figures, len(labels), bootstrap, seed)
