# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from monai.utils import optional_import

from monai_mgca.data import find_volumes, load_datalist, make_volume_sample, read_datalist
from monai_mgca.data.check.check_datalist import check_datalist
from monai_mgca.data.check.image_problems import check_volume
from monai_mgca.data.check.phi import tag_signs
from monai_mgca.data.check.problem import CheckLimits
from monai_mgca.data.entry import SECTIONS, places_of
from monai_mgca.data.sample.case import Anatomy, Finding
from monai_mgca.data.sample.chest_volume import draw_volume
from monai_mgca.data.sample.volume_files import box_around, save_nifti
from monai_mgca.data.sample.volumes import VOLUME_CLASSES
from monai_mgca.data.split import count_shared_patients
from monai_mgca.transforms import LoadMask, LoadVolume
from monai_mgca.utils import DataError

from ..io.ct_series import by_sitk

nibabel, has_nibabel = optional_import("nibabel")
pytestmark = pytest.mark.skipif(not has_nibabel, reason="nibabel is not installed")

SIZE, EDGE = 40, 32
PLAIN = Anatomy(False, 1.0, "normal", 0.43, False, "", "", 0.3)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return make_volume_sample(tmp_path_factory.mktemp("ct"), SIZE, EDGE, num_workers=2, progress=False)


def draw(*findings: Finding, seed: int = 0) -> np.ndarray:
    """(left, front, head), without the noise of one voxel."""
    return draw_volume(PLAIN, findings, 48, np.random.default_rng(seed))[0].astype(float)


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
        assert len(find_volumes(sample.parent / "volumes")) == SIZE

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
        make_volume_sample(tmp_path, SIZE, EDGE, num_workers=1, progress=False)
        for file in sorted(sample.parent.rglob("*")):
            if file.is_file():
                assert file.read_bytes() == (tmp_path / file.relative_to(sample.parent)).read_bytes(), file.name
        times = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.*")}
        make_volume_sample(tmp_path, SIZE, EDGE, progress=False)
        assert times == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.*")}
        make_volume_sample(tmp_path, 8, EDGE - 2, progress=False)  # other settings: made again, and nothing left over
        assert len(list(tmp_path.rglob("*.nii.gz"))) == 3 * 8
        assert len(list(tmp_path.rglob("*.dcm"))) == 3 * (EDGE - 2)
        shutil.rmtree(tmp_path / "series" / "volume_00001")  # not complete any more
        make_volume_sample(tmp_path, 8, EDGE - 2, progress=False)
        assert len(list(tmp_path.rglob("*.dcm"))) == 3 * (EDGE - 2)

    def test_pixels_of_the_first_version(self, tmp_path):
        """Masks, boxes and series were added to it: volumes and reports stayed."""
        datalist = make_volume_sample(tmp_path, 8, 24, num_workers=1, progress=False)
        values = [np.asarray(nibabel.load(path).dataobj) for path in sorted(tmp_path.glob("volumes/*.nii.gz"))]
        means = [-707.694, -736.29, -724.781, -710.799, -731.616, -674.583, -685.221, -703.098]
        np.testing.assert_allclose([volume.mean() for volume in values], means, atol=0.01)
        spreads = [425.579, 411.704, 421.408, 429.145, 414.013, 437.612, 434.274, 427.447]
        np.testing.assert_allclose([volume.std() for volume in values], spreads, atol=0.01)
        reports = sorted(entry["report"] for *_, entry in places_of(read_datalist(datalist)))
        assert hashlib.sha256("".join(reports).encode()).hexdigest()[:16] == "5e21ec462b10ec13"

    def test_series_is_the_volume(self, sample):
        with_series = [entry for *_, entry in places_of(read_datalist(sample)) if "series" in entry]
        assert {entry["id"] for entry in with_series} == {f"volume_{index:05d}" for index in range(3)}
        for entry in with_series:
            nifti, series = (LoadVolume()(sample.parent / entry[key]) for key in ("image", "series"))
            np.testing.assert_array_equal(series.numpy(), nifti.numpy())
            np.testing.assert_allclose(series.affine.numpy(), nifti.affine.numpy(), atol=1e-4)
        found = check_volume(str(sample.parent / entry["series"]), CheckLimits())
        assert found.found == [] == list(tag_signs(found.tags))
        values, affine = by_sitk(sample.parent / entry["series"])
        np.testing.assert_array_equal(values, nifti[0].numpy())
        np.testing.assert_allclose(affine, nifti.affine.numpy(), atol=1e-4)

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


class TestMasks:
    """Masks are where the drawing changed, and boxes are around them in the world."""

    def test_boxes_are_those_of_their_findings(self, sample):
        """Where a study has one finding, its box is that of the mask, which NIfTI's affine puts there."""
        entries = [entry for *_, entry in places_of(read_datalist(sample))]
        assert sum(len(entry["boxes"]) for entry in entries) > SIZE / 2
        for entry in entries:
            found = LoadMask(spatial_dims=3)(sample.parent / entry["finding_mask"])
            assert bool(found.any()) == bool(entry["boxes"])
            assert len(entry["boxes"]) == len(entry["box_labels"]) == len(entry["box_phrases"])
            assert all(entry["labels"][label] for label in entry["box_labels"])
            if entry["boxes"]:
                places = np.argwhere(found[0].numpy())
                ends = np.stack([places.min(0) - 0.5, places.max(0) + 0.5])
                world = np.sort(ends @ found.affine.numpy()[:3, :3].T + found.affine.numpy()[:3, 3], axis=0)
                boxes = np.array(entry["boxes"]).reshape(-1, 2, 3)
                np.testing.assert_allclose([boxes[:, 0].min(0), boxes[:, 1].max(0)], world, atol=1e-3)

    def test_lungs(self, sample):
        for entry in load_datalist(sample, "training")[:8]:
            values = LoadVolume()(entry["image"])[0].numpy()
            lungs = LoadMask(spatial_dims=3)(sample.parent / entry["lung_mask"])
            assert lungs.dtype == torch.uint8
            np.testing.assert_allclose(lungs.affine.numpy(), LoadVolume()(entry["image"]).affine.numpy())
            inside = values[lungs[0].numpy() > 0]
            assert 1000 < len(inside) * (440 / EDGE / 10) ** 3 < 8000  # milliliters
            assert np.median(inside) < -600

    @pytest.mark.parametrize(
        "finding",
        [
            Finding("effusion", "left", size="moderate"),
            Finding("pneumothorax", "right", size="large"),
            Finding("opacity", "left", "mid", "large", "confluent"),
            Finding("opacity", "right", "upper", "small", "patchy"),
            Finding("nodule", "left", "mid", "large", millimeters=30),
        ],
        ids=lambda finding: f"{finding.kind} {finding.form}",
    )
    def test_mask_is_what_changed(self, finding):
        values, lungs, (mask,) = draw_volume(PLAIN, (finding,), 48, np.random.default_rng(0))
        normal, healthy, _ = draw_volume(PLAIN, (), 48, np.random.default_rng(0))
        air = finding.kind == "pneumothorax"
        wanted = values < -960 if air else values > normal.astype(int) + 400
        assert wanted[mask].mean() > 0.75
        assert air or mask[wanted].mean() > 0.75
        if finding.kind == "effusion":  # fluid is no lung, all else lies in one
            assert not (lungs & (mask | ~healthy)).any()
            assert (healthy & ~mask & ~lungs).sum() < 10
        else:
            np.testing.assert_array_equal(lungs, healthy)
            assert (mask & lungs).sum() > 0.75 * mask.sum()

    def test_heart(self):
        """The mask is of the heart that is in the chest: soft tissue in the middle and on the left, no lung."""
        values, lungs, (mask,) = draw_volume(
            PLAIN, (Finding("cardiomegaly", size="large"),), 48, np.random.default_rng(0)
        )
        assert abs(np.median(values[mask]) - 45) < 20
        assert not (mask & lungs).any()
        assert np.argwhere(mask)[:, 0].mean() > 24

    @pytest.mark.parametrize("size", [24, 55])
    def test_a_small_nodule_keeps_a_voxel(self, size):
        for seed in range(12):
            nodule = Finding("nodule", "left", "upper", "small", millimeters=10)
            _, _, (mask,) = draw_volume(PLAIN, (nodule,), size, np.random.default_rng(seed))
            assert 1 <= mask.sum() <= 8
            x0, y0, z0, x1, y1, z1 = box_around(mask)
            assert x0 < x1 < 0  # the patient's left
            assert y0 < y1
            assert 0 < z0 < z1

    def test_what_is_hidden_has_no_mask(self):
        hidden = Finding("nodule", "left", "lower", "small", millimeters=10)
        raised = replace(PLAIN, volume="low", raised="left")
        _, _, (mask,) = draw_volume(raised, (hidden,), 48, np.random.default_rng(0))
        assert not mask.any()


def test_orientation_turns_the_sample_to_ras(sample):
    """The heart's apex is on the left: a mirrored volume would swap the sides of all findings."""
    values = draw(Finding("effusion", "left", size="large")).astype(np.int16)
    path = sample.parent / "one.nii.gz"
    save_nifti(path, values)
    volume = Orientation(axcodes="RAS", labels=None)(LoadVolume()(path))
    assert isinstance(volume, MetaTensor)
    # left, front, head -> right, front, head
    np.testing.assert_array_equal(volume[0].numpy(), values[::-1])
    corner = volume.affine.numpy() @ [0, 0, 0, 1]
    np.testing.assert_allclose(corner[:3], -(440 - 440 / 48) / 2)
    path.unlink()
