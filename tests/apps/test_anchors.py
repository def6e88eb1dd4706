# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ast
import json
import re

import numpy as np
import pytest
from PIL import Image

from monai_mgca.apps.anchors import fit_anchors, read_box_sizes, read_volume_box_sizes
from monai_mgca.apps.anchors_command import main
from monai_mgca.data import write_datalist
from monai_mgca.utils import DataError

pytest.importorskip("sklearn", reason="fitting needs the extra probe")


@pytest.fixture
def datalist(tmp_path):
    """Ten images of 100 x 50 pixels; boxes of 10 x 20 and 40 x 20, and an image without."""
    entries = []
    for i in range(10):
        Image.new("L", (100, 50)).save(tmp_path / f"{i}.png")
        boxes = [] if i == 0 else [[0, 0, 10, 20], [50, 10, 90, 30]]
        entry = {"id": f"{i}", "image": f"{i}.png", "patient": f"{i}", "boxes": boxes, "box_labels": [0] * len(boxes)}
        entries.append({**entry, "report": "No effusion."})
    return write_datalist(tmp_path / "list.json", {"training": entries}, "n", "s", {}, box_classes=["a"]) and (
        tmp_path / "list.json"
    )


def test_sizes_are_those_in_the_network(datalist):
    sizes = read_box_sizes(datalist, image_size=200)  # twice as large
    assert len(sizes) == 18
    assert {tuple(size) for size in sizes.tolist()} == {(20, 40), (80, 40)}


def test_finds_what_the_boxes_are_made_of():
    rng = np.random.default_rng(0)
    side, ratio = rng.choice([8, 32, 128], 600), rng.choice([0.5, 2], 600)
    sizes = np.stack((side / np.sqrt(ratio), side * np.sqrt(ratio)), axis=1)
    anchors = fit_anchors(sizes, levels=3, per_level=1, ratios=2)
    assert anchors.sizes == [[8], [32], [128]]
    assert anchors.ratios == [0.5, 2]
    assert anchors.overlap == pytest.approx(1)
    assert fit_anchors(sizes, levels=3, per_level=1, ratios=1).overlap < 0.8


def test_command_prints_options(datalist, capsys):
    arguments = ["--image-size", "100", "--levels", "2", "--per-level", "1", "--ratios", "2"]
    assert main([str(datalist), *arguments]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("18 boxes of the training images")
    sizes, ratios = re.search(r'--anchor_sizes "(.+)" --anchor_ratios "(.+)"', printed).groups()
    assert ast.literal_eval(sizes) == [[14.1], [28.3]]
    assert ast.literal_eval(ratios) == [0.5, 2]


def test_bad_input(datalist, tmp_path, capsys):
    with pytest.raises(DataError, match="2 boxes are too few to fit 6 sizes"):
        fit_anchors(np.ones((2, 2)))
    with pytest.raises(DataError, match="no area"):
        fit_anchors(np.zeros((9, 2)))
    assert main([str(tmp_path / "none.json"), "--image-size", "64"]) == 2
    assert "none.json" in capsys.readouterr().err


def test_parts_of_the_image_are_no_pixels(tmp_path):
    Image.new("L", (60, 40)).save(tmp_path / "1.png")
    entry = {"image": "1.png", "boxes": [[0.2, 0.3, 0.6, 0.7]], "box_labels": [0], "id": "1", "patient": "1"}
    (tmp_path / "d.json").write_text(json.dumps({"box_classes": ["a"], "training": [entry]}))
    with pytest.raises(DataError, match=r"1.png: boxes are smaller than a pixel: coordinates are pixels"):
        read_box_sizes(tmp_path / "d.json", 64)


class TestVolumes:
    @pytest.fixture
    def volumes(self, tmp_path):
        """A datalist of volumes, which nothing opens; boxes of 16 x 16 x 8 and 40 x 80 x 80 mm."""
        entries = []
        for i in range(8):
            (tmp_path / f"{i}.nii").write_bytes(b"not opened")
            boxes = [[-20, 5, -200, -4, 21, -192], [10, 10, 10, 50, 90, 90]]
            entry = {"id": f"{i}", "image": f"{i}.nii", "patient": f"{i}", "boxes": boxes, "box_labels": [0, 0]}
            entries.append({**entry, "report": "No effusion."})
        write_datalist(tmp_path / "list.json", {"training": entries}, "n", "s", {}, box_classes=["a"])
        return tmp_path / "list.json"

    def test_sizes_are_voxels(self, volumes):
        sizes = read_volume_box_sizes(volumes, 4.0)
        assert {tuple(size) for size in sizes.tolist()} == {(4, 4, 2), (10, 20, 20)}
        assert read_volume_box_sizes(volumes, (4, 2, 8))[0].tolist() == [4, 8, 1]

    def test_finds_what_the_boxes_are_made_of(self):
        rng = np.random.default_rng(0)
        side, shape = rng.choice([4, 16], 400), np.array([[1, 2], [2, 1], [1, 1]])[rng.integers(0, 3, 400)]
        first = side / shape.prod(1) ** (1 / 3)
        sizes = first[:, None] * np.insert(shape, 0, 1, axis=1)
        anchors = fit_anchors(sizes, levels=2, per_level=1, ratios=3)
        assert anchors.sizes == [[4], [16]]
        assert sorted(anchors.ratios) == [[1, 1], [1, 2], [2, 1]]
        assert anchors.overlap == pytest.approx(1)

    def test_command_prints_options(self, volumes, capsys):
        arguments = ["--voxel-size", "4", "--levels", "2", "--per-level", "1", "--ratios", "2"]
        assert main([str(volumes), *arguments]) == 0
        sizes, ratios = re.search(r'--anchor_sizes "(.+)" --anchor_ratios "(.+)"', capsys.readouterr().out).groups()
        assert ast.literal_eval(sizes) == [[3.2], [15.9]]
        assert ast.literal_eval(ratios) == [[1, 0.5], [2, 2]]

    def test_boxes_of_images_are_refused(self, datalist):
        with pytest.raises(DataError, match=r"in millimeters of the world.*need --image-size"):
            read_volume_box_sizes(datalist, 4.0)
