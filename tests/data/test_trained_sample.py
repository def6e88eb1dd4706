# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from monai_mgca.data import read_datalist, resolve_trained, trained_sample_edge
from monai_mgca.utils import DataError


@pytest.mark.parametrize(
    ("settings", "edge"),
    [
        ({}, 146),
        ({"resize_size": 36}, 64),
        ({"resize_size": 256}, 256),
        ({"spatial_dims": 3}, 55),
        ({"spatial_dims": 3, "resize_size": [18, 18, 18]}, 24),
        ({"spatial_dims": 3, "resize_size": [37, 55, 37]}, 55),
    ],
)
def test_edge_of_the_images_as_the_trainings_draw_them(settings, edge):
    assert trained_sample_edge(settings) == edge


@pytest.mark.parametrize(("dims", "name"), [(2, "sample"), (3, "volume_sample")])
def test_the_sample_that_was_trained_on(tmp_path, dims, name):
    settings = {"spatial_dims": dims, "resize_size": 24}
    folder = resolve_trained(None, tmp_path, settings, 8, trained_sample_edge(settings))
    assert folder == str(tmp_path / "data" / name)
    assert read_datalist(tmp_path / "data" / name / "datalist.json")["source"] == name


def test_the_users_own(tmp_path):
    assert resolve_trained(tmp_path, tmp_path / "bundle", {"spatial_dims": 3}, 320, 55) == str(tmp_path)
    with pytest.raises(DataError, match="dataset_dir does not exist"):
        resolve_trained(tmp_path / "none", tmp_path, {"spatial_dims": 3}, 320, 55)
