# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Which places of slices make a volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_mgca.io.dicom.dicom_series import Slice
from monai_mgca.io.dicom.slice_stack import stack_slices
from monai_mgca.utils import DataError

from .ct_series import AXIAL


def slices(places, sideways=0.0, orientation=AXIAL, **change):
    one = Slice(Path("a.dcm"), 0, "1", (5, 4), None, orientation, (0.8, 0.9))
    return [one._replace(file=Path(f"{k}.dcm"), position=(k * sideways, 0, z), **change) for k, z in enumerate(places)]


@pytest.mark.parametrize("step", [0.5, 0.6, 0.625, 0.7, 0.8, 0.9, 1.0, 1.25, 2.5, 5, 0.05])
@pytest.mark.parametrize("start", [0, -17.8999, -100.3, 1234.56])
@pytest.mark.parametrize("digits", [15, 6, 3])
def test_even_series_of_any_step(step, start, digits):
    """As they are written: with many digits, or rounded to a hundredth of the distance."""
    places = [float(f"{start + k * step:.{digits}f}") for k in range(40)]
    ordered, affine = stack_slices(slices(places)[::-1])
    assert [one.position[2] for one in ordered] == places
    assert affine[2, 2] == pytest.approx(step, abs=1e-3)
    assert affine[2, 3] == pytest.approx(start, abs=1e-3)


def test_places_with_few_digits():
    places = [float(f"{-17.89 + k * 1.255:.2f}") for k in range(40)]
    assert stack_slices(slices(places))[1][2, 2] == pytest.approx(1.255, abs=0.01)


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ([0, 1, 2, 4, 5], r"missing: 1 of them, 1 between 2.dcm \(at 2 mm\) and 3.dcm \(at 4 mm\)"),
        ([0, 0.7, 1.4, 3.5, 4.2, 5.6], r"missing: 3 of them, 2 between 2.dcm \(at 1.4 mm\) and 3.dcm \(at 3.5 mm\)"),
        ([0, 1, 3], r"missing: 1 of them, 1 between 1.dcm"),
        ([0, 1, 2, 3, 4.4], r"not evenly spaced: 1 to 1.4 mm apart, the last between 3.dcm .* and 4.dcm"),
        ([*np.arange(10), *np.arange(10, 20, 1.25)], "not evenly spaced: 1 to 1.25 mm"),
        ([3] * 9, r"all 9 slices are at one place \(3 mm\)"),
        ([0, 1, 1, 2, 3], r"1 slices are where another one is, such as 1.dcm \(at 1 mm\) and 2.dcm"),
        ([*range(5), *range(5)], "5 slices are where another one is"),
        ([7], "it is one slice"),
    ],
)
def test_places_that_make_no_volume(places, reason):
    with pytest.raises(DataError, match=reason):
        stack_slices(slices(places))


@pytest.mark.parametrize("tilt", [1, 5, 14, -20])
def test_a_tilted_gantry_is_named_with_its_angle(tilt):
    with pytest.raises(DataError, match=rf"tilted by {abs(tilt)}.0 degrees.*dcm2niix"):
        stack_slices(slices(np.arange(16) * np.cos(np.radians(tilt)), sideways=np.sin(np.radians(tilt))))


def test_a_slice_shifted_sideways():
    series = slices(range(16))
    series[5] = series[5]._replace(position=(3, 0, 5))
    with pytest.raises(DataError, match=r"shifted sideways by 3 mm \(5.dcm\)"):
        stack_slices(series)
    assert stack_slices(slices(range(16), sideways=0.004))  # as rounding does
