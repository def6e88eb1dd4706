# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from monai_mgca.data.fraction import take_fraction
from monai_mgca.utils import DataError

# 200 patients of two images; a third have class 0, a tenth class 1, some both
ENTRIES = [
    {"patient": f"p{i // 2}", "image": f"{i}.png", "labels": [k for k in (0, 1) if (i // 2) % (3, 10)[k] == 0]}
    for i in range(400)
]


def classes(entry):
    return entry["labels"]


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1])
def test_patients_stay_whole_and_classes_keep_their_part(fraction):
    chosen = take_fraction(ENTRIES, fraction, seed=3, strata=classes)
    patients = {entry["patient"] for entry in chosen}
    assert len(chosen) == 2 * len(patients)
    assert len(patients) == pytest.approx(200 * fraction, abs=2)
    for name in (0, 1):
        whole = sum(name in entry["labels"] for entry in ENTRIES)
        assert sum(name in entry["labels"] for entry in chosen) == pytest.approx(whole * fraction, abs=8)


def test_the_same_seed_chooses_the_same_in_any_order():
    chosen = take_fraction(ENTRIES, 0.1, seed=3, strata=classes)
    again = take_fraction(ENTRIES[::-1], 0.1, seed=3, strata=classes)
    assert chosen == again[::-1]
    assert chosen != take_fraction(ENTRIES, 0.1, seed=4, strata=classes)


def test_a_smaller_part_lies_within_a_larger():
    small, large = (take_fraction(ENTRIES, part, strata=classes) for part in (0.01, 0.1))
    assert all(entry in large for entry in small)


def test_every_class_keeps_a_patient():
    chosen = take_fraction(ENTRIES, 0.01, strata=classes)
    assert {name for entry in chosen for name in entry["labels"]} == {0, 1}


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1])
def test_a_fraction_out_of_range(fraction):
    with pytest.raises(DataError, match="label_fraction"):
        take_fraction(ENTRIES, fraction)
