# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, RandAffined, Resized, SpatialCropd, SpatialPadd
from PIL import Image

from monai_mgca.transforms import LoadRadiographd, MapBoxesd, RememberAffined, RestoreBoxesd, map_boxes, restore_boxes

BOXES = torch.tensor([[3.0, 5.0, 20.0, 31.5], [0.0, 0.0, 12.0, 7.0], [10.25, 20.5, 30.0, 40.0]])


def make(tmp_path, width, height, *spatial):
    """An image of a bright box [8, 20, 28, 44] that went through transforms."""
    pixels = np.zeros((height, width), dtype=np.uint8)
    pixels[20:44, 8:28] = 255
    Image.fromarray(pixels).save(tmp_path / "image.png")
    load = [LoadRadiographd("image"), RememberAffined("image"), *spatial]
    return Compose(load)({"image": str(tmp_path / "image.png")})["image"]


def fit(size):
    return Resized("image", size, size_mode="longest", mode="area"), SpatialPadd("image", (size, size))


def extent(image):
    """The box around what is bright."""
    rows, columns = np.nonzero(np.asarray(image[0] > 127))
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=torch.float32)


SPATIAL = {
    "nothing": (),
    "fit smaller": fit(32),
    "fit larger": fit(160),
    "flip": (Flipd("image", 1),),
    "crop": (SpatialCropd("image", roi_start=(4, 2), roi_end=(50, 40)),),
    "all": (Flipd("image", 0), *fit(96), Flipd("image", 1)),
}


@pytest.mark.parametrize(("width", "height"), [(61, 83), (83, 61), (64, 64)])
@pytest.mark.parametrize("spatial", SPATIAL.values(), ids=SPATIAL)
def test_there_and_back(tmp_path, width, height, spatial):
    image = make(tmp_path, width, height, *spatial)
    torch.testing.assert_close(restore_boxes(map_boxes(BOXES, image), image), BOXES, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("width", "height"), [(60, 80), (80, 60)])
@pytest.mark.parametrize("spatial", SPATIAL.values(), ids=SPATIAL)
def test_boxes_are_where_the_pixels_are(tmp_path, width, height, spatial):
    image = make(tmp_path, width, height, *spatial)
    mapped = map_boxes([[8, 20, 28, 44]], image)[0]
    torch.testing.assert_close(mapped, extent(image), atol=1.01, rtol=0)
    if not any(isinstance(step, Resized) for step in spatial):
        torch.testing.assert_close(mapped, extent(image))


def test_known_numbers(tmp_path):
    # 60 x 80 to 30 x 40, then 5 columns on either side
    image = make(tmp_path, 60, 80, *fit(40))
    expected = torch.tensor([[4 + 5, 10, 14 + 5, 22], [5, 0, 35, 40]], dtype=torch.float32)
    torch.testing.assert_close(map_boxes([[8, 20, 28, 44], [0, 0, 60, 80]], image), expected)


@pytest.mark.parametrize("angle", [0.1, -0.3, np.pi / 2])
def test_rotated_boxes_hold_their_pixels(tmp_path, angle):
    rotate = RandAffined("image", prob=1, rotate_range=((angle, angle),), mode="bilinear", padding_mode="zeros")
    image = make(tmp_path, 64, 64, rotate)
    mapped = map_boxes([[8, 20, 28, 44]], image)[0]
    torch.testing.assert_close(mapped, extent(image), atol=1.5, rtol=0)
    assert not torch.allclose(mapped, torch.tensor([8.0, 20, 28, 44]), atol=1)


def test_random_affines_move_boxes_with_pixels(tmp_path):
    move = RandAffined("image", prob=1, scale_range=((-0.2, 0.2),) * 2, translate_range=(4, 4), padding_mode="zeros")
    for seed in range(5):
        move.set_random_state(seed)
        image = make(tmp_path, 61, 83, *fit(96), move)
        torch.testing.assert_close(map_boxes([[8, 20, 28, 44]], image)[0], extent(image), atol=1.5, rtol=0)
        torch.testing.assert_close(restore_boxes(map_boxes(BOXES, image), image), BOXES, atol=1e-3, rtol=0)


def test_world_geometry_does_not_matter():
    """An affine with spacing and other axes, as of DICOM and NIfTI."""
    affine = torch.tensor([[0, -0.5, 0, 7], [0.25, 0, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1]], dtype=torch.float64)
    image = MetaTensor(torch.zeros(1, 50, 40), affine=affine, meta={"spatial_shape": (50, 40)})
    image = Compose([RememberAffined("image"), *fit(25)])({"image": image})["image"]
    torch.testing.assert_close(map_boxes([[0, 0, 40, 50]], image), torch.tensor([[2.0, 0, 22, 25]]))


def test_vanished_boxes_go_with_their_labels(tmp_path):
    crop = SpatialCropd("image", roi_start=(0, 0), roi_end=(40, 30))
    image = make(tmp_path, 60, 80, crop)
    boxes = [[5, 5, 10, 10], [20, 30, 50, 60], [35, 5, 45, 10], [29.5, 5, 50, 10]]
    transform = MapBoxesd("boxes", "image", "box_labels", min_size=1.0)
    item = transform({"image": image, "boxes": boxes, "box_labels": [3, 1, 4, 2]})
    assert item["boxes"].tolist() == [[5, 5, 10, 10], [20, 30, 30, 40]]
    assert item["box_labels"].tolist() == [3, 1]
    assert (item["boxes"].dtype, item["box_labels"].dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), torch.zeros(0, 4)])
def test_no_boxes(tmp_path, boxes):
    image = make(tmp_path, 60, 80, *fit(32))
    item = MapBoxesd("boxes", "image", ["box_labels"])({"image": image, "boxes": boxes, "box_labels": []})
    assert (item["boxes"].shape, item["box_labels"].shape) == ((0, 4), (0,))
    assert RestoreBoxesd("boxes")(item)["boxes"].shape == (0, 4)


def test_restored_boxes_are_clipped(tmp_path):
    image = make(tmp_path, 60, 80, *fit(40))
    item = {"image": image, "boxes": torch.tensor([[0.0, -3.0, 40.0, 60.0]])}
    assert RestoreBoxesd("boxes")(item)["boxes"].tolist() == [[0, 0, 60, 80]]
    assert item["boxes"].tolist() == [[0, -3, 40, 60]]


def test_missing_keys_and_meta_data(tmp_path):
    image = make(tmp_path, 60, 80)
    assert MapBoxesd("boxes", allow_missing_keys=True)({"image": image}).keys() == {"image"}
    with pytest.raises(ValueError, match="RememberAffined behind LoadRadiographd"):
        map_boxes(BOXES, LoadRadiographd("image")({"image": str(tmp_path / "image.png")})["image"])
    with pytest.raises(ValueError, match="RememberAffined"):
        map_boxes(BOXES, torch.zeros(1, 4, 4))


def test_the_image_loaded_is_left_alone(tmp_path):
    loaded = LoadRadiographd("image")({"image": make(tmp_path, 60, 80).meta["filename_or_obj"]})
    RememberAffined("image")(loaded)
    assert "loaded_affine" not in loaded["image"].meta
