# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What is wrong with one image file or volume."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Iterator
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from monai_mgca.data.check.hounsfield import unit_problem
from monai_mgca.data.check.problem import CheckLimits
from monai_mgca.io.image_header import ImageHeader, is_lateral, look_at_header, read_dicom_tags, tag_text
from monai_mgca.io.kind import kind_of_name
from monai_mgca.io.volumes.nifti_affine import gives_orientation
from monai_mgca.transforms import LoadRadiograph, LoadVolume
from monai_mgca.utils import DataError

__all__ = ["ImageCheck", "check_radiograph", "check_volume"]

# Modalities that say nothing of the kind of image: other, secondary capture.
DOUBTFUL = ("", "OT", "SC")
# What the readers of Pillow and nibabel raise of a file that ends too early, and the words that they have for it, which
# may also be in the name of a file that they quote.
_CUT = (OSError, SyntaxError, ValueError, zlib.error)
_ENDS_EARLY = re.compile(r"\btruncated\b|\bend of (?:file|stream)\b|expected \d+ bytes, got", re.IGNORECASE)
_QUOTED = re.compile(r"'[^']*'")
# Colors are there when channels differ by so many of 255 in more than this part of the pixels: JPEG makes less of gray.
COLOR_DIFFERENCE, COLORED_PART = 40, 0.001


class ImageCheck:
    """What was found of an image: reasons with details, a hash of its pixels, and the pixels for a further look.

    Args:
        found: pairs of a reason and a detail.
        digest: of the pixels as they are shown, None where the image cannot be used.
        pixels: (H, W), 0..255, or (X, Y, Z); None where they cannot be read.
        tags: a DICOM file's, but for the pixels.
    """

    def __init__(
        self, found: list[tuple[str, str]], digest: bytes | None = None, pixels: Any = None, tags: Any = None
    ) -> None:
        self.found = found
        self.digest = digest
        self.pixels = pixels
        self.tags = tags


def check_radiograph(path: str, limits: CheckLimits) -> ImageCheck:
    """Look at a radiograph's header, then at its pixels, as training reads them.

    Args:
        path: a file that is there and has bytes.
        limits: what counts as broken.

    Example::

        Image.new("L", (60, 40), 7).save("radiograph.png")
        print(check_radiograph("radiograph.png", CheckLimits()).found)  # [('constant', '')]
    """
    if os.path.isdir(path):
        return ImageCheck([("not an image", "a folder")])
    header = look_at_header(path)
    found = list(_tag_problems(header, limits))
    if header.problem:
        return ImageCheck([(header.problem, header.detail), *found], tags=header.dataset)
    try:
        pixels = LoadRadiograph()(path)[0].numpy()
    except DataError as error:
        return ImageCheck([_reason(error), *found], tags=header.dataset)
    height, width = pixels.shape
    size = f"{width} x {height} pixels"
    if min(height, width) < limits.min_side:
        found.append(("too small", size))
    if max(height, width) > limits.max_aspect * min(height, width):
        found.append(("too elongated", size))
    if pixels.min() == pixels.max():
        return ImageCheck([*found, ("constant", "")], tags=header.dataset)
    if header.mode in ("RGB", "RGBA", "P", "YCbCr") and _is_colored(path):
        found.append(("in color", ""))
    if any(header.turn):
        found.append(("turned by its header", "boxes and masks must be of the image as it is displayed"))
    return ImageCheck(found, _digest(np.rint(pixels).astype(np.uint8)), pixels, header.dataset)


def check_volume(path: str, limits: CheckLimits) -> ImageCheck:
    """Look at a volume's pixels, as training reads them, at their units, and at the modality of a DICOM series.

    Args:
        path: a file with bytes, or a folder with files.
        limits: what counts as broken; where its volumes are no CTs alone, values need be no Hounsfield units.
    """
    nifti = kind_of_name(path) == "nifti"
    tags = None if nifti or path.lower().endswith(".npz") else next(read_dicom_tags(path), None)
    found = [] if tags is None else list(_modality_problem(tags, limits.volume_modalities))
    try:
        values = LoadVolume()(path)[0].numpy()
    except DataError as error:
        return ImageCheck([_reason(error), *found], tags=tags)
    if values.min() == values.max():
        return ImageCheck([*found, ("constant", "")], tags=tags)
    if nifti and not gives_orientation(nibabel.load(path)):
        found.append(("orientation not given", "left and right are guessed, and readers differ: write qform and sform"))
    if set(limits.volume_modalities) == {"CT"} and (problem := unit_problem(values)):
        found.append(("values are no Hounsfield units", problem))
    return ImageCheck(found, _digest(values), values, tags)


def _tag_problems(header: ImageHeader, limits: CheckLimits) -> Iterator[tuple[str, str]]:
    if header.dataset is None:
        return
    yield from _modality_problem(header.dataset, limits.modalities)
    if is_lateral(tag_text(header.dataset, "ViewPosition")):
        yield "lateral view", "by its ViewPosition"


def _modality_problem(tags: Any, modalities: Any) -> Iterator[tuple[str, str]]:
    modality = tag_text(tags, "Modality").strip().upper()
    if modality not in modalities:
        yield ("modality not given" if modality in DOUBTFUL else "wrong modality"), modality


def _reason(error: DataError) -> tuple[str, str]:
    """The reason behind a reader's refusal; its header seemed well."""
    cause = error.__cause__
    message = "" if cause is None else str(cause).removesuffix(".")
    if error.reason:
        which = message.rpartition(". It is ")[1]  # of a series' files
        return error.reason, message if which or error.reason in ("no decoder", "unreadable") else ""
    if isinstance(cause, EOFError) or (isinstance(cause, _CUT) and _ENDS_EARLY.search(_QUOTED.sub("", message))):
        return "truncated", ""
    return "unreadable", message if isinstance(cause, DataError) else type(cause).__name__ if cause else ""


def _is_colored(path: str) -> bool:
    with Image.open(path) as image:
        image.draft("RGB", (256, 256))  # of a JPEG a small one is enough
        values = np.asarray(image.convert("RGB"))[::2, ::2].astype(np.int16)
    return bool((np.ptp(values, axis=-1) > COLOR_DIFFERENCE).mean() > COLORED_PART)


def _digest(values: np.ndarray) -> bytes:
    """Equal images have equal digests, whatever file they are stored in."""
    digest = hashlib.blake2b(repr(values.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(values).data)
    return digest.digest()
