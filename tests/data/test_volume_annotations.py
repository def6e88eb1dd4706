# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Masks and boxes of volumes: what fits its volume, and how what does not is named."""

from __future__ import annotations

import itertools
import json

import nibabel
import numpy as np
import pytest

from monai_mgca.__main__ import main
from monai_mgca.data import annotation_problems, load_labeled
from monai_mgca.utils import DataError

from ..io.ct_series import AXIAL, CORONAL, SAGITTAL, draw

SHAPE = (10, 9, 8)
# stored to the left, back and head, from (10, 20, -30) on: 1 x 2 x 3 mm
AFFINE = np.array([[-1.0, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1]])
LOW, HIGH = (0.5, 3.0, -31.5), (10.5, 21.0, -7.5)
INSIDE = [2.0, 5.0, -20.0, 6.0, 9.0, -10.0]


def save(path, values=None, affine=AFFINE):
    values = np.random.default_rng(0).integers(-1000, 300, SHAPE).astype(np.int16) if values is None else values
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path.name


@pytest.fixture
def problems(tmp_path):
    """The problems of an entry with a volume; its masks are read too."""
    save(tmp_path / "ct.nii.gz")

    def find(image="ct.nii.gz", open_masks=True, mask_classes=None, **annotation):
        entry = {"image": image, **annotation}
        of = (("nodule", "mass"), ("mask",), mask_classes)
        return list(annotation_problems(entry, str(tmp_path), None, *of, spatial_dims=3, open_masks=open_masks))

    return find


class TestBoxes:
    def test_right(self, problems):
        assert problems(boxes=[INSIDE, [*LOW, *HIGH]], box_labels=[0, 1]) == []
        assert problems(boxes=[], box_labels=[]) == []

    @pytest.mark.parametrize(
        ("box", "reason"),
        [
            ([*LOW, *HIGH[:2], -6], "leaves the volume between [0.5, 3, -31.5] and [10.5, 21, -7.5]"),
            ([-1, 5, -20, 6, 9, -10], "leaves the volume"),
            ([2, 5, -20, 2, 9, -10], "has no extent (boxes are [x0, y0, z0, x1, y1, z1] in millimeters"),
            ([6, 5, -20, 2, 9, -10], "the smaller end of each axis first"),
            ([-6, -9, -20, -2, -5, -10], "to the left and back, they would lie in it: negate x and y"),
            ([1, 1, 1, 9, 9, 7], "these may be voxels: apply the affine of the volume"),
            ([0.2, 0.3, 0.1, 0.6, 0.7, 0.4], "looks like parts of the volume"),
            ([2, 5, float("nan"), 6, 9, -10], "is not finite"),
            ([2, 5, 6, 9], "no list of [x0, y0, z0, x1, y1, z1], all of them numbers"),
            ([2, 5, -20, 6, 9, "-10"], "no list of [x0, y0, z0, x1, y1, z1], all of them numbers"),
        ],
    )
    def test_wrong(self, problems, box, reason):
        ((file, found),) = problems(boxes=[box], box_labels=[0])
        assert file == "ct.nii.gz"
        assert reason in found

    def test_labels(self, problems):
        ((_, found),) = problems(boxes=[INSIDE], box_labels=[2])
        assert "box label 2 is no index of the 2 classes" in found
        ((_, found),) = problems(boxes=[INSIDE], box_labels=[0, 1])
        assert "1 boxes, but 'box_labels' are 2" in found

    def test_of_an_oblique_volume(self, problems, tmp_path):
        """The corners of what is turned by 30 degrees reach farther than its edges."""
        cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
        save(
            tmp_path / "turned.nii.gz",
            affine=np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        )
        assert problems("turned.nii.gz", boxes=[[-4, 0, 0, 8, 12, 5]], box_labels=[0]) == []
        ((_, found),) = problems("turned.nii.gz", boxes=[[-5, 0, 0, 8, 12, 5]], box_labels=[0])
        assert "leaves the volume between [-4.683" in found

    def test_of_a_spacing_that_the_entry_gives(self, problems):
        """Of CT-RATE's first version; the file alone says 3 mm, and the entry 6."""
        box = [2, 5, -20, 6, 9, 10]
        assert problems(boxes=[box], box_labels=[0], spacing=[1, 2, 6]) == []
        assert "leaves the volume" in problems(boxes=[box], box_labels=[0])[0][1]


class TestMasks:
    def test_along_any_axes(self, problems, tmp_path):
        image = nibabel.Nifti1Image((np.arange(720).reshape(SHAPE) % 3).astype(np.uint8), AFFINE)
        for k, (axes, signs) in enumerate(
            itertools.product(itertools.permutations(range(3)), itertools.product([1, -1], repeat=3))
        ):
            turned = image.as_reoriented(np.stack([axes, signs], axis=1))
            assert problems(mask=save(tmp_path / f"{k}.nii.gz", turned.dataobj, turned.affine), open_masks=False) == []

    @pytest.mark.parametrize(
        ("shape", "affine", "reason"),
        [
            ((10, 9, 7), AFFINE, "mask of 10 x 9 x 7 voxels (LPS) on the volume ct.nii.gz of 10 x 9 x 8 voxels (LPS)"),
            (SHAPE, np.eye(4), "lies elsewhere than the volume ct.nii.gz"),
            (SHAPE, AFFINE * [-1, 1, 1, 1], "by up to 9.0 mm"),  # mirrored around its first voxel
            (SHAPE, AFFINE + np.array([[0, 0, 0, 0.5], *[[0] * 4] * 3]), "by up to 0.5 mm"),
            (SHAPE, AFFINE * [1, 1, 1.1, 1], "lies elsewhere"),
            ((9, 10, 8), AFFINE, "lies elsewhere"),
        ],
    )
    def test_elsewhere(self, problems, tmp_path, shape, affine, reason):
        mask = save(tmp_path / "mask.nii.gz", np.zeros(shape, np.uint8), affine)
        ((file, found),) = problems(mask=mask, open_masks=False)
        assert file == "mask.nii.gz"
        assert reason in found
        assert "resample it" in found

    def test_rounded_headers(self, problems, tmp_path):
        shifted = AFFINE + np.random.default_rng(0).normal(0, 1e-3, (4, 4)) * [[1], [1], [1], [0]]
        assert problems(mask=save(tmp_path / "mask.nii.gz", np.zeros(SHAPE, np.uint8), shifted)) == []

    def test_values(self, problems, tmp_path):
        mask = save(tmp_path / "mask.nii.gz", np.full(SHAPE, 7, np.uint8) * (np.arange(8) > 3).astype(np.uint8))
        assert problems(mask=mask) == []
        ((file, found),) = problems(mask=mask, mask_classes=["lung", "heart"])
        assert file == "mask.nii.gz"
        assert "holds the value 7, but there are 2 classes" in found
        assert problems(mask=mask, mask_classes=["lung", "heart"], open_masks=False) == []

    def test_that_cannot_be_read(self, problems, tmp_path):
        (tmp_path / "text.nii.gz").write_text("no volume")
        (tmp_path / "mask.png").write_text("no volume")
        run_lengths = {"size": [2, 2], "counts": [4]}
        found = problems(mask=["none.nii.gz", "text.nii.gz", "mask.png", "../ct.nii.gz", run_lengths])
        reasons = {file: reason for file, reason in found}
        assert reasons["none.nii.gz"] == "mask: missing"
        assert "cannot read the mask" in reasons["text.nii.gz"]
        assert "mask.png" in reasons
        assert reasons["../ct.nii.gz"] == "mask: lies outside the dataset folder"
        assert "run lengths are of radiographs" in reasons["ct.nii.gz"]

    @pytest.mark.parametrize("plane", [AXIAL, CORONAL, SAGITTAL], ids=str)
    def test_of_a_series(self, problems, tmp_path, plane):
        """A mask that another program made of the NIfTI that another reader made of the series."""
        sitk = pytest.importorskip("SimpleITK")
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(draw(tmp_path / "series", orientation=plane))))
        image = reader.Execute()
        sitk.WriteImage(sitk.Cast(image > 0, sitk.sitkUInt8), str(tmp_path / "mask.nii.gz"))
        assert problems("series", mask="mask.nii.gz") == []
        image.SetOrigin([x + 1 for x in image.GetOrigin()])
        sitk.WriteImage(sitk.Cast(image > 0, sitk.sitkUInt8), str(tmp_path / "mask.nii.gz"))
        ((_, found),) = problems("series", mask="mask.nii.gz")
        assert "by up to 1.7 mm" in found


def test_real_labels_lie_on_their_volume(shared, tmp_path):
    """Those of a real chest CT fit it along any axes; those of one of another spacing do not."""
    folder = shared / "data" / "ct"
    labels = nibabel.load(folder / "chest_small_segmentation.nii.gz")
    for name in ("chest_small", "chest_3mm_int32"):
        (tmp_path / f"{name}.nii.gz").write_bytes((folder / f"{name}.nii.gz").read_bytes())
    for k, axes in enumerate(itertools.permutations(range(3))):
        turned = labels.as_reoriented(np.stack([axes, np.where((k + np.arange(3)) % 2, -1, 1)], axis=1))
        nibabel.save(turned, tmp_path / "labels.nii.gz")
        entry = {"image": "chest_small.nii.gz", "mask": "labels.nii.gz"}
        find = {"mask_keys": ("mask",), "spatial_dims": 3, "open_masks": False}
        assert list(annotation_problems(entry, str(tmp_path), **find)) == []
        entry["image"] = "chest_3mm_int32.nii.gz"
        assert len(list(annotation_problems(entry, str(tmp_path), **find))) == 1


class TestLabeled:
    @pytest.fixture
    def datalist(self, tmp_path):
        def make(**changes):
            entries = []
            for k in range(3):
                mask = np.zeros(SHAPE, np.uint8)
                mask[k : k + 3, 2:5, 3:6] = 1
                entry = {"id": str(k), "patient": str(k), "report": "Nodule in the left lower lobe of the lung."}
                entry |= {"image": save(tmp_path / f"{k}.nii.gz"), "mask": save(tmp_path / f"mask_{k}.nii.gz", mask)}
                entries.append({**entry, "boxes": [INSIDE], "box_labels": [0], "labels": [k % 2], "spacing": [1, 2, 3]})
            entries[0] |= changes
            document = {"classes": ["nodule"], "box_classes": ["nodule"], "training": entries[:2]}
            document["validation"] = entries[2:]
            (tmp_path / "datalist.json").write_text(json.dumps(document))
            return tmp_path / "datalist.json"

        return make

    @pytest.mark.parametrize("section", ["training", "validation"])
    def test_items(self, datalist, section, tmp_path):
        load = {
            task: load_labeled(datalist(), section, task, spatial_dims=3)[0]
            for task in ("segmentation", "detection", "classification")
        }
        k = 0 if section == "training" else 2
        image, spacing = str(tmp_path / f"{k}.nii.gz"), [1, 2, 3]
        assert load["segmentation"] == {"image": image, "label": str(tmp_path / f"mask_{k}.nii.gz"), "spacing": spacing}
        assert load["detection"] == {"image": image, "boxes": [INSIDE], "box_labels": [0], "spacing": spacing}
        assert load["classification"] == {"image": image, "label": [0], "spacing": spacing}

    def test_what_does_not_fit(self, datalist, tmp_path):
        path = datalist(boxes=[[0, 0, 0, 5, 5, 5]])
        with pytest.raises(DataError, match=r"(?s)1 problems for detection.*0\.nii\.gz: the box .* leaves the volume"):
            load_labeled(path, "training", "detection", spatial_dims=3)
        save(tmp_path / "mask_1.nii.gz", np.zeros((10, 9, 7), np.uint8))
        with pytest.raises(DataError, match=r"(?s)mask_1\.nii\.gz: mask of 10 x 9 x 7 voxels .* on the volume"):
            load_labeled(path, "training", "segmentation", spatial_dims=3)

    def test_empty_masks(self, datalist, tmp_path):
        path = datalist()
        for k in range(3):
            save(tmp_path / f"mask_{k}.nii.gz", np.zeros(SHAPE, np.uint8))
        with pytest.raises(DataError, match="no positive example of mask"):
            load_labeled(path, "training", "segmentation", spatial_dims=3)
        with pytest.raises(DataError, match="all masks are empty"):
            load_labeled(path, "validation", "segmentation", spatial_dims=3)

    def test_check(self, datalist, tmp_path, capsys):
        keep = ["--keep", "values are no Hounsfield units", "same image twice in a split", "same image in two splits"]
        assert main(["check", str(datalist()), "--volumes", *keep]) == 0
        path = datalist(boxes=[[-6, -9, -20, -2, -5, -10]])
        save(tmp_path / "mask_1.nii.gz", np.zeros(SHAPE, np.uint8), np.eye(4))
        capsys.readouterr()
        assert main(["check", str(path), "--volumes", *keep]) == 1
        out = capsys.readouterr().out
        assert "box out of range:\n  0.nii.gz: the box [-6, -9, -20, -2, -5, -10] leaves the volume" in out
        assert "negate x and y" in out
        assert "mask does not fit:\n  mask_1.nii.gz: mask of 10 x 9 x 8 voxels (RAS) lies elsewhere" in out
