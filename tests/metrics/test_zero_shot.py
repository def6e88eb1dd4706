# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import CalibrationErrorMetric
from sklearn.metrics import balanced_accuracy_score

from monai_mgca.metrics import ZeroShotMetric, compute_classification, compute_zero_shot
from monai_mgca.metrics.bootstrap import resample_counts, with_intervals

CLASSES = ["edema", "large nodule", "mass"]


def make_set(count=70, seed=0):
    """Probabilities, some on the bins' edges, that know something of the labels; some labels are unknown."""
    generator = np.random.default_rng(seed)
    labels = (generator.random((count, 3)) < (0.5, 0.3, 0.2)).astype(float)
    probabilities = np.clip(0.3 * labels + 0.7 * generator.random(labels.shape), 0, 1)
    probabilities[:6] = [[0, 1, 0.5], [1, 0, 0.1], [0.5, 0.5, 0.9], [0.1, 0.2, 0.3], [1, 1, 1], [0, 0, 0]]
    labels[generator.random(labels.shape) < 0.2] = np.nan
    return probabilities, labels


def slow_ece(probability, label):
    """Bin by bin."""
    total = 0.0
    for number in range(10):
        low, high = number / 10, (number + 1) / 10
        inside = [(p, y) for p, y in zip(probability, label, strict=True) if low <= p < high or p == high == 1]
        if inside:
            p, y = np.mean(inside, axis=0)
            total += len(inside) / len(label) * abs(p - y)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_slow_computation(seed):
    probabilities, labels = make_set(seed=seed)
    found = compute_zero_shot(probabilities, labels, CLASSES)
    accuracies, errors = [], []
    for i, name in enumerate(CLASSES):
        known = ~np.isnan(labels[:, i])
        p, y = probabilities[known, i], labels[known, i]
        accuracies.append(balanced_accuracy_score(y, p >= 0.5))
        errors.append(slow_ece(p, y))
        assert found[f"balanced_accuracy_{name.replace(' ', '_')}"] == pytest.approx(accuracies[-1])
        assert found[f"ece_{name.replace(' ', '_')}"] == pytest.approx(errors[-1])
    assert found["mean_balanced_accuracy"] == pytest.approx(np.mean(accuracies))
    assert found["mean_ece"] == pytest.approx(np.mean(errors))
    assert found.items() >= compute_classification(probabilities, labels, CLASSES).items()


def test_intervals_are_those_of_replicates_one_by_one():
    probabilities, labels = make_set(count=40)
    found = compute_zero_shot(probabilities, labels, CLASSES, bootstrap=40, seed=3)
    order = np.lexsort(np.concatenate((labels, probabilities), axis=1).T)
    sets = [order[np.repeat(np.arange(40), counts)] for counts in np.concatenate([*resample_counts(40, 40, 3)])]
    slow = [compute_zero_shot(probabilities[rows], labels[rows], CLASSES) for rows in sets]
    for name in ("ece_edema", "balanced_accuracy_large_nodule", "mean_ece", "auroc_mass"):
        expected = np.percentile([figures[name] for figures in slow], (2.5, 97.5))
        assert (found[f"{name}_low"], found[f"{name}_high"]) == pytest.approx(tuple(expected))


def test_calibrated_and_not():
    labels = np.array([1, 1, 1, 0] * 50, dtype=float)[:, None]
    assert compute_zero_shot(np.full((200, 1), 0.75), labels, ["a"])["ece_a"] == pytest.approx(0)
    assert compute_zero_shot(np.full((200, 1), 0.05), labels, ["a"])["ece_a"] == pytest.approx(0.7)


def test_a_class_of_one_value_leaves_the_means():
    probabilities, labels = make_set()
    labels[:, 1] = 0
    found = compute_zero_shot(probabilities, labels, CLASSES)
    assert np.isnan(found["balanced_accuracy_large_nodule"])
    assert found["mean_ece"] == pytest.approx((found["ece_edema"] + found["ece_mass"]) / 2)


def test_batches_are_joined():
    probabilities, labels = map(torch.from_numpy, make_set())
    metric = ZeroShotMetric(CLASSES, bootstrap=10)
    metric(probabilities[:30], labels[:30])
    metric(list(probabilities[30:]), list(labels[30:]))
    assert metric.aggregate() == compute_zero_shot(probabilities.numpy(), labels.numpy(), CLASSES, bootstrap=10)
    metric.reset()
    with pytest.raises(ValueError, match="has seen no data"):
        metric.aggregate()


def test_with_intervals_leaves_out_replicates_without_the_figure():
    def figures(weights):
        return {"first": np.where(weights[:, 0] > 0, weights[:, 0], np.nan), "none": np.full(len(weights), np.nan)}

    found = with_intervals(figures, num_images=4, replicates=200)
    assert (found["first"], found["first_low"]) == (1, 1)
    assert found["first_high"] >= 2
    assert np.isnan([found["none"], found["none_low"], found["none_high"]]).all()
    assert set(with_intervals(figures, num_images=4, replicates=0)) == {"first", "none"}


def test_calibration_error_is_monais():
    rng = np.random.default_rng(3)
    probabilities, labels = rng.random((300, 2)), (rng.random((300, 2)) < 0.4).astype(float)
    metric = CalibrationErrorMetric(num_bins=10, metric_reduction="none")
    metric(*(torch.from_numpy(values.T[None, :, :, None]) for values in (probabilities, labels)))  # images as pixels
    found = compute_zero_shot(probabilities, labels, ["a", "b"])
    assert [found["ece_a"], found["ece_b"]] == pytest.approx(metric.aggregate()[0].tolist(), rel=1e-6)
