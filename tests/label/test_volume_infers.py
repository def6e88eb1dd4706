# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The models answer of volumes what the bundle's own inference writes, in the geometry of the file or series."""

from __future__ import annotations

import csv
import json

import nibabel
import numpy as np
import pytest
from fastapi import HTTPException
from monai.bundle import ConfigWorkflow

from monai_mgca.io.volumes.volume_geometry import read_volume_geometry
from monai_mgca.io.volumes.volume_labels import read_volume_labels
from monai_mgca.label.infers.task_infers import ClassificationInfer, DetectionInfer, SegmentationInfer
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.label.store.volume_markups import read_volume_markups
from monai_mgca.utils.errors import first_cause

from .volume_studies import CLASSES, SPACING, draw_ct, save_nifti

sitk = pytest.importorskip("SimpleITK")
STUDIES = ["a.nii.gz", "b.nii", "c.nii.gz", "series"]
AXES = ["LPS", "PIR", "ASL"]


@pytest.fixture(scope="module")
def studies(tmp_path_factory, write_series):
    folder = tmp_path_factory.mktemp("volumes")
    for number, (name, axes) in enumerate(zip(STUDIES, AXES, strict=False)):
        save_nifti(folder / name, draw_ct(number), axes)
    write_series(folder / "series", draw_ct(3), SPACING, (-160, -150, -130))
    return folder


@pytest.fixture
def settings(volume_bundle, tmp_path):
    return LabelSettings.load(tmp_path / "app", {"bundle": str(volume_bundle), "device": "cpu"})


@pytest.fixture
def inference(volume_bundle, studies, tmp_path):
    """What the bundle's inference of a task writes for the folder."""

    def run(task):
        overrides = {"dataset_dir": str(studies), "output_dir": str(tmp_path / task), "num_workers": 0}
        config = str(volume_bundle / "configs" / f"inference_{task}.json")
        workflow = ConfigWorkflow(
            config,
            workflow_type="infer",
            logging_file=False,
            bundle_root=str(volume_bundle),
            device="$torch.device('cpu')",
            **overrides,
        )
        workflow.initialize()
        workflow.run()
        return tmp_path / task

    return run


def place_of(path):
    """Values (X, Y, Z) and the affine to LPS, of another reader."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, affine


def test_segmentation_is_the_bundles(settings, studies, inference):
    assert settings.spatial_dims == 3
    masks, infer = inference("segmentation") / "masks", SegmentationInfer(settings)
    for name in STUDIES:
        geometry = read_volume_geometry(studies / name)
        stem, ending = (name.partition(".")[0], ".nii" if name.endswith(".nii") else ".nii.gz")
        one, two = (nibabel.load(masks / f"{stem}_{kind}{ending}").get_fdata() for kind in CLASSES["segmentation"])
        for extension in ("", ".nrrd")[: 1 + (name == "b.nii")]:
            file, result = infer({"image": str(studies / name), "result_extension": extension})
            assert file.endswith(extension or ".nii.gz")
            labels, affine = place_of(file)
            np.testing.assert_allclose(affine, geometry.affine, atol=1e-4)
            np.testing.assert_array_equal(labels, read_volume_labels(file, geometry))
            differing = ((labels > 0) != (one + two > 0)).mean() + ((labels == 1) & (one == 0)).mean()
            assert differing < 2e-4  # of probabilities that are 0.5 but for the last digits
            assert 0.05 < (labels > 0).mean() < 0.99
        assert result["label_names"] == {"lung": 1, "heart": 2}
    assert infer.info()["dimension"] == 3
    for extension in (".png", ".exe", "/tmp/x.nrrd"):
        with pytest.raises(HTTPException, match="result_extension is one of"):
            infer({"image": str(studies / "b.nii"), "result_extension": extension})


def test_detection_is_the_bundles(settings, studies, inference, tmp_path):
    written = json.loads((inference("detection") / "detections.json").read_text())
    infer = DetectionInfer(settings)
    for name in STUDIES:
        file, result = infer({"image": str(studies / name), "score_threshold": 0.5})
        own = [entry for entry in written if entry["file_name"] == name and entry["score"] >= 0.5]
        assert len(own) == len(result["box_mm"]) > 0
        assert result["label_name"] == [entry["category_name"] for entry in own]
        expected = [[*entry["bbox"][:3], *np.add(entry["bbox"][:3], entry["bbox"][3:])] for entry in own]
        np.testing.assert_allclose(result["box_mm"], expected, atol=0.011)
        geometry = read_volume_geometry(studies / name)
        boxes, names = read_volume_markups(file, geometry)
        np.testing.assert_allclose(boxes, result["box_mm"], atol=0.011)
        assert names == result["label_name"]
        roi = json.loads(open(file).read())["markups"][0]  # noqa: SIM115
        middle = np.reshape(expected[0], (2, 3)).mean(0)
        np.testing.assert_allclose(roi["center"], middle * (-1, -1, 1), atol=0.02)
        assert roi["coordinateSystem"] == "LPS"
        least, greatest = geometry.bounds
        assert (boxes[:, :3] >= least - 0.1).all()
        assert (boxes[:, 3:] <= greatest + 0.1).all()


def test_classification_is_the_bundles(settings, studies, inference):
    rows = list(csv.reader((inference("classification") / "probabilities.csv").open()))
    infer = ClassificationInfer(settings)
    for name in STUDIES:
        file, result = infer({"image": str(studies / name)})
        assert file is None
        row = next(row for row in rows if row[0].endswith(name))
        found = {entry["label"]: entry["score"] for entry in result["prediction"]}
        np.testing.assert_allclose([found[name] for name in CLASSES["classification"]], np.float64(row[1:]), atol=1e-4)


def test_what_is_no_volume_is_refused_by_name(settings, studies, tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 8, 1), np.int16), np.eye(4)), tmp_path / "flat.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes((studies / "a.nii.gz").read_bytes()[:500])
    (tmp_path / "empty").mkdir()
    for name in ("flat.nii.gz", "cut.nii.gz", "empty"):
        with pytest.raises(RuntimeError) as error:
            SegmentationInfer(settings)({"image": str(tmp_path / name)})
        assert name in str(first_cause(error.value))
