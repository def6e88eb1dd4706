# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_mgca.io.geometry import Geometry, read_geometry, read_label_map, write_label_map
from monai_mgca.label.store.markups import boxes_to_markups, markups_to_boxes
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils import DataError

TURNED = np.array([[0, -0.3, 0, 5], [0.2, 0, 0, -7], [0, 0, 1, 2], [0, 0, 0, 1]], dtype=float)
AFFINES = {"identity": np.eye(4), "flipped": np.diag([-0.2, -0.3, 1, 1]), "turned": TURNED}


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.nii.gz", "a.dcm"])
def test_size_and_spacing_of_every_format(tmp_path, save_image, name):
    geometry = read_geometry(save_image(tmp_path / name))
    assert geometry.size == (31, 47)
    spacing = {"a.dcm": (0.2, 0.3, 1)}.get(name, (1, 1, 1))
    np.testing.assert_allclose(np.linalg.norm(geometry.affine[:3, :3], axis=0), spacing, atol=1e-6)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_affine_is_that_of_nibabel_in_lps(tmp_path, save_image, affine):
    path = save_image(tmp_path / "a.nii.gz", affine=affine)
    np.testing.assert_allclose(read_geometry(path).stored_affine, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-6)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz", ".nii"])
def test_a_label_map_lies_where_the_image_lies(tmp_path, save_image, affine, ending):
    geometry = read_geometry(save_image(tmp_path / "a.nii.gz", affine=affine))
    values = np.random.default_rng(1).integers(0, 3, geometry.size[::-1], dtype=np.uint8)
    write_label_map(values, geometry, tmp_path / f"label{ending}")
    np.testing.assert_array_equal(read_label_map(tmp_path / f"label{ending}", geometry.turn), values)
    written = read_geometry(tmp_path / f"label{ending}").stored_affine
    np.testing.assert_allclose(written, geometry.stored_affine, atol=1e-6)
    if ending == ".nii.gz":
        written = nib.load(tmp_path / "label.nii.gz")
        assert written.shape == (31, 47, 1)
        assert written.get_data_dtype() == np.uint8
        np.testing.assert_allclose(written.affine, affine, atol=1e-6)
        np.testing.assert_array_equal(geometry.turn.apply(np.asarray(written.dataobj)[..., 0].T), values)


def test_displayed_pixels_have_their_place_in_the_patient(tmp_path, save_image):
    """A box that is drawn on the radiograph as it is displayed comes to the same pixels of the file in a viewer."""
    path = save_image(
        tmp_path / "a.nii.gz", affine=np.array([[-1, 0, 0, 30], [0, 1, 0, -46], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    )
    geometry = read_geometry(path)
    shown, stored = LoadRadiograph()(path)[0].numpy(), np.asarray(nib.load(path).dataobj).reshape(31, 47)
    row, column = 5, 20
    place = np.linalg.inv(nib.load(path).affine) @ np.diag([-1, -1, 1, 1]) @ geometry.affine @ [column, row, 0, 1]
    x, y = place[:2].round().astype(int)
    assert (x, y) == (20, 41)
    ranks = [np.searchsorted(np.unique(values), values) for values in (shown, stored)]
    assert ranks[0][row, column] == ranks[1][x, y]


def test_label_of_a_turned_photograph(tmp_path):
    """Viewers know nothing of EXIF: the label is stored as the photograph is."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (47, 31), 9).save(tmp_path / "a.jpg", exif=exif)
    geometry = read_geometry(tmp_path / "a.jpg")
    assert geometry.size == (31, 47)
    values = np.random.default_rng(1).integers(0, 3, (47, 31), dtype=np.uint8)
    for ending in (".nrrd", ".nii.gz", ".png"):
        write_label_map(values, geometry, tmp_path / f"label{ending}")
        assert read_label_map(tmp_path / f"label{ending}").shape == (31, 47)
        np.testing.assert_array_equal(read_label_map(tmp_path / f"label{ending}", geometry.turn), values)


def test_png_holds_the_values_alone(tmp_path, save_image):
    geometry = read_geometry(save_image(tmp_path / "a.png"))
    values = np.random.default_rng(1).integers(0, 3, (47, 31), dtype=np.uint8)
    write_label_map(values, geometry, tmp_path / "label.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "label.png"), values)
    with pytest.raises(DataError, match="a PNG holds whole numbers"):
        write_label_map(values / 2, geometry, tmp_path / "label.png")


def test_a_label_that_leads_to_another_file_is_not_read(tmp_path):
    """It could be any file of the server, and would go to the PACS as a mask."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(range(100)))
    header = "NRRD0004\ntype: uint8\ndimension: 2\nsizes: 10 10\nencoding: raw\n"
    (tmp_path / "whole.nrrd").write_bytes(f"{header}\n".encode() + secret.read_bytes())
    assert read_label_map(tmp_path / "whole.nrrd")[0, 9] == 9
    (tmp_path / "whole.nrrd").write_bytes(header.replace("uint8", "int64").encode() + b"\n" + secret.read_bytes() * 8)
    assert read_label_map(tmp_path / "whole.nrrd").shape == (10, 10)  # NumPy's own whole numbers
    for field in ("data file", "datafile", "Data File"):
        (tmp_path / "label.nrrd").write_text(f"{header}{field}: {secret}\n\n")
        with pytest.raises(DataError, match="another file"):
            read_label_map(tmp_path / "label.nrrd")
    meta = "ObjectType = Image\nNDims = 2\nDimSize = 10 10\nElementType = MET_UCHAR\n"
    (tmp_path / "label.mhd").write_text(f"{meta}ElementDataFile = {secret}\n")
    with pytest.raises(DataError, match="a label is"):
        read_label_map(tmp_path / "label.mhd")


def test_what_cannot_be_read_or_written_is_named(tmp_path, save_image):
    geometry = read_geometry(save_image(tmp_path / "a.png"))
    with pytest.raises(DataError, match=r"values of \(31, 47\) do not fit an image of \(47, 31\)"):
        write_label_map(np.zeros((31, 47), np.uint8), geometry, tmp_path / "label.nrrd")
    with pytest.raises(DataError, match=r"label\.exe: the result can be"):
        write_label_map(np.zeros((47, 31), np.uint8), geometry, tmp_path / "label.exe")
    (tmp_path / "broken.nrrd").write_text("NRRD0004\nnothing")
    for read in (read_geometry, read_label_map):
        with pytest.raises(DataError, match=r"broken\.nrrd"):
            read(tmp_path / "broken.nrrd")
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4)), tmp_path / "volume.nii.gz")
    for read in (read_geometry, read_label_map):
        with pytest.raises(DataError, match=r"volume\.nii\.gz"):
            read(tmp_path / "volume.nii.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "broken.nrrd", "volume.nii.gz"]


BOXES = np.array([[0, 0, 31, 47], [2.5, 3, 12, 23.25], [30, 46, 31, 47]])


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_boxes_come_back_as_they_were(affine):
    geometry = Geometry((31, 47), np.diag([-1, -1, 1, 1]) @ affine)
    names = ["nodule", "pleural effusion", "nodule"]
    content = boxes_to_markups(BOXES, names, [0.9, 0.5, 0.1], geometry)
    boxes, found = markups_to_boxes(content, geometry)
    np.testing.assert_allclose(boxes, BOXES, atol=1e-6)
    assert found == names
    assert [roi["description"] for roi in content["markups"]] == ["score 0.900", "score 0.500", "score 0.100"]


def test_a_box_is_at_its_pixels_place():
    """By hand: the centers of its first and last pixel, half a pixel within its edges, in LPS."""
    geometry = Geometry((31, 47), np.diag([0.2, 0.3, 1, 1]))
    roi = boxes_to_markups(np.array([[10, 20, 14, 30]]), ["nodule"], None, geometry)["markups"][0]
    first, last = np.array([10 * 0.2, 20 * 0.3]), np.array([13 * 0.2, 29 * 0.3])
    np.testing.assert_allclose(roi["center"], [*(first + last) / 2, 0])
    np.testing.assert_allclose(roi["size"], [4 * 0.2, 10 * 0.3, 1])
    assert roi["coordinateSystem"] == "LPS"
    assert roi["type"] == "ROI"
    assert roi["roiType"] == "Box"


def test_what_slicer_makes_of_a_roi_is_understood():
    geometry = Geometry((31, 47), np.eye(4))
    drawn = {
        "type": "ROI",
        "name": "nodule_2",
        "coordinateSystem": "LPS",
        "center": [6.5, 12.5, 0],
        "size": [10, 20, 9],
    }
    boxes, names = markups_to_boxes({"markups": [drawn]}, geometry)
    np.testing.assert_allclose(boxes, [[2, 3, 12, 23]])
    assert names == ["nodule"]
    turned = {**drawn, "orientation": [0, -1, 0, 1, 0, 0, 0, 0, 1]}  # by a right angle: the sides change
    np.testing.assert_allclose(markups_to_boxes({"markups": [turned]}, geometry)[0], [[-3, 8, 17, 18]])
    ras = {**drawn, "coordinateSystem": "RAS", "center": [-6.5, -12.5, 0]}
    np.testing.assert_allclose(markups_to_boxes({"markups": [ras]}, geometry)[0], [[2, 3, 12, 23]])
    assert markups_to_boxes({"markups": []}, geometry)[0].shape == (0, 4)


@pytest.mark.parametrize("content", [{}, [], {"markups": [{"type": "Fiducial", "controlPoints": []}]}])
def test_other_markups_are_refused(content):
    with pytest.raises(DataError, match=r"markups|ROI"):
        markups_to_boxes(content, Geometry((31, 47), np.eye(4)))
