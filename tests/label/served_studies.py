# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""30 radiographs of all formats for a live server, with a word to look for in all that it logs."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CXR = ROOT.parent / "shared" / "data" / "cxr"
CANARY = "Canarywordium"
ENDINGS = (".png", ".jpg", ".nii.gz", ".dcm")


def real_images(count):
    """Real radiographs where they are, else gray levels of any kind."""
    if not CXR.is_dir():
        return [np.random.default_rng(i).integers(0, 255, (97 + i, 81 + 2 * i), dtype=np.uint8) for i in range(count)]
    rows = [row for row in csv.DictReader((CXR / "manifest.csv").open()) if row["source"] == "iu_xray"][:count]
    images = [np.asarray(Image.open(CXR / row["image_path"]).convert("L")) for row in rows]
    return [image[: image.shape[0] - i, : image.shape[1] - 1 - 2 * i] for i, image in enumerate(images)]


def write_studies(folder: Path, save_image: Callable[..., Path]) -> Path:
    """30 images of odd, different and not square sizes; every report and patient id holds a word to look for."""
    for i, values in enumerate(real_images(30)):
        save_image(
            folder / f"s{i:02d}{ENDINGS[i % 4]}", affine=np.diag([-0.2, -0.3, 1, 1]), values=values, patient=CANARY
        )
        (folder / f"s{i:02d}.txt").write_text(f"{CANARY} {i}. Small left pleural effusion. Heart size is normal.")
    return folder


def path_of(studies: Path, image: str) -> Path:
    return next(path for path in studies.glob(f"{image}.*") if path.suffix != ".txt")
