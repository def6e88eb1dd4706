# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""CT series of a real PACS, Orthanc: fetched whole, and masks back as DICOM SEG that dcmqi reads."""

from __future__ import annotations

import shutil
import subprocess

import nibabel
import numpy as np
import pytest

from monai_mgca.io.volumes.volume_geometry import read_volume_geometry, write_volume
from monai_mgca.io.volumes.volume_labels import read_volume_labels
from monai_mgca.label.store.pacs_volumes import connect
from monai_mgca.transforms import LoadVolume

from .test_orthanc import orthanc, segs  # noqa: F401  a fixture
from .volume_studies import SPACING, draw_ct

pydicom = pytest.importorskip("pydicom")
dicomweb_client = pytest.importorskip("dicomweb_client")


def test_a_series_comes_whole_and_its_mask_goes_back(orthanc, write_series, tmp_path):  # noqa: F811
    folder = write_series(tmp_path / "ct", draw_ct(1), SPACING, (-160, -150, -130))
    kept = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    dicomweb_client.DICOMwebClient(orthanc).store_instances(kept)
    store, uid = connect(orthanc, tmp_path / "cache"), kept[0].SeriesInstanceUID
    assert store.list_images() == [uid]
    path, read = store.get_image_uri(uid), LoadVolume()(folder)
    np.testing.assert_array_equal(nibabel.load(path).get_fdata(), read[0].numpy())
    np.testing.assert_allclose(nibabel.load(path).affine, read.affine.numpy(), atol=1e-4)
    geometry = read_volume_geometry(path)
    mask = np.zeros(geometry.size, np.uint8, order="F")
    mask[4:20, 3:9, 2:7], mask[5:9, 12:20, 6:15] = 1, 2
    write_volume(mask, geometry, tmp_path / "mask.nrrd")
    names = [{"name": "lung", "idx": 1}, {"name": "heart", "idx": 2}]
    store.save_label(uid, str(tmp_path / "mask.nrrd"), "final", {"label_info": names})
    fresh = connect(orthanc, tmp_path / "elsewhere")
    assert fresh.get_labeled_images() == [uid]
    np.testing.assert_array_equal(read_volume_labels(fresh.get_label_uri(uid, "final"), geometry), mask)
    assert fresh.get_label_info(uid, "final") == {"label_info": names}
    program = shutil.which("segimage2itkimage")
    if program is None:
        pytest.skip("dcmqi is not installed: pip install dcmqi")
    (seg,) = segs(orthanc)
    seg.save_as(tmp_path / "seg.dcm", write_like_original=False)
    command = [program, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "--outputType", "nrrd"]
    subprocess.run([*command, "--mergeSegments"], check=True, capture_output=True)
    np.testing.assert_array_equal(read_volume_labels(tmp_path / "1.nrrd", geometry), mask)
