# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Calibrations are measured on patients that they have not seen."""

from __future__ import annotations

import numpy as np
import pytest

from monai_mgca.apps.calibrate.fit_scores import choose_method, fit_scores, measure_held_out
from monai_mgca.apps.calibrate.scores import Scores
from monai_mgca.utils import DataError


@pytest.fixture
def scores():
    generator = np.random.default_rng(1)
    label = (generator.random((200, 1)) < 0.3).astype(float)
    logits = 2 * generator.normal(1.5 * label - 1, 1)
    label[:5] = np.nan
    return Scores(["a"], 1 / (1 + np.exp(-logits)), label, [f"p{i // 2}" for i in range(200)])


def test_a_patient_is_never_on_both_sides(scores, monkeypatch):
    seen = []
    module = "monai_mgca.apps.calibrate.fit_scores.fit_scores"
    monkeypatch.setattr(module, lambda *args: seen.append(set(args[4])) or fit_scores(*args))
    part = measure_held_out(scores, 0, "platt", "youden")
    assert len(part.label) == 195
    assert sorted(np.unique(part.split)) == [0, 1, 2, 3, 4]
    patients = np.array(scores.patients)[5:]
    for number, rows in enumerate(seen):
        held = set(patients[part.split == number])
        assert not held & {scores.patients[row] for row in rows}
    before, after = part.errors()
    assert after < before


def test_too_few_patients(scores):
    few = scores._replace(patients=["one" if value == 1 else i for i, value in enumerate(scores.labels[:, 0])])
    assert measure_held_out(few, 0, "platt", "youden") is None


def test_multiclass_takes_a_temperature_alone(scores):
    exclusive = scores._replace(label_mode="multiclass")
    assert choose_method(exclusive, None) == "temperature"
    assert choose_method(scores, None) == "platt"
    with pytest.raises(DataError, match="--method platt is of one class by itself"):
        choose_method(exclusive, "platt")
