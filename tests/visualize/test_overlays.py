# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.transforms import AsDiscreted, Compose, Resized, SpatialPadd
from PIL import Image

from monai_mgca.handlers import OverlaySaver
from monai_mgca.transforms import InvertProbabilitiesd, LoadRadiographd
from monai_mgca.visualize.overlay import _COLORS, draw_heat, draw_overlay


@pytest.fixture
def images(tmp_path):
    """Dark radiographs, not square, with a bright box of columns 10 to 29 and rows 8 to 15."""
    pixels = np.zeros((40, 60), dtype=np.uint8)
    pixels[8:16, 10:30] = 200
    folder = tmp_path / "images"
    (folder / "ward").mkdir(parents=True)
    Image.fromarray(pixels).save(folder / "a.png")
    nibabel.save(nibabel.Nifti1Image(pixels.T[..., None], np.eye(4)), folder / "ward" / "b.nii.gz")
    return folder


def test_masks_of_an_evaluator(images, tmp_path):
    """What is bright is predicted and drawn where it is, at the size of the file."""
    transform = Compose(
        [
            LoadRadiographd("image"),
            Resized("image", 60, size_mode="longest", mode="area"),
            SpatialPadd("image", (60, 60)),
        ]
    )
    files = [{"image": str(images / "a.png")}, {"image": str(images / "ward" / "b.nii.gz")}]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(files, transform), batch_size=2),
        network=torch.nn.Identity(),
        postprocessing=Compose([InvertProbabilitiesd("pred", transform), AsDiscreted("pred", threshold=100)]),
        val_handlers=[OverlaySaver(tmp_path / "out", images, ["lung"], mask_key="pred")],
    )
    evaluator.run()
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == ["a_overlay.png", "ward/b_overlay.png"]
    for name in ("a_overlay.png", "ward/b_overlay.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.size == (60, 40)
            pixels = np.asarray(picture)
        colored = (pixels != pixels[..., :1]).any(axis=2)
        assert (np.argwhere(colored).min(0) == (8, 10)).all()
        assert (np.argwhere(colored).max(0) == (15, 29)).all()
        assert (pixels[8, 10] == _COLORS[0]).all()
        assert (pixels[12, 20] == (0.75 * 200 + 0.25 * np.array(_COLORS[0])).astype(int)).all()


def test_each_class_has_its_color():
    masks = torch.zeros(2, 20, 30)
    masks[0, 2:8, 2:8] = masks[1, 10:18, 10:28] = 1
    pixels = np.asarray(draw_overlay(torch.zeros(20, 30), masks))
    assert (pixels[2, 2] == _COLORS[0]).all()
    assert (pixels[10, 10] == _COLORS[1]).all()


def test_an_empty_mask_draws_nothing():
    pixels = np.asarray(draw_overlay(torch.full((20, 30), 90.0), torch.zeros(1, 20, 30)))
    assert (pixels == 90).all()


class TestHeat:
    def test_the_warmer_the_more_orange(self):
        heat = torch.tensor([[-3.0, 0.0, 1.0]])
        found = np.asarray(draw_heat(torch.full((1, 3), 100.0), heat), dtype=float)[0]
        for share, pixel in zip((0, 0.75, 1), found, strict=True):
            opacity = 0.65 * share**1.5
            assert pixel.tolist() == pytest.approx([(1 - opacity) * 100 + opacity * c for c in _COLORS[0]], abs=1)

    def test_outline_of_a_region(self):
        region = torch.zeros(9, 12)
        region[2:7, 3:9] = 1
        found = np.asarray(draw_heat(torch.zeros(9, 12), torch.zeros(9, 12), region))
        blue = (found == np.array(_COLORS[1])).all(2)
        wanted = region.numpy() > 0
        wanted[3:6, 4:8] = False
        assert (blue == wanted).all()
        assert (found[~blue] == 0).all()

    @pytest.mark.parametrize(("heat", "region", "message"), [((8, 9), None, "heat map"), ((9, 8), (8, 9), "mask")])
    def test_another_size(self, heat, region, message):
        with pytest.raises(ValueError, match=message):
            draw_heat(torch.zeros(9, 8), torch.zeros(heat), None if region is None else torch.ones(region))
