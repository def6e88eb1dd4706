# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from monai_mgca.metrics import choose_threshold, compute_zero_shot, measure_decisions

# from low to high: 0 0 1 0 1 1 0 1
PROBABILITY = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
LABEL = np.array([0, 0, 1, 0, 1, 1, 0, 1])


@pytest.mark.parametrize(
    ("point", "threshold"),
    [
        # sensitivity + specificity: 1.5 from 0.25 on, and from 0.45 on too; the more sensitive one
        ("youden", 0.25),
        ("sensitivity=1", 0.25),
        ("sensitivity=0.75", 0.45),
        ("sensitivity=0.7", 0.45),
        ("sensitivity=0.2", 0.75),
        ("specificity=0.5", 0.25),
        ("specificity=0.75", 0.45),
        ("specificity=1", 0.75),
    ],
)
def test_by_hand(point, threshold):
    assert choose_threshold(PROBABILITY, LABEL, point) == pytest.approx(threshold)


def test_ends():
    falling = np.array([1, 0])
    assert choose_threshold(np.array([0.2, 1.0]), falling, "sensitivity=1") == 0
    assert choose_threshold(np.array([0.2, 1.0]), falling, "specificity=1") > 1, "nothing is taken for the finding"


def test_order_and_equal_probabilities_do_not_matter():
    probability, label = np.array([0.5, 0.1, 0.5, 0.9]), np.array([1, 0, 0, 1])
    assert choose_threshold(probability, label) == choose_threshold(probability[::-1], label[::-1])
    assert choose_threshold(probability, label, "specificity=1") == pytest.approx(0.7)


def test_decisions():
    weights = np.array([[1, 1, 1, 1], [3, 1, 0, 0], [0, 1, 0, 1]])
    found = measure_decisions(np.array([True, False, True, False]), np.array([1, 1, 0, 0]), weights)
    assert found["sensitivity"].tolist() == [0.5, 0.75, 0]
    assert found["specificity"][[0, 2]].tolist() == [0.5, 1]
    assert np.isnan(found["specificity"][1])


def test_of_the_zero_shot_metric():
    figures = [
        compute_zero_shot(PROBABILITY[:, None], LABEL[:, None].astype(float), ["x"], thresholds=thresholds)
        for thresholds in (None, {"x": 0.5}, {"x": 0.25}, {"y": 0.25})
    ]
    assert [f["balanced_accuracy_x"] for f in figures] == [0.75, 0.75, 0.75, 0.75]
    low = compute_zero_shot(PROBABILITY[:, None], LABEL[:, None].astype(float), ["x"], thresholds={"x": 0.15})
    assert low["balanced_accuracy_x"] == pytest.approx((1 + 1 / 4) / 2)


@pytest.mark.parametrize(
    "point", ["", "youdens", "youden=0.5", "sensitivity", "sensitivity=0", "specificity=1.1", "specificity=x"]
)
def test_refused(point):
    with pytest.raises(ValueError, match=r"youden, sensitivity=0\.9 or specificity=0\.9"):
        choose_threshold(PROBABILITY, LABEL, point)
