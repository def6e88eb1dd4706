# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Small CTs of several orientations and formats, drawn: a body of soft tissue in air with two lungs."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

# voxels of 9 to 14 mm, so that few hold a chest
SIZE, SPACING = (30, 26, 20), (11.0, 12.0, 14.0)


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
