# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What inference does to an image where nothing is known of its training is what the training configs do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import (
    CastToTyped,
    CenterSpatialCropd,
    Compose,
    RepeatChanneld,
    Resized,
    ScaleIntensityRanged,
    SpatialPadd,
)
from PIL import Image

from monai_mgca.transforms import LoadRadiographd, RememberAffined, describe_default

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs"
SIZE = 64


def described(new_bundle, name, **options):
    workflow = new_bundle().workflow(name, image_size=SIZE, cache="none", **options)
    workflow.parser.parse(reset=True)
    return workflow.parser.get_parsed_content("model_settings#preprocessing")


@pytest.mark.parametrize("channels", [1, 3])
def test_of_the_pretraining(new_bundle, channels):
    assert described(new_bundle, "train", in_channels=channels) == describe_default(SIZE, channels, 73)


@pytest.mark.parametrize("task", ["segmentation", "detection", "classification"])
def test_of_the_tasks(new_bundle, task):
    """But that a training keeps its cache in whole numbers."""
    steps = described(new_bundle, f"train_{task}", in_channels=3, encoder="resnet_compact")
    kept = [step for step in steps if step["_target_"] != "monai.transforms.CastToTyped"]
    assert kept == describe_default(SIZE, 3, remember_affine=task == "detection")
    assert len(steps) == len(kept) + 1


def test_of_volumes():
    train, inference = (json.loads((CONFIGS / f"{name}_volume.json").read_text()) for name in ("train", "inference"))
    final = json.loads((CONFIGS / "train.json").read_text())["train"]["final_transforms"]
    steps = [*train["train#deterministic_transforms"], *train["validate#center_crop"], *final]
    image = [step for step in steps if isinstance(step, dict) and step.get("keys") == "image"]
    assert inference["default_preprocessing"] == image


@pytest.mark.parametrize(
    "name", ["inference", "inference_segmentation", "inference_detection", "inference_classification"]
)
def test_of_a_radiograph(name, tmp_path):
    """Step by step, once without the function."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (71, 50), dtype=np.uint8)).save(tmp_path / "a.png")
    detects, embeds = name.endswith("detection"), name == "inference"
    side = 73 if embeds else SIZE
    steps = [
        LoadRadiographd("image"),
        *([RememberAffined("image")] if detects else []),
        Resized("image", side, size_mode="longest", mode="area"),
        SpatialPadd("image", [side, side]),
        *([CastToTyped("image", torch.uint8), CenterSpatialCropd("image", [SIZE, SIZE])] if embeds else []),
        ScaleIntensityRanged("image", 0, 255, -1, 1),
        RepeatChanneld("image", 3),
    ]
    parser = ConfigParser(ConfigParser.load_config_file(str(CONFIGS / f"{name}.json")))
    parser.update({"bundle_root": "nowhere", "image_size": SIZE, "in_channels": 3})
    made = [
        Compose(part)({"image": str(tmp_path / "a.png")})
        for part in (steps, parser.get_parsed_content("default_preprocessing"))
    ]
    assert made[0]["image"].shape == (3, SIZE, SIZE)
    assert torch.equal(made[0]["image"], made[1]["image"])
    assert torch.equal(made[0]["image"].affine, made[1]["image"].affine)
    assert made[0].keys() == made[1].keys()
