# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

from monai_mgca.metrics import ClassificationMetric, compute_classification
from monai_mgca.metrics.bootstrap import resample_counts, weighted_auroc_and_ap

CLASSES = ["edema", "large nodule", "mass"]


def make_set(count=80, unknown=0.2, ties=True, seed=0):
    """Scores that know something of the labels, some of them equal; of the last class positives are few."""
    generator = np.random.default_rng(seed)
    labels = (generator.random((count, 3)) < (0.5, 0.3, 0.1)).astype(float)
    scores = labels + 1.5 * generator.normal(size=labels.shape)
    if ties:
        scores = np.round(2 * scores) / 2
    labels[generator.random(labels.shape) < unknown] = np.nan
    return scores, labels


def slow_figures(scores, labels):
    """(classes, 2) by scikit-learn, on the known labels."""
    rows = []
    for x, y in zip(scores.T, labels.T, strict=True):
        known = ~np.isnan(y)
        both = len(np.unique(y[known])) == 2
        kinds = (roc_auc_score, average_precision_score)
        rows.append([kind(y[known], x[known]) if both else np.nan for kind in kinds])
    return np.array(rows)


@pytest.mark.parametrize("unknown", [0, 0.4])
@pytest.mark.parametrize("ties", [False, True])
def test_equals_sklearn(unknown, ties):
    for seed in range(20):
        scores, labels = make_set(unknown=unknown, ties=ties, seed=seed)
        found = compute_classification(scores, labels, CLASSES)
        expected = slow_figures(scores, labels)
        assert [found[f"auroc_{n.replace(' ', '_')}"] for n in CLASSES] == pytest.approx(expected[:, 0], nan_ok=True)
        assert [found[f"ap_{n.replace(' ', '_')}"] for n in CLASSES] == pytest.approx(expected[:, 1], nan_ok=True)
        assert [found["mean_auroc"], found["mean_ap"]] == pytest.approx(np.nanmean(expected, 0))


def test_batches_are_joined():
    scores, labels = map(torch.from_numpy, make_set(unknown=0.3))
    metric = ClassificationMetric(CLASSES)
    metric(scores[:30], labels[:30])
    metric(list(scores[30:]), list(labels[30:]))  # as MONAI's engines give decollated items
    assert metric.aggregate() == compute_classification(scores.numpy(), labels.numpy(), CLASSES)
    metric.reset()
    metric(scores[:50], labels[:50])
    assert metric.aggregate() == compute_classification(scores[:50].numpy(), labels[:50].numpy(), CLASSES)


def test_intervals_do_not_depend_on_the_order_of_the_images():
    scores, labels = make_set(count=50)
    order = np.random.default_rng(0).permutation(50)
    found = compute_classification(scores, labels, CLASSES, bootstrap=30)
    assert compute_classification(scores[order], labels[order], CLASSES, bootstrap=30) == pytest.approx(found)


def test_a_class_of_one_value_leaves_the_means():
    scores, labels = make_set(unknown=0)
    labels[:, 1] = 0
    found = compute_classification(scores, labels, CLASSES, bootstrap=20)
    assert np.isnan([found["auroc_large_nodule"], found["ap_large_nodule"], found["auroc_large_nodule_low"]]).all()
    assert found["mean_auroc"] == pytest.approx((found["auroc_edema"] + found["auroc_mass"]) / 2)
    assert found["mean_auroc_low"] < found["mean_auroc"] < found["mean_auroc_high"]
    labels[:] = np.nan
    assert all(np.isnan(value) for value in compute_classification(scores, labels, CLASSES).values())


def test_multiclass():
    generator = np.random.default_rng(0)
    labels = np.eye(3)[generator.integers(3, size=60)]
    scores = labels + generator.normal(size=labels.shape)
    found = compute_classification(scores, labels, CLASSES, "multiclass", bootstrap=50)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels.argmax(1), scores.argmax(1)))
    assert found["mean_auroc"] == pytest.approx(roc_auc_score(labels, scores, average="macro"))
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    assert "accuracy" not in compute_classification(scores, labels, CLASSES)


def test_bootstrap_equals_a_loop_over_the_same_resamples(monkeypatch):
    monkeypatch.setattr("monai_mgca.metrics.bootstrap._CHUNK", 2000)  # several parts
    scores, labels = make_set(count=60, seed=4)
    positive = np.flatnonzero(labels[:, 2] == 1)
    labels[positive[2:], 2] = 0
    found = compute_classification(scores, labels, CLASSES, bootstrap=100, seed=3)
    order = np.lexsort(np.concatenate((labels, scores), axis=1).T)
    scores, labels = scores[order], labels[order]
    replicates = []
    for counts in np.concatenate(list(resample_counts(60, 100, seed=3))):
        drawn = np.repeat(np.arange(60), counts)
        replicates.append(slow_figures(scores[drawn], labels[drawn]))
    replicates = np.array(replicates)
    assert np.isnan(replicates).any(), "the rare class is missing in some"
    for kind, values in (("auroc", replicates[..., 0]), ("ap", replicates[..., 1])):
        for name, column in zip([f"{kind}_{n}" for n in CLASSES], values.T, strict=True):
            low, high = np.nanpercentile(column, (2.5, 97.5))
            name = name.replace(" ", "_")
            assert [found[f"{name}_low"], found[f"{name}_high"]] == pytest.approx([low, high])
        low, high = np.nanpercentile(values.mean(1), (2.5, 97.5))
        assert [found[f"mean_{kind}_low"], found[f"mean_{kind}_high"]] == pytest.approx([low, high])


def test_resamples_are_draws_of_all_images():
    counts = np.concatenate(list(resample_counts(50, 400, seed=1)))
    assert counts.shape == (400, 50)
    assert (counts.sum(1) == 50).all()
    # binomial with a mean of 1 and a variance of 1 - 1 / 50
    assert counts.var(0).mean() == pytest.approx(0.98, abs=0.05)
    assert np.array_equal(counts, np.concatenate(list(resample_counts(50, 400, seed=1))))
    assert not np.array_equal(counts, np.concatenate(list(resample_counts(50, 400, seed=2))))


def test_weights_are_repetitions():
    scores, labels = make_set(unknown=0)
    weights = np.random.default_rng(0).integers(0, 4, len(scores))
    found = weighted_auroc_and_ap(scores[:, 0], labels[:, 0], weights[None])
    drawn = np.repeat(np.arange(len(scores)), weights)
    assert np.ravel(found) == pytest.approx(slow_figures(scores[drawn, :1], labels[drawn, :1])[0])


class TestErrors:
    def test_shapes(self):
        with pytest.raises(ValueError, match=r"\(B, 3\)"):
            ClassificationMetric(CLASSES)(torch.zeros(2, 2), torch.zeros(2, 2))
        with pytest.raises(ValueError, match="None"):
            ClassificationMetric(CLASSES)(torch.zeros(2, 3))

    def test_no_data(self):
        with pytest.raises(ValueError, match="no data"):
            ClassificationMetric(CLASSES).aggregate()

    def test_a_network_that_diverged(self):
        scores, labels = make_set()
        scores[3, 1] = np.nan
        with pytest.raises(ValueError, match="diverged"):
            compute_classification(scores, labels, CLASSES)

    def test_unknown_mode(self):
        with pytest.raises(ValueError, match="multiclas"):
            ClassificationMetric(CLASSES, "multiclas")
