# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import numpy as np
import pytest
from monai.data import MetaTensor
from monai.transforms import Orientation
from monai.utils import optional_import

from monai_mgca.data import find_volumes, load_datalist, make_volume_sample, read_datalist
from monai_mgca.data.check.check_datalist import check_datalist
from monai_mgca.data.entry import SECTIONS
from monai_mgca.data.sample.case import Anatomy, Finding
from monai_mgca.data.sample.chest_volume import draw_volume
from monai_mgca.data.sample.volumes import VOLUME_CLASSES
from monai_mgca.data.split import count_shared_patients
from monai_mgca.transforms import LoadVolume
from monai_mgca.utils import DataError

nibabel, has_nibabel = optional_import("nibabel")
pytestmark = pytest.mark.skipif(not has_nibabel, reason="nibabel is not installed")

SIZE, EDGE = 40, 32
PLAIN = Anatomy(False, 1.0, "normal", 0.43, False, "", "", 0.3)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return make_volume_sample(tmp_path_factory.mktemp("ct"), SIZE, EDGE, num_workers=2, progress=False)


def draw(*findings: Finding, seed: int = 0) -> np.ndarray:
    """(left, front, head), without the noise of one voxel."""
    return draw_volume(PLAIN, findings, 48, np.random.default_rng(seed)).astype(float)


def changed(finding: Finding, seed: int = 0) -> np.ndarray:
    return draw(finding, seed=seed) - draw(seed=seed)


class TestFiles:
    def test_datalist(self, sample):
        document = read_datalist(sample)
        splits = {section: document[section] for section in SECTIONS}
        entries = [entry for section in splits.values() for entry in section]
        assert document["classes"] == list(VOLUME_CLASSES)
        assert "device" not in VOLUME_CLASSES
        assert len(entries) == len({entry["id"] for entry in entries}) == SIZE
        assert count_shared_patients(splits) == 0
        assert {len(entry["labels"]) for entry in entries} == {5}
        assert sum(sum(entry["labels"]) > 0 for entry in entries) > SIZE / 2
        assert not any("radiograph" in entry["report"].lower() for entry in entries)
        assert check_datalist(sample, volumes=True) == []
        assert len(find_volumes(sample.parent)) == SIZE

    def test_reports_mention_the_labels(self, sample):
        normal = ("no acute cardiopulmonary", "normal chest ct", "no evidence of acute", "clear lungs")
        words = ("opacity|consolidation", "effusion|pleural fluid", "pneumothorax", "cardiomegaly|enlarged", "nodul")
        for entry in load_datalist(sample, "training"):
            report = entry["report"].lower()
            assert any(phrase in report for phrase in normal) == (sum(entry["labels"]) == 0)
            mentioned = [any(word in report for word in some.split("|")) for some in words]
            assert all(there for label, there in zip(entry["labels"], mentioned, strict=True) if label)

    def test_geometry_and_units(self, sample):
        volume = LoadVolume()(load_datalist(sample, "training")[0]["image"])
        assert volume.shape == (1, EDGE, EDGE, EDGE)
        assert nibabel.aff2axcodes(volume.affine.numpy()) == ("L", "P", "S")
        np.testing.assert_allclose(volume.pixdim.numpy(), 440 / EDGE)
        middle = volume.affine.numpy() @ [*[(EDGE - 1) / 2] * 3, 1]
        np.testing.assert_allclose(middle[:3], 0, atol=1e-4)
        assert -1024 <= volume.min() < -950
        assert volume.max() > 150

    def test_the_same_everywhere(self, sample, tmp_path):
        again = make_volume_sample(tmp_path, SIZE, EDGE, num_workers=1, progress=False)
        for file in sorted(sample.parent.rglob("*")):
            if file.is_file():
                assert file.read_bytes() == (tmp_path / file.relative_to(sample.parent)).read_bytes(), file.name
        times = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.nii.gz")}
        make_volume_sample(tmp_path, SIZE, EDGE, progress=False)
        assert times == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.nii.gz")}
        make_volume_sample(tmp_path, 8, EDGE, progress=False)  # other settings: made again, and nothing left over
        assert len(list(tmp_path.rglob("*.nii.gz"))) == 8
        assert again.is_file()

    def test_bad_arguments(self, tmp_path):
        with pytest.raises(DataError, match="image_size must be at least 24"):
            make_volume_sample(tmp_path, image_size=8)
        (tmp_path / "datalist.json").write_text(json.dumps({"source": "sample", "training": []}))
        with pytest.raises(DataError, match="another data set"):
            make_volume_sample(tmp_path)


class TestFindings:
    """Where a finding changes the volume, and how: axes go to the patient's left, front and head."""

    @pytest.mark.parametrize("side", ["right", "left"])
    def test_effusion_lies_at_the_back_of_its_side(self, side):
        place = np.argwhere(changed(Finding("effusion", side, size="moderate")) > 400).mean(0)
        assert (place[0] > 24) == (side == "left")
        assert place[1] < 22

    @pytest.mark.parametrize("side", ["right", "left"])
    def test_pneumothorax_rises_to_the_front(self, side):
        place = np.argwhere(draw(Finding("pneumothorax", side, size="moderate")) < -960)
        inside = place[(np.abs(place - 23.5) < (16, 9, 14)).all(1)]
        air = np.argwhere(draw() < -960)
        before = air[(np.abs(air - 23.5) < (16, 9, 14)).all(1)]
        assert len(inside) > 2 * len(before)
        half = inside[:, 0] > 23.5 if side == "left" else inside[:, 0] < 23.5
        assert half.mean() > 0.7

    @pytest.mark.parametrize("kind", ["effusion", "opacity"])
    def test_larger_is_larger(self, kind):
        form, zone = ("confluent", "mid") if kind == "opacity" else ("", "")
        counts = [
            (changed(Finding(kind, "right", zone, size, form)) > 400).sum() for size in ("small", "moderate", "large")
        ]
        assert 0 < counts[0] < counts[1] < counts[2]

    def test_zones_are_heights(self):
        heights = [
            np.argwhere(changed(Finding("nodule", "left", zone, "large", millimeters=30)) > 300)[:, 2].mean()
            for zone in ("lower", "mid", "upper")
        ]
        assert heights[0] < heights[1] < heights[2]

    def test_heart_grows(self):
        heart = [(changed(Finding("cardiomegaly", size=size)) > 400).sum() for size in ("small", "large")]
        assert 0 < heart[0] < heart[1]


def test_orientation_turns_the_sample_to_ras(sample):
    """The heart's apex is on the left: a mirrored volume would swap the sides of all findings."""
    from monai_mgca.data.sample.volumes import _save_volume

    values = draw(Finding("effusion", "left", size="large")).astype(np.int16)
    path = sample.parent / "one.nii.gz"
    _save_volume(path, values)
    volume = Orientation(axcodes="RAS", labels=None)(LoadVolume()(path))
    assert isinstance(volume, MetaTensor)
    # left, front, head -> right, front, head
    np.testing.assert_array_equal(volume[0].numpy(), values[::-1])
    corner = volume.affine.numpy() @ [0, 0, 0, 1]
    np.testing.assert_allclose(corner[:3], -(440 - 440 / 48) / 2)
    path.unlink()
