# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A folder as after a tiny pretraining: the sample, and a network with random weights beside its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from monai_mgca.apps import load_pretrained
from monai_mgca.data import make_sample, make_volume_sample
from monai_mgca.utils import write_settings

SETTINGS = {
    "use_sample": True,
    "image_encoder": "resnet_tiny",
    "image_size": 56,
    "resize_size": 64,
    "in_channels": 1,
    "report_layers": None,
    "pool_report": "mean",
    "max_length": 60,
    "embed_dim": 16,
    "hidden_dim": 32,
    "num_prototypes": 8,
    "matcher": "similarity",
    "matcher_heads": 1,
}

WINDOW = {"a_min": -1000, "a_max": 400, "b_min": 0, "b_max": 255, "clip": True}
# as a training with train_volume.json writes them
VOLUMES = {
    "spatial_dims": 3,
    "image_size": 32,
    "resize_size": [36, 36, 36],
    "patch_size": 16,
    "voxel_size": 14.0,
    "hu_min": -1000,
    "hu_max": 400,
    "intensity": "window",
    "sample_size": 16,
    "preprocessing": [
        {"_target_": "monai_mgca.transforms.LoadVolumed", "keys": "image"},
        {"_target_": "monai.transforms.Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
        {"_target_": "monai.transforms.ScaleIntensityRanged", "keys": "image", **WINDOW},
        {"_target_": "monai_mgca.transforms.AreaSpacingd", "keys": "image", "voxel_size": 14.0},
        {"_target_": "monai.transforms.ResizeWithPadOrCropd", "keys": "image", "spatial_size": [36, 36, 36]},
        {"_target_": "monai.transforms.CastToTyped", "keys": "image", "dtype": {"_dtype_": "torch.uint8"}},
        {"_target_": "monai.transforms.CenterSpatialCropd", "keys": "image", "roi_size": 32},
        {
            "_target_": "monai.transforms.ScaleIntensityRanged",
            **{"keys": "image", "a_min": 0, "a_max": 255, "b_min": -1, "b_max": 1},
        },
    ],
}


def make_pretraining(folder: Path, size: int = 24, seed: int = 3, **settings: Any) -> Path:
    """Make the sample of so many studies in data/ and the network in models/; the settings replace those above."""
    make_sample(folder / "data", size=size, image_size=64, progress=False)
    write_network(folder, seed, **settings)
    return folder


def write_network(folder: Path, seed: int, **settings: Any) -> None:
    """Write the network of a seed to models/ of a folder with data/, over one that may be there."""
    encoder = {"report_encoder": str(folder / "data" / "report_encoder")}
    write_settings(folder / "models" / "model.json", SETTINGS | encoder | settings)
    torch.manual_seed(seed)
    network = load_pretrained(folder / "models" / "model_pretrain.pt", random=True).network
    torch.save(network.state_dict(), folder / "models" / "model_pretrain.pt")


def make_volume_pretraining(folder: Path, size: int = 16, seed: int = 3, **settings: Any) -> Path:
    """The same of volumes: the sample of so many CTs of 24 voxels a side, and a network that sees 32 of 14 mm."""
    make_volume_sample(folder / "data", size=size, image_size=24, progress=False)
    write_network(folder, seed, **(VOLUMES | settings))
    return folder
