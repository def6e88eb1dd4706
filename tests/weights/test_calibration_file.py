# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import pytest
import torch

from monai_mgca.utils import CheckpointError
from monai_mgca.weights import read_calibration, write_calibration
from monai_mgca.weights.calibration_file import calibration_path

FITTED = {"method": "platt", "findings": {"edema": {"slope": 1.5, "intercept": -2.0, "threshold": 0.25}}}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model_classification.pt"
    torch.save({"weight": torch.zeros(2)}, path)
    return path


def test_is_read_as_it_was_written(weights):
    before = weights.read_bytes()
    assert read_calibration(weights) is None
    path = write_calibration(weights, FITTED)
    assert path.name == "model_classification_calibration.json"
    assert read_calibration(weights) == FITTED
    assert weights.read_bytes() == before


def test_of_other_weights_is_not_used(weights, caplog):
    path = write_calibration(weights, FITTED)
    torch.save({"weight": torch.ones(2)}, weights)
    assert read_calibration(weights) is None
    assert f"{path} is of other weights than model_classification.pt" in caplog.text
    assert "mgca calibrate" in caplog.text


GOOD = FITTED["findings"]["edema"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "holds no calibration"),
        ({}, "holds no calibration"),
        ({"findings": []}, "holds no calibration"),
        *(
            ({"findings": {"edema": numbers}}, "the numbers of 'edema' are no calibration")
            for numbers in (
                1,
                {},
                {"temperature": 2},
                {"temperature": 0, "threshold": 0.5},
                {"temperature": True, "threshold": 0.5},
                {"slope": 1.0, "threshold": 0.5},
                {**GOOD, "slope": "1"},
                {**GOOD, "threshold": float("nan")},
                {"x": [0.2, 0.1], "y": [0, 1], "threshold": 0.5},
                {"x": [0.1], "y": [0, 1], "threshold": 0.5},
                {"x": [], "y": [], "threshold": 0.5},
            )
        ),
    ],
)
def test_damaged(weights, document, words):
    calibration_path(weights).write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=words) as error:
        read_calibration(weights)
    assert str(calibration_path(weights)) in str(error.value)
    assert "delete the file" in str(error.value)


def test_no_json(weights):
    calibration_path(weights).write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        read_calibration(weights)
