# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The way from a datalist's entry to the network's input, made of MONAI's own transforms and ours."""

import json
import pickle

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose, Invertd, Resize, SpatialPad
from PIL import Image

from monai_mgca.transforms import LoadRadiograph

transformers = pytest.importorskip("transformers")

# As in the bundle's configs. What is cached ends before the random crop: 64 kB of uint8 and three rows of ids.
CACHED = [
    {"_target_": "monai_mgca.transforms.LoadRadiographd", "keys": "image"},
    {"_target_": "Resized", "keys": "image", "spatial_size": 256, "size_mode": "longest", "mode": "area"},
    {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [256, 256]},
    {"_target_": "CastToTyped", "keys": "image", "dtype": "$torch.uint8"},
    {"_target_": "monai_mgca.transforms.CleanReportd", "keys": "report"},
    {
        "_target_": "monai_mgca.transforms.TokenizeReportd",
        "keys": "report",
        "tokenizer": "@tokenizer",
        "max_length": 112,
    },
    {"_target_": "SelectItemsd", "keys": ["id", "image", "input_ids", "attention_mask", "word_ids"]},
]
SCALE = [
    {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 255, "b_min": -1, "b_max": 1},
]
TRAINING = [
    *CACHED,
    {"_target_": "RandSpatialCropd", "keys": "image", "roi_size": [224, 224], "random_size": False},
    *SCALE,
]
EVALUATION = [*CACHED, {"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": [224, 224]}, *SCALE]


@pytest.fixture
def tokenizer(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "effusion", "lungs", "are", "clear"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    return str(tmp_path)


def compose(transforms, tokenizer):
    parser = ConfigParser({"imports": ["$import torch"], "tokenizer": tokenizer, "transforms": transforms})
    return Compose(parser.get_parsed_content("transforms"))


def entries(folder):
    """Three radiographs of other shapes with reports."""
    rng = np.random.default_rng(0)
    made = []
    for i, (height, width) in enumerate([(300, 200), (150, 320), (256, 256)]):
        path = str(folder / f"{i}.png")
        Image.fromarray(rng.integers(1, 255, (height, width), dtype=np.uint8)).save(path)
        made.append({"id": str(i), "image": path, "report": "No effusion. " * (i + 2), "boxes": [[0, 0, 1, 1]] * i})
    return made


@pytest.mark.parametrize("transforms", [TRAINING, EVALUATION])
def test_batch(tmp_path, tokenizer, transforms):
    chain = pickle.loads(pickle.dumps(compose(transforms, tokenizer))).set_random_state(0)
    batch = next(iter(DataLoader(Dataset(entries(tmp_path), chain), batch_size=3)))
    assert batch["image"].shape == (3, 1, 224, 224)
    assert batch["image"].dtype == torch.float32
    assert batch["image"].min() == -1
    assert 0.9 < batch["image"].max() <= 1
    assert batch["word_ids"].shape == (3, 112)
    assert (batch["word_ids"].max(dim=1).values + 1).tolist() == [4, 6, 8]
    assert batch["attention_mask"].sum(dim=1).tolist() == [8, 11, 14]  # two words and a full stop a sentence


def test_random_crops_follow_the_seed(tmp_path, tokenizer):
    chain = compose(TRAINING, tokenizer)
    entry = entries(tmp_path)[2]
    images = [chain.set_random_state(seed)(entry)["image"] for seed in (0, 0, 1)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_cached_part_is_deterministic_and_small(tmp_path, tokenizer):
    image = compose(CACHED, tokenizer)(entries(tmp_path)[0])["image"]
    assert image.shape == (1, 256, 256)
    assert image.dtype == torch.uint8
    columns = image[0].any(dim=0).nonzero().flatten()
    assert (columns[0], columns[-1]) == (42, 212)  # 200 / 300 of 256 = 171 columns in the middle


def test_maps_go_back_to_the_radiograph(tmp_path, tokenizer):
    chain = compose(EVALUATION, tokenizer)
    batch = next(iter(DataLoader(Dataset(entries(tmp_path)[:1], chain), batch_size=1)))
    item = decollate_batch(batch)[0]
    item["map"] = MetaTensor(torch.ones(1, 224, 224))
    item = Invertd(keys="map", orig_keys="image", transform=chain, nearest_interp=False)(item)
    assert item["map"].shape == (1, 300, 200)
    rows = item["map"][0, :, 100]
    # The center crop of 224 from 256 is rows 16 to 240 of 256: 18.75 to 281.25 of 300. Outside, nothing is known.
    assert rows[:18].abs().sum() == 0
    assert rows[282:].abs().sum() == 0
    assert (rows[20:280] == 1).all()


def exact_area(image, size):
    """Resize by exact area averages (fractional overlaps) and pad; the shorter side is cut to a whole number."""

    def weights(old, new):
        scale, pixel, low = old / new, np.arange(old), np.arange(new)[:, None] * old / new
        return np.clip(np.minimum(pixel + 1, low + scale) - np.maximum(pixel, low), 0, None) / scale

    shape = [size if side == max(image.shape) else int(side * size / max(image.shape)) for side in image.shape]
    small = weights(image.shape[0], shape[0]) @ image @ weights(image.shape[1], shape[1]).T
    padding = [((size - side) // 2, size - side - (size - side) // 2) for side in shape]
    return np.pad(small, padding), tuple(shape)


def resize_and_pad(image, size):
    image = MetaTensor(torch.as_tensor(image, dtype=torch.float32)[None])
    image = Resize(size, size_mode="longest", mode="area")(image)
    return SpatialPad((size, size))(image)[0].numpy(), tuple(image.shape[1:])


def test_resize_against_the_goldens(shared):
    """On noise, where every kernel differs most: the official sizes within 1 pixel, its mean levels within 1 %."""
    golden = np.load(shared / "goldens" / "image_resize.npz")
    cases = json.loads(bytes(golden["info_json"]))["cases"] + [{"i": "big", "shape": [320, 251], "scale": 256}]
    for case in cases:
        source, official = (golden[f"u8_{way}_{case['i']}"].astype(float) for way in ("in", "out"))
        exact, official_shape = exact_area(source, case["scale"])
        assert np.abs(np.round(exact) - official).max() <= 1  # so exact_area may stand for the official code below
        ours, shape = resize_and_pad(source, case["scale"])
        assert ours.shape == official.shape
        assert np.abs(np.subtract(shape, official_shape)).max() <= 1
        if shape == official_shape:
            assert np.abs(ours - official).mean() < 5
            assert ours.mean() == pytest.approx(official.mean(), rel=0.01)


def test_resize_against_exact_areas_on_radiographs(shared):
    load = LoadRadiograph()
    files = sorted((shared / "data" / "formats").rglob("*.png"))
    assert len(files) == 5
    for path in files:
        image = load(path)[0].numpy()[:, 32:-32]  # 512 x 448: both give 256 x 224
        assert np.abs(resize_and_pad(image, 256)[0] - exact_area(image, 256)[0]).max() < 0.01
        image = image[:500, :375]  # 500 x 375 to 256 x 192: the factor is no whole number
        assert np.abs(resize_and_pad(image, 256)[0] - exact_area(image, 256)[0]).mean() < 1


def test_real_radiographs(shared, tokenizer):
    files = sorted((shared / "data" / "formats").glob("*.*"))
    data = [{"id": path.name, "image": str(path), "report": "Lungs are clear. No effusion."} for path in files]
    batch = next(iter(DataLoader(Dataset(data, compose(EVALUATION, tokenizer)), batch_size=len(data))))
    assert batch["image"].shape == (4, 1, 224, 224)
    assert batch["image"].std(dim=(1, 2, 3)).min() > 0.2
