# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Small CTs of several orientations and formats, drawn: a body of soft tissue in air with two lungs; and networks."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser

from monai_mgca.utils import write_settings

from ..tiny_pretraining import VOLUMES

# voxels of 9 to 14 mm, so that few hold a chest
SIZE, SPACING = (30, 26, 20), (11.0, 12.0, 14.0)
CLASSES = {"segmentation": ["lung", "heart"], "detection": ["nodule", "effusion"], "classification": ["effusion", "x"]}
WINDOW = 32


def draw_ct(seed: int = 0, size: tuple[int, ...] = SIZE) -> np.ndarray:
    """(left, back, head) int16 in Hounsfield units; every one has lungs of another size."""
    noise = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, count) for count in size), indexing="ij")
    values = np.where(x**2 + 1.4 * y**2 < 0.8, 40.0, -1000)
    for side in (-0.42, 0.42):
        lung = ((x - side) / 0.3) ** 2 + (y / 0.45) ** 2 + (z / (0.6 + 0.03 * seed)) ** 2 < 1
        values[lung] = -850
    return (values + noise.normal(0, 10, size)).round().clip(-1024).astype(np.int16)


def save_nifti(path: Path, values: np.ndarray, axes: str = "LPS") -> Path:
    """Write (left, back, head) values as NIfTI whose axes go to other sides."""
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1])
    affine[:3, 3] = 160, 150, -130
    image = nibabel.Nifti1Image(values, affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    turned = image.as_reoriented(turn)
    for form in (turned.set_sform, turned.set_qform):
        form(turned.affine, code="scanner")
    nibabel.save(turned, path)
    return path


def write_volume_task(root: Path, task: str) -> None:
    """Write a network of a task for volumes, with random weights that find something in every one."""
    load, *window, spacing, _pad, cast, _crop, scale = VOLUMES["preprocessing"]
    own = {
        "segmentation": [{"_target_": "monai.transforms.SpatialPadd", "keys": "image", "spatial_size": WINDOW}],
        "detection": [{"_target_": "monai.transforms.SpatialPadd", "keys": "image", "spatial_size": WINDOW}],
        "classification": [
            {"_target_": "monai.transforms.ResizeWithPadOrCropd", "keys": "image", "spatial_size": [WINDOW] * 3}
        ],
    }[task]
    remember = [{"_target_": "monai_mgca.transforms.RememberAffined", "keys": "image"}] if task == "detection" else []
    settings = {
        **{"image_encoder": "resnet_compact", "image_size": WINDOW, "in_channels": 1, "classes": CLASSES[task]},
        **{"spatial_dims": 3, "patch_size": 16, "decoder": "default"},
        "preprocessing": [load, *remember, *window, spacing, *own, cast, scale],
    }
    if task == "detection":
        settings |= {"strides": [4, 8, 16], "anchor_sizes": [[2.0], [4.0], [8.0]], "anchor_ratios": [[1.0, 1.0]]}
    write_settings(root / "models" / f"model_{task}.json", settings)
    parser = ConfigParser()
    parser.read_config(root / "configs" / f"inference_{task}.json")
    parser["bundle_root"] = str(root)
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").eval()
    if task == "segmentation":  # some of a volume is inside each class, some is not
        last = [value for key, value in network.named_parameters() if key.endswith("bias")][-1]
        with torch.no_grad():
            last -= network(torch.rand(1, 1, *[WINDOW] * 3) * 2 - 1).flatten(2).median(2).values[0]
    if task == "detection":  # a new one finds nothing
        next(value for key, value in network.named_parameters() if key.endswith("cls_logits.bias")).data += 5
    torch.save(network.state_dict(), root / "models" / f"model_{task}.pt")
