# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch

from monai_mgca.transforms import CalibrateProbabilitiesd, calibrate_all, decision_thresholds

FITTED = {
    "label_mode": "multilabel",
    "findings": {
        "edema": {"temperature": 2.0, "threshold": 0.3},
        "mass": {"slope": 1.0, "intercept": 0.0, "threshold": 0.6},
        "nodule": {"x": [0.2, 0.4], "y": [0.0, 0.5], "threshold": 0.1},
    },
}


def test_each_class_by_its_own_numbers():
    steps = CalibrateProbabilitiesd("pred", ["nodule", "edema", "other", "mass"], FITTED)
    item = {"pred": torch.tensor([0.3, 0.9, 0.9, 0.7])}
    found = steps(item)["pred"]
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([0.25, 0.75, 0.9, 0.7])
    assert item["pred"].tolist() == pytest.approx([0.3, 0.9, 0.9, 0.7]), "the item stays as it was"


def test_without_a_calibration_it_is_the_same_tensor():
    values = torch.rand(3, 2, requires_grad=True)
    for steps in (CalibrateProbabilitiesd("pred", ["edema", "mass"]), CalibrateProbabilitiesd("pred", ["a"], FITTED)):
        assert steps({"pred": values})["pred"] is values
    assert decision_thresholds(None) == {}
    assert decision_thresholds(FITTED) == {"edema": 0.3, "mass": 0.6, "nodule": 0.1}


def test_exclusive_classes_keep_their_sum():
    fitted = {"label_mode": "multiclass", "findings": {name: {"temperature": 2.0, "threshold": 0.5} for name in "abc"}}
    logits = torch.tensor([[4.0, 0.0, -2.0], [0.0, 0.0, 300.0]])
    found = CalibrateProbabilitiesd("pred", "abc", fitted)({"pred": logits.softmax(1)})["pred"]
    torch.testing.assert_close(found[0], (logits[0] / 2).softmax(0))
    assert found.sum(1).tolist() == pytest.approx([1, 1])
    assert found.isfinite().all()


def test_half_precision_and_certainty():
    found = calibrate_all(torch.tensor([0.0, 1.0], dtype=torch.float16), [{"temperature": 2.0}] * 2)
    assert found.dtype == torch.float16
    assert found.isfinite().all()
