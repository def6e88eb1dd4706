# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""Radiographs, their masks and their sizes are upright, as the file says, whatever way its pixels are stored."""

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_mgca.data.annotations import image_size
from monai_mgca.data.check.image_problems import check_radiograph
from monai_mgca.data.check.problem import CheckLimits
from monai_mgca.io.orientation import Turn, turn_of_file
from monai_mgca.io.pictures import upright
from monai_mgca.transforms import LoadMask, LoadRadiograph, SaveMaskd

# Three rows, four columns, all different.
GRAY = (np.arange(12).reshape(3, 4) * 20).astype(np.uint8)
# EXIF's orientation: what was done to the upright image before it was stored
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a, -1),
}
TURNS = [Turn(bool(i & 1), bool(i & 2), bool(i & 4)) for i in range(8)]


@pytest.mark.parametrize("turn", TURNS)
def test_turn_and_back(turn):
    shown = turn.apply(GRAY)
    np.testing.assert_array_equal(turn.undo(shown), GRAY)
    assert torch.equal(turn.apply(torch.from_numpy(GRAY)), torch.from_numpy(shown.copy()))
    matrix = turn.matrix(shown.shape)
    for place in np.ndindex(shown.shape):
        row, column = (matrix @ [*place, 0, 1])[:2].astype(int)
        assert GRAY[row, column] == shown[place]


def save_exif(path, values, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(values)).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize(("orientation", "store"), STORED.items())
@pytest.mark.parametrize(
    "name", ["a.png", "a.tif", "lzw.tif", "a.webp", "16.png", "16.tif", "16lzw.tif", "rgb.tif", "palette.png"]
)
def test_exif_orientation(tmp_path, orientation, store, name):
    values = np.ascontiguousarray(store(GRAY))
    if "16" in name:
        values = values.astype(np.uint16) * 200
    if "rgb" in name:
        values = np.stack([values] * 3, axis=-1)
    path, options = tmp_path / name, {"lossless": True} if "webp" in name else {}
    options |= {"compression": "tiff_lzw"} if "lzw" in name else {}
    if name == "palette.png":
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(values).convert("P").save(path, exif=exif)
    else:
        save_exif(path, values, orientation, **options)
    right = GRAY * 255.0 / 220 if "16" in name else GRAY
    np.testing.assert_allclose(LoadRadiograph()(path)[0], right, atol=0.01)
    assert image_size(path) == (3, 4)
    if name != "palette.png":  # whose indices count, not their colors
        if "16" not in name:
            with Image.open(path) as image:
                np.testing.assert_array_equal(upright(image).convert("L"), GRAY)
        mask = ((store(GRAY) > 100) * 255).astype(np.uint8)
        save_exif(tmp_path / f"mask.{name.split('.')[1]}", mask, orientation, **options)
        np.testing.assert_array_equal(LoadMask()(str(tmp_path / f"mask.{name.split('.')[1]}"))[0], GRAY > 100)
    found = check_radiograph(str(path), CheckLimits(min_side=1)).found
    assert [reason for reason, _ in found] == ["turned by its header"] * (orientation != 1)


def test_exif_of_a_jpeg_and_behind_the_pixels_of_a_png(tmp_path):
    blocks = np.kron(GRAY, np.ones((16, 16), np.uint8))
    save_exif(tmp_path / "a.jpg", np.rot90(blocks, 1), 6, quality=98)
    assert np.abs(LoadRadiograph()(tmp_path / "a.jpg")[0].numpy() - blocks).max() < 4
    assert image_size(tmp_path / "a.jpg") == (48, 64)
    content = save_exif(tmp_path / "a.png", np.rot90(GRAY, 1), 6).read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    (tmp_path / "a.png").write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    np.testing.assert_array_equal(LoadRadiograph()(tmp_path / "a.png")[0], GRAY)
    assert image_size(tmp_path / "a.png") == (3, 4)


def save_nifti(path, values, affine, codes=(1, 1)):
    """(H, W) values, stored as they are."""
    image = nibabel.Nifti1Image(np.ascontiguousarray(values.T)[:, :, None], affine)
    image.header["sform_code"], image.header["qform_code"] = codes
    nibabel.save(image, path)
    return path


def reoriented(path, axes):
    """The same image in the same place, stored along other axes."""
    image = nibabel.load(path)
    now = nibabel.io_orientation(image.affine)
    new = image.as_reoriented(nibabel.orientations.ornt_transform(now, nibabel.orientations.axcodes2ornt(axes)))
    nibabel.save(new, path)


# the upright picture in its place: columns to the patient's left, rows to the back; or to the feet; or from the side
AXIAL = np.array([[-0.2, 0, 0, 40], [0, -0.3, 0, 50], [0, 0, 1, 7], [0, 0, 0, 1.0]])
CORONAL = np.array([[-0.2, 0, 0, 40], [0, 0, 1, 7], [0, -0.3, 0, 50], [0, 0, 0, 1.0]])
SAGITTAL = np.array([[0, 0, 1, 7], [-0.2, 0, 0, 40], [0, -0.3, 0, 50], [0, 0, 0, 1.0]])
WAYS = {
    "axial": (AXIAL, ["LPS", "LAS", "RAS", "RPS", "PLS", "ALS", "ARS"]),
    "coronal": (CORONAL, ["LIA", "LSA", "RSA", "RIA", "SLA", "IRA"]),
    "sagittal": (SAGITTAL, ["PIR", "AIR", "PSR", "ASR", "SPR"]),
}


@pytest.mark.parametrize(("plane", "axes"), [(plane, axes) for plane, (_, ways) in WAYS.items() for axes in ways])
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (2, 0)])
def test_nifti_is_upright_however_it_is_stored(tmp_path, plane, axes, codes):
    path = save_nifti(tmp_path / "a.nii.gz", GRAY, WAYS[plane][0], codes)
    reoriented(path, axes)
    image = LoadRadiograph()(path)
    np.testing.assert_array_equal(image[0], GRAY)
    # where a pixel is stays where it is
    place = image.affine.numpy() @ [2, 1, 0, 1]
    np.testing.assert_allclose(place, WAYS[plane][0] @ [1, 2, 0, 1], atol=1e-4)
    assert image_size(path) == (3, 4)
    path = save_nifti(tmp_path / "mask.nii.gz", (GRAY > 100).astype(np.uint8), WAYS[plane][0], codes)
    reoriented(path, axes)
    np.testing.assert_array_equal(LoadMask()(str(path))[0], GRAY > 100)


AS_STORED = {
    "identity": (np.eye(4), (2, 0)),
    "spacing alone": (np.diag([0.2, 0.3, 1, 1]), (2, 0)),
    "nothing": (None, (0, 0)),
    "ITK's": (np.diag([-0.2, -0.3, 1, 1]), (1, 1)),
}


@pytest.mark.parametrize(("affine", "codes"), AS_STORED.values(), ids=AS_STORED)
def test_nifti_that_does_not_say_which_way_is_up_is_as_stored(tmp_path, affine, codes):
    np.testing.assert_array_equal(LoadRadiograph()(save_nifti(tmp_path / "a.nii", GRAY, affine, codes))[0], GRAY)


@pytest.mark.parametrize("codes", [(0, 0), (1, 1), (1, 0)])
def test_nifti_as_dcm2niix_writes_it(tmp_path, codes):
    """Rows from bottom to top, and columns that it knows nothing of, in a header of no known space (now) or of one."""
    image = nibabel.Nifti1Image(np.ascontiguousarray(GRAY[::-1].T)[:, :, None], None)
    image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = [1, 0, 0, 0], [0, 1, 0, -2], [0, 0, 1, 0]
    image.header["qoffset_y"], image.header["sform_code"], image.header["qform_code"] = -2, *codes
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(LoadRadiograph()(tmp_path / "a.nii")[0], GRAY)


@pytest.mark.parametrize("degenerate", [np.diag([np.nan, 1, 1, 1]), np.zeros((4, 4)), np.diag([0, 1.0, 1, 1])])
def test_nifti_of_no_sense_is_as_stored(tmp_path, degenerate):
    image = nibabel.Nifti1Image(np.ascontiguousarray(GRAY.T), np.eye(4))
    for name, row in zip("xyz", degenerate, strict=False):
        image.header[f"srow_{name}"] = row
    path = tmp_path / "a.nii"
    path.write_bytes(image.header.binaryblock + bytes(4) + GRAY.tobytes())
    assert turn_of_file(path) == Turn()


@pytest.mark.parametrize("axes", ["LPS", "LAS", "RAS", "ALS"])
@pytest.mark.parametrize("space", ["known", "unknown"])
def test_mask_that_is_written_lies_on_its_image(tmp_path, axes, space):
    path = save_nifti(
        tmp_path / "a.nii.gz", GRAY, AXIAL if space == "known" else None, (1, 1) if space == "known" else (0, 0)
    )
    if space == "known":
        reoriented(path, axes)
    image = LoadRadiograph()(path)
    mask = image.clone()
    mask[...] = image > 100
    SaveMaskd("pred", tmp_path / "out", tmp_path, ["lung"])({"pred": mask})
    written, original = nibabel.load(tmp_path / "out" / "a_mask.nii.gz"), nibabel.load(path)
    np.testing.assert_allclose(written.affine, original.affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(original.dataobj) > 100)
    np.testing.assert_array_equal(LoadMask()(str(tmp_path / "out" / "a_mask.nii.gz"))[0], GRAY > 100)


def test_case(shared):
    folder = shared / "cases" / "nifti_radiograph_upside_down"
    for name in ("dcm2niix.nii", "sitk.nii", "plain.dcm"):
        np.testing.assert_allclose(LoadRadiograph()(folder / name)[0], np.load(folder / "right.npy"), atol=0.01)
