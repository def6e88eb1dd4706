# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Figures of negation on made embeddings whose right values are known by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from monai_mgca.metrics import NegationMetric, compute_negation, compute_queries
from monai_mgca.metrics.bootstrap import resample_counts

NAN = float("nan")


def test_who_reads_no_is_right_of_all_and_who_does_not_of_half():
    """An image lies on the first axis where it has the finding and on the second where it has not."""
    image = np.eye(2)[[0, 0, 1, 1, 1, 1]]
    labels = np.array([1.0, 1, 0, 0, 0, 0])[:, None]
    stated, denied, deaf = np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([0.9, 0.1])
    reads = compute_negation((image @ (stated - denied))[:, None], labels, ["edema"])
    assert reads == {"mean_balanced_accuracy": 1, "balanced_accuracy_edema": 1, "mean_auroc": 1, "auroc_edema": 1}
    same = compute_negation((image @ (deaf - deaf))[:, None], labels, ["edema"])
    assert same["balanced_accuracy_edema"] == 0  # as near to both is nearer to neither
    assert same["auroc_edema"] == 0.5
    always = compute_negation((image @ (stated + denied))[:, None], labels, ["edema"])
    assert always["balanced_accuracy_edema"] == 0.5


def test_by_hand():
    """Two of three with the finding are right, and one of two without it."""
    difference = np.array([0.3, 0.1, -0.2, -0.1, 0.2, 9.0])[:, None]
    labels = np.array([1, 1, 1, 0, 0, NAN])[:, None]
    found = compute_negation(difference, labels, ["a b"])
    assert found["balanced_accuracy_a_b"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["auroc_a_b"] == pytest.approx(roc_auc_score([1, 1, 1, 0, 0], difference[:5, 0]))


def test_a_finding_without_both_labels_has_no_figure_and_is_no_part_of_the_mean():
    labels = np.array([[1.0, 1], [0, 1], [0, NAN]])
    found = compute_negation(np.array([[0.1, 0.1], [-0.1, 0.1], [-0.1, 0.1]]), labels, ["a", "b"])
    assert found["mean_balanced_accuracy"] == 1
    assert np.isnan(found["balanced_accuracy_b"])
    nothing = compute_queries(np.zeros((3, 1)), np.full((3, 1), NAN), ["a"], bootstrap=3)
    assert np.isnan(nothing["mean_precision"])


def test_metric_takes_batches_and_equals_the_whole():
    rng = np.random.default_rng(0)
    difference, labels = rng.normal(size=(40, 2)), rng.integers(0, 2, (40, 2)).astype(float)
    metric = NegationMetric(["a", "b"], bootstrap=20)
    for part in np.array_split(np.arange(40), 3):
        metric(torch.as_tensor(difference[part]), torch.as_tensor(labels[part]))
    assert metric.aggregate() == pytest.approx(compute_negation(difference, labels, ["a", "b"], bootstrap=20))


def test_queries_by_hand():
    similarity = np.array([0.9, 0.8, 0.7, 0.1, 0.95])[:, None]
    labels = np.array([1.0, 0, 1, 1, NAN])[:, None]
    found = compute_queries(similarity, labels, ["a"], count=2)
    assert found["precision_a"] == 0.5  # the unknown one does not count
    assert found["prevalence_a"] == 0.75
    assert compute_queries(similarity, labels, ["a"], count=10)["precision_a"] == 0.75  # fewer than ten there are


def test_bootstrap_equals_a_loop_over_the_same_resamples():
    rng = np.random.default_rng(1)
    scores, labels = rng.permutation(30).astype(float)[:, None], rng.integers(0, 2, 30).astype(float)[:, None]
    order = np.lexsort(np.concatenate((labels, scores), axis=1).T)
    rows = [np.repeat(order, times) for counts in resample_counts(30, 50, 0) for times in counts]
    for function, kind in ((compute_queries, "precision_a"), (compute_negation, "balanced_accuracy_a")):
        centered = scores - 15.5
        found = function(centered, labels, ["a"], bootstrap=50)
        each = [function(centered[own], labels[own], ["a"])[kind] for own in rows]
        assert (found[f"{kind}_low"], found[f"{kind}_high"]) == pytest.approx(np.percentile(each, (2.5, 97.5)))
