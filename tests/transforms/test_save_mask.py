# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_mgca.transforms import LoadMask, LoadRadiographd, SaveMaskd

# three rows, four columns: a flip or a transposition shows
MASK = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float32)
AFFINE = np.array([[-0.2, 0, 0, 5], [0, 0, -2, 6], [0, -0.3, 0, 7], [0, 0, 0, 1]])


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    if ".nii" in path.name:
        stored = pixels.T if path.name.startswith("flat") else pixels.T[..., None]
        image = nibabel.Nifti1Image(stored, AFFINE)
        image.header.set_xyzt_units("mm", "sec")
        nibabel.save(image, path)
    else:
        Image.fromarray(pixels).save(path)
    return path


def save(path, mask, tmp_path, classes=("lung",)):
    """Save a mask of an image that was loaded from a path; the files written, by their path in the folder."""
    image = LoadRadiographd("image")({"image": str(path)})["image"]
    item = {"pred": MetaTensor(mask, meta=image.meta)}
    transform = SaveMaskd("pred", output_dir=tmp_path / "out", data_dir=tmp_path / "in", classes=classes)
    assert transform(item)["pred"] is item["pred"]
    return {file.relative_to(tmp_path / "out").as_posix(): file for file in (tmp_path / "out").rglob("*.*")}


@pytest.mark.parametrize("name", ["a.png", "ward/a.b.jpg", "A.TIFF"])
def test_png_of_an_image(tmp_path, name):
    written = save(write_image(tmp_path / "in" / name), MASK[None], tmp_path)
    (stem, file), *rest = written.items()
    assert (stem, rest) == (f"{name.rsplit('.', 1)[0]}_mask.png", [])
    with Image.open(file) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), MASK.numpy() * 255)
    assert torch.equal(LoadMask()(file).as_tensor(), MASK[None])


def test_each_image_has_its_mask(tmp_path):
    names = ["IM000001", "IM000002", "1.2.840.7", "1.2.840.8", "a.JPG", "b.c"]
    (tmp_path / "in").mkdir()
    for name in names:
        Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / "in" / name, format="PNG")
        written = save(tmp_path / "in" / name, MASK[None], tmp_path)
    assert set(written) == {f"{name.removesuffix('.JPG')}_mask.png" for name in names}


@pytest.mark.parametrize("name", ["flat.nii", "flat.nii.gz", "ward/deep.nii", "deep.nii.gz"])
def test_nifti_has_the_image_geometry(tmp_path, name):
    path = write_image(tmp_path / "in" / name)
    (stem, file), *rest = save(path, MASK[None], tmp_path).items()
    assert (stem, rest) == (name.replace(".nii", "_mask.nii"), [])
    image, mask = nibabel.load(path), nibabel.load(file)
    assert mask.shape == image.shape
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_allclose(mask.affine, image.affine)
    np.testing.assert_allclose(mask.header.get_zooms(), image.header.get_zooms())
    assert mask.header.get_xyzt_units() == ("mm", "sec")
    assert np.array_equal(np.squeeze(mask.get_fdata()), MASK.T.numpy())
    assert torch.equal(LoadMask()(file).as_tensor(), MASK[None])


def test_a_file_for_each_of_several_classes(tmp_path):
    """They may overlap; what is written is read back as a list of masks."""
    both = torch.stack([MASK, torch.ones_like(MASK)])
    written = save(write_image(tmp_path / "in" / "a.png"), both, tmp_path, ["left lung", "heart"])
    assert set(written) == {"a_left_lung.png", "a_heart.png"}
    files = [str(written[name]) for name in ("a_left_lung.png", "a_heart.png")]
    assert torch.equal(LoadMask(2)(files).as_tensor(), both)


def test_number_of_classes(tmp_path):
    path = write_image(tmp_path / "in" / "a.png")
    with pytest.raises(ValueError, match="zip"):
        save(path, torch.stack([MASK, MASK]), tmp_path, ["left", "right", "heart"])


def test_missing_keys(tmp_path):
    transform = SaveMaskd("pred", tmp_path, tmp_path, ["lung"], allow_missing_keys=True)
    assert transform({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError):
        SaveMaskd("pred", tmp_path, tmp_path, ["lung"])({"image": 1})
