# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""PixelPaddingValue of a CT becomes air, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest

from monai_mgca.io.dicom.padding import fill_padding, padding_ends
from monai_mgca.transforms import LoadVolume

from .ct_series import draw
from .test_multi_frame import enhanced

pydicom = pytest.importorskip("pydicom")
STORED = np.random.default_rng(0).integers(200, 1400, (4, 6, 7)).astype(np.int16)
EDGE = np.s_[:, :2]


def header(**tags):
    data = pydicom.Dataset()
    for name, value in {"Modality": "CT", "BitsStored": 16, "PixelRepresentation": 1, **tags}.items():
        setattr(data, name, value)
    return data


@pytest.mark.parametrize(("padding", "slope"), [(-2000, 1), (-2000, 0.5), (3071, 1), (0, 1)])
def test_padding_is_air(tmp_path, padding, slope):
    stored = STORED.copy()
    stored[EDGE] = padding
    tags = {"PixelPaddingValue": padding, "RescaleSlope": slope, "RescaleIntercept": -1000 if padding else -1500}
    found = LoadVolume()(draw(tmp_path / "ct", stored, change=lambda k: tags))[0].numpy()
    expected = stored * slope + tags["RescaleIntercept"]
    expected[EDGE] = -1000
    np.testing.assert_array_equal(found, expected.T)


@pytest.mark.parametrize("tags", [{"PixelPaddingValue": 0}, {"PixelPaddingValue": -2000}, {"Modality": "MR"}], ids=str)
def test_what_stays(tmp_path, tags):
    """The lowest value of many devices, a value that no voxel has, and other units."""
    stored = STORED.copy()
    stored[EDGE] = 0
    tags = {"PixelPaddingValue": 0, "RescaleIntercept": -1024, **tags}
    found = LoadVolume()(draw(tmp_path / "ct", stored, change=lambda k: tags))[0].numpy()
    np.testing.assert_array_equal(found, stored.T - 1024.0)


def test_a_value_of_tissue_is_padding_at_the_edge_alone():
    values = np.where(np.arange(40) % 2, 60.0, -700.0).repeat(5).reshape(2, 10, 10)
    values[:, :2], values[:, 5, 5] = 0, 0
    expected = values.copy()
    expected[:1, :2] = -1000
    fill_padding(values, [(-0.5, 0.5), None])
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    ("tags", "ends"),
    [
        ({"PixelPaddingValue": -2000}, (-3024.5, -3023.5)),
        ({"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}, (-3024.5, -3013.5)),
        ({"PixelPaddingValue": -2000, "PixelRepresentation": 0}, (62511.5, 62512.5)),
        ({"PixelPaddingValue": -2000, "PixelRepresentation": 0, "BitsStored": 12}, (1071.5, 1072.5)),
        ({}, None),
        ({"PixelPaddingValue": -2000, "Modality": "PT"}, None),
        ({"PixelPaddingValue": -2000, "BitsStored": None}, (-3024.5, -3023.5)),
    ],
)
def test_ends(tags, ends):
    assert padding_ends(header(**tags), 1, -1024) == ends


def test_frames_of_one_file(tmp_path):
    path = enhanced(tmp_path / "all.dcm", range(6), padding=None)
    before = LoadVolume()(path)[0].numpy()
    value = int((before.max() + 100) / 2)  # as stored, of slope 2 and intercept -100
    found = LoadVolume()(enhanced(tmp_path / "all.dcm", range(6), padding=value))[0].numpy()
    np.testing.assert_array_equal(found, np.where(before == before.max(), -1000, before))


def test_slope_and_intercept_that_all_frames_share(tmp_path):
    each, shared = enhanced(tmp_path / "each.dcm", range(6)), enhanced(tmp_path / "all.dcm", range(6), rescale=None)
    np.testing.assert_array_equal(LoadVolume()(each).numpy(), LoadVolume()(shared).numpy())
