# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, MetaTensor, get_track_meta
from monai.transforms import (
    Compose,
    EnsureTyped,
    Invertd,
    Lambdad,
    OneOf,
    RandFlipd,
    RandSpatialCropd,
    Resized,
    ScaleIntensityRanged,
    Spacingd,
    SpatialPadd,
)
from PIL import Image

from monai_mgca.data import StreamDataset, StreamSampler, make_dataset
from monai_mgca.data.without_meta import _BLIND, need_no_meta
from monai_mgca.transforms import LoadRadiographd

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs"
LOAD, PAD = LoadRadiographd("image"), SpatialPadd("image", (40, 40))
RESIZE, CROP = Resized("image", 40, size_mode="longest"), RandSpatialCropd("image", (32, 32), random_size=False)
TRAINING = [LOAD, RESIZE, PAD, CROP, ScaleIntensityRanged("image", 0, 255, -1, 1)]


class OtherResized(Resized):
    """Nobody knows what this one looks at."""


@pytest.mark.parametrize(
    ("transform", "free"),
    [
        (TRAINING, True),
        (Compose([Compose(TRAINING[:3]), Compose([CROP])]), True),
        ([LOAD, Spacingd("image", (0.5, 0.5))], False),
        ([LOAD, Compose([Spacingd("image", (0.5, 0.5))])], False),
        ([LOAD, OneOf([Spacingd("image", (0.5, 0.5)), RESIZE])], False),
        ([LOAD, Lambdad("image", lambda image: image)], False),
        ([LOAD, OtherResized("image", 40, size_mode="longest")], False),
        (Compose([LOAD, RESIZE], lazy=True), False),
        ([LOAD, Resized("image", 40, size_mode="longest", lazy=True)], False),
    ],
)
def test_transforms_that_need_no_meta_data(transform, free):
    assert need_no_meta(transform) is free


def test_asking_leaves_random_numbers_alone():
    transform = Compose(TRAINING)
    state = np.random.RandomState(5)
    transform.set_random_state(state=state)
    CROP.set_random_state(state=state)
    before = CROP.R.get_state()[1].copy()
    need_no_meta(transform)
    assert CROP.R is state
    assert (CROP.R.get_state()[1] == before).all()


@pytest.mark.parametrize("config", ["train.json", "official.json"])
def test_the_pretraining_needs_none(config):
    """Else it would be slower, and nothing else would show it."""
    parser = ConfigParser()
    parser.read_config([CONFIGS / name for name in dict.fromkeys(["train.json", config])])
    train, validate = parser.config["train"], parser.config["validate"]
    steps = [step for name, steps in train.items() if name.endswith("_transforms") for step in steps]
    steps = [parser[step[1:]] if isinstance(step, str) else step for step in steps + validate["center_crop"]]
    names = {step["_target_"].rpartition(".")[2] for step in steps}
    assert {name for name in names if not name.startswith("Rand")} <= {kind.__name__ for kind in _BLIND}
    assert train["dataset"]["track_meta"] is False
    assert validate["dataset"]["track_meta"] is False


def entries(folder):
    """Radiographs that are to be made smaller and larger, that need a border, and one that fits."""
    rng = np.random.default_rng(0)
    made = []
    for i, shape in enumerate([(40, 40), (60, 50), (25, 31), (40, 33), (40, 40), (80, 80), (41, 40), (40, 12)]):
        made.append({"image": str(folder / f"{i}.png")})
        Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(made[-1]["image"])
    return made


def stream(dataset, epochs=2):
    """The images of some epochs, as a training sees them."""
    images, sampler = [], StreamSampler(dataset, seed=3)
    loader = DataLoader(StreamDataset(dataset, seed=3), sampler=sampler, batch_size=4)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        images += [batch["image"] for batch in loader]
    return images


@pytest.mark.parametrize("cache", ["none", "disk", "memory"])
def test_same_images_and_crops_without_meta_data(tmp_path, cache):
    data = entries(tmp_path)
    kept = stream(make_dataset(data, Compose(TRAINING)))
    transform = Compose(TRAINING)
    found = stream(
        make_dataset(data, transform, cache, tmp_path / "c", num_workers=2, progress=False, track_meta=False)
    )
    assert len(found) == len(kept) == 4
    assert isinstance(kept[0], MetaTensor)
    for first, second in zip(found, kept, strict=True):
        assert type(first) is torch.Tensor
        assert torch.equal(first, second.as_tensor())
    assert get_track_meta()


@pytest.mark.parametrize("cache", ["none", "disk", "memory"])
def test_no_meta_data_are_made(tmp_path, cache, monkeypatch):
    """They would take longer than the steps themselves: not even while a cache is filled."""
    made, wrap = [], MetaTensor.ensure_torch_and_prune_meta

    def read(*args, **kwargs):
        made.append(type(wrap(*args, **kwargs)))
        return wrap(*args, **kwargs)

    monkeypatch.setattr(MetaTensor, "ensure_torch_and_prune_meta", staticmethod(read))
    dataset = make_dataset(entries(tmp_path), TRAINING, cache, tmp_path / "c", progress=False, track_meta=False)
    assert [type(dataset[i]["image"]) for i in range(8)] == made == [torch.Tensor] * 8


@pytest.mark.parametrize("cache", ["none", "disk", "memory"])
def test_what_looks_at_the_meta_data_finds_them(tmp_path, save_dicom, cache):
    """Without them Spacingd would leave the image as it is."""
    path = save_dicom(
        tmp_path / "a.dcm", (np.arange(1200) % 256).astype(np.uint8).reshape(30, 40), PixelSpacing=[0.5, 0.25]
    )
    transform = [LOAD, Spacingd("image", (1.0, 1.0)), EnsureTyped("image", track_meta=False)]
    dataset = make_dataset([{"image": str(path)}], transform, cache, tmp_path / "c", progress=False, track_meta=False)
    for _ in range(2):
        assert dataset[0]["image"].shape[1:] == Compose(transform)({"image": str(path)})["image"].shape[1:] != (30, 40)


@pytest.mark.parametrize("shape", [(40, 40), (60, 50)])
@pytest.mark.parametrize("cache", ["none", "memory"])
def test_where_they_are_kept_all_goes_back(tmp_path, cache, shape):
    """A resize and a border that change nothing are noted too, so that inversion finds each step."""
    values = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    transform = Compose([LOAD, RESIZE, PAD, RandFlipd("image", prob=0)])
    item = dict(make_dataset([{"image": str(tmp_path / "a.png")}], transform, cache, progress=False)[0])
    assert [step["class"] for step in item["image"].applied_operations][:2] == ["Resize", "SpatialPad"]
    item["pred"] = MetaTensor(torch.ones(1, 40, 40))
    item = Invertd("pred", transform, "image", nearest_interp=False)(item)
    assert item["pred"].shape == (1, *shape)
    if shape == (40, 40):
        assert torch.equal(item["image"].as_tensor()[0], torch.as_tensor(values, dtype=torch.float32))
        assert torch.equal(item["image"].affine, torch.eye(4, dtype=torch.float64))
