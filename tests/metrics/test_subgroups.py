# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Figures of groups, by hand and against scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from monai_mgca.metrics import age_bands, compute_subgroups
from monai_mgca.metrics.bootstrap import resample_counts

NAN = float("nan")


def test_by_hand():
    """Of F three of four decisions are right, of M all four."""
    scores = np.array([0.9, 0.2, 0.6, 0.1, 0.8, 0.7, 0.3, 0.2])
    labels = np.array([1.0, 1, 0, 0, 1, 1, 0, 0])
    found = compute_subgroups(scores, labels, ["F"] * 4 + ["M"] * 4, minimum=4)
    assert list(found) == ["F", "M", "gap", "hidden"]
    assert (found["F"]["sensitivity"], found["F"]["specificity"], found["F"]["auroc"]) == (0.5, 0.5, 0.75)
    assert (found["M"]["sensitivity"], found["M"]["specificity"], found["M"]["auroc"]) == (1, 1, 1)
    assert found["gap"] == {"auroc": 0.25, "sensitivity": 0.5, "specificity": 0.5}
    assert found["F"]["images"] == 4
    assert found["F"]["present"] == 2
    assert found["hidden"] == {"groups": 0, "images": 0}


def test_small_groups_are_not_shown_and_count_in_no_gap():
    scores, labels = np.linspace(0, 1, 50), np.tile([0.0, 1.0], 25)
    groups = ["a"] * 22 + ["b"] * 22 + ["c"] * 5 + [None]
    found = compute_subgroups(scores, labels, groups)
    assert list(found) == ["a", "b", "gap", "hidden"]
    assert found["hidden"] == {"groups": 1, "images": 5}
    unknown = compute_subgroups(scores, np.where(np.arange(50) < 10, NAN, labels), groups)
    assert "a" not in unknown  # of its images 12 have a known label


def test_as_scikit_learn_and_scipy():
    rng = np.random.default_rng(0)
    scores, labels, groups = rng.random(200), rng.integers(0, 2, 200).astype(float), rng.choice(["a", "b", "c"], 200)
    found = compute_subgroups(scores, labels, list(groups))
    for name in "abc":
        own = groups == name
        assert found[name]["auroc"] == pytest.approx(roc_auc_score(labels[own], scores[own]))
        assert found[name]["ks"] == pytest.approx(ks_2samp(scores[own], scores[~own]).pvalue)


def test_bootstrap_equals_a_loop_over_the_same_resamples():
    rng = np.random.default_rng(1)
    scores, labels, groups = rng.random(80), rng.integers(0, 2, 80).astype(float), rng.choice(["a", "b"], 80)
    found = compute_subgroups(scores, labels, list(groups), bootstrap=40, seed=2)
    order = np.lexsort((groups, labels, scores))
    rows = [np.repeat(order, times) for counts in resample_counts(80, 40, 2) for times in counts]
    each = [compute_subgroups(scores[r], labels[r], list(groups[r]), minimum=1) for r in rows]
    for name, kind in (("a", "auroc"), ("b", "sensitivity"), ("gap", "specificity")):
        expected = np.percentile([one[name][kind] for one in each], (2.5, 97.5))
        assert (found[name][f"{kind}_low"], found[name][f"{kind}_high"]) == pytest.approx(expected)
    turned = compute_subgroups(scores[::-1], labels[::-1], list(groups[::-1]), bootstrap=40, seed=2)
    assert turned["gap"] == pytest.approx(found["gap"])


def test_a_group_without_the_finding_has_a_specificity_alone():
    found = compute_subgroups(np.array([0.1, 0.9, 0.2, 0.8]), np.array([0.0, 0, 0, 1]), ["a", "a", "b", "b"], minimum=2)
    assert np.isnan([found["a"]["auroc"], found["a"]["sensitivity"]]).all()
    assert found["a"]["specificity"] == 0.5
    assert np.isnan(found["gap"]["auroc"])  # of one group there is no gap
    assert found["gap"]["specificity"] == 0.5


@pytest.mark.parametrize("labels", [np.zeros(0), np.full(3, NAN)])
def test_nothing_known(labels):
    found = compute_subgroups(np.zeros(len(labels)), labels, ["a"] * len(labels), bootstrap=5)
    assert found["hidden"] == {"groups": 0, "images": 0}


def test_bands():
    assert age_bands([0, 17.9, 18, 64, 65, 120, None]) == ["0-17", "0-17", "18-39", "40-64", "65+", "65+", None]
    assert age_bands([30], edges=(50,)) == ["0-49"]
