# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools

import numpy as np
import pytest
from monai.data import decollate_batch, list_data_collate
from monai.metrics import compute_hausdorff_distance
from monai.transforms import AsDiscreted, Compose, RepeatChanneld, Resized, ScaleIntensityRanged, SpatialPadd
from PIL import Image

from monai_mgca.transforms import InvertProbabilitiesd, LoadMask, LoadRadiographd


def draw(width, height):
    """A box in the upper left and an ellipse in the lower right: no flip or transposition leaves it alike."""
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    box = (y > 0.2) & (y < 0.7) & (x > 0.1) & (x < 0.35)
    return box | (((y - 0.6) / 0.3) ** 2 + ((x - 0.72) / 0.2) ** 2 < 1)


def preprocessing(size, channels=1):
    """The spatial part of the configs, then values of 0 to 1."""
    return Compose(
        [
            LoadRadiographd("image"),
            Resized("image", size, size_mode="longest", mode="area"),
            SpatialPadd("image", (size, size)),
            ScaleIntensityRanged("image", 0, 255, 0, 1),
            RepeatChanneld("image", channels),
        ]
    )


@pytest.mark.parametrize(("width", "height"), [(61, 83), (83, 61), (64, 64), (200, 90), (77, 150), (301, 299)])
@pytest.mark.parametrize("size", [32, 64, 96, 160])
def test_a_mask_survives_within_a_pixel(tmp_path, width, height, size):
    """Load, resize and pad, predict what is seen, invert: the contour is a pixel off at most, of the coarser grid."""
    mask, path = draw(width, height), str(tmp_path / "mask.png")
    Image.fromarray(mask).save(path)
    transform = preprocessing(size)
    item = transform({"image": path})
    item["pred"] = item["image"].clone()
    post = Compose([InvertProbabilitiesd("pred", transform), AsDiscreted("pred", threshold=0.5)])
    found = post(item)["pred"].as_tensor()
    expected = LoadMask()(path).as_tensor()
    assert found.shape == expected.shape == (1, height, width)
    distance = compute_hausdorff_distance(found[None], expected[None], include_background=True)
    assert distance <= max(1, max(width, height) / size)


def test_batches_plain_tensors_and_the_image_itself(tmp_path):
    """As in an engine: a network gives a plain tensor of other channels than the image; images differ in size."""
    transform = preprocessing(48, channels=3)
    items = []
    for index, (width, height) in enumerate(itertools.permutations((60, 90))):
        Image.fromarray(draw(width, height)).save(tmp_path / f"{index}.png")
        items.append(transform({"image": str(tmp_path / f"{index}.png")}))
    batch = list_data_collate(items)
    batch["pred"] = batch["image"][:, :2].as_tensor()
    for (width, height), item in zip(itertools.permutations((60, 90)), decollate_batch(batch), strict=True):
        result = InvertProbabilitiesd("pred", transform, "image")(item)
        assert result["pred"].shape == (2, height, width)
        assert result["image"] is item["image"]
        assert result["image"].shape == (3, 48, 48)
        agree = (result["pred"][1].as_tensor() > 0.5).numpy() == draw(width, height)
        assert agree.mean() > 0.98


def test_probabilities_are_smooth_and_stay_in_range(tmp_path):
    """Made larger by interpolation: between two network pixels there are values between."""
    Image.fromarray(np.repeat(np.array([[0, 255]], dtype=np.uint8), 128, 0).repeat(64, 1)).save(tmp_path / "step.png")
    transform = preprocessing(16)
    item = transform({"image": str(tmp_path / "step.png")})
    row = InvertProbabilitiesd("pred", transform)({**item, "pred": item["image"].clone()})["pred"][0, 64]
    assert row.min() >= 0
    assert row.max() <= 1
    assert len(row.unique()) > 4
    assert (row.diff() >= 0).all()
