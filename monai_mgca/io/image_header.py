# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The header of an image file, read without its pixels: size, kind, spacing, tags."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import pydicom
from PIL import Image, UnidentifiedImageError

from monai_mgca.io.dicom.dicom_codec import missing_decoder
from monai_mgca.io.dicom.dicom_file import read_dicom, syntax_of
from monai_mgca.io.dicom.dicom_pixels import pixel_layout
from monai_mgca.io.dicom.dicom_series import series_files
from monai_mgca.io.kind import kind_of
from monai_mgca.io.limits import refuse_bomb, refuse_nifti_bomb
from monai_mgca.io.orientation import AS_STORED, Turn, turn_of_nifti, turn_of_picture
from monai_mgca.io.pictures import OTHER_COLORS
from monai_mgca.utils import DataError

__all__ = ["ImageHeader", "is_lateral", "look_at_header"]

# The first bytes of PNG, JPEG, GIF, TIFF (both byte orders), BMP, JPEG 2000, gzip (NIfTI).
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"BM", b"\0\0\0\x0cjP", b"\x1f\x8b")
# DICOM's ViewPosition, and words that other data sets use; a decubitus view is frontal.
LATERAL = re.compile(r"^(?:LL|RL|LAT|L)$|^(?!.*decub).*\blateral", re.IGNORECASE)


class ImageHeader(NamedTuple):
    """What a radiograph's header says, without its pixels.

    Args:
        problem: why it cannot be read, one of the reasons of :class:`monai_mgca.data.check.problem.Problem`; else None.
        detail: of the problem.
        kind: "dicom", "nifti" or "picture".
        mode: of a picture, as Pillow names it.
        dataset: a DICOM file's tags, but for the pixels.
        turn: what brings a picture or a NIfTI file upright.
    """

    problem: str | None = None
    detail: str = ""
    kind: str = "picture"
    mode: str = ""
    dataset: Any = None
    turn: Turn = AS_STORED


def is_lateral(view: Any) -> bool:
    """Whether a view position or a data set's own word for it means a lateral view.

    Args:
        view: such as "LL" or "LATERAL"; anything that is no text is not.

    Example::

        print(is_lateral("LL"), is_lateral("PA"))  # True False
    """
    return isinstance(view, str) and bool(LATERAL.search(view.strip()))


def look_at_header(path: str | os.PathLike) -> ImageHeader:
    """Look at a radiograph's header alone: what it is, and why it cannot be read.

    Args:
        path: a file that is there and has bytes, as those that :class:`monai_mgca.transforms.LoadRadiograph` reads.

    Example::

        Image.new("CMYK", (60, 40)).save("radiograph.jpg")
        print(look_at_header("radiograph.jpg").problem)  # wrong number of channels
    """
    path = Path(path)
    try:
        kind = kind_of(path)
        if kind == "nifti":
            return _nifti(path)
        if kind == "dicom":
            return _dicom(path)
        with path.open("rb") as file:
            head = file.read(132)
        return _picture(path, head)
    except OSError as error:
        return ImageHeader("cannot be opened", type(error).__name__)


def _picture(path: Path, head: bytes) -> ImageHeader:
    try:
        with Image.open(path) as image:
            refuse_bomb(image.size)
            if getattr(image, "is_animated", False) and image.format != "MPO":
                return ImageHeader("multi-frame")
            if image.mode in OTHER_COLORS:
                return ImageHeader("wrong number of channels", image.mode)
            return ImageHeader(mode=image.mode, turn=turn_of_picture(image))
    except (DataError, Image.DecompressionBombError) as error:
        return ImageHeader("decompression bomb", str(error))
    except UnidentifiedImageError:
        return ImageHeader("unreadable" if head.startswith(SIGNATURES) else "not an image")
    except Exception as error:  # of a plug-in of Pillow: a header of nonsense
        return ImageHeader("unreadable", type(error).__name__)


def _dicom(path: Path) -> ImageHeader:
    try:
        data = read_dicom(path, stop_before_pixels=True)
    except pydicom.errors.InvalidDicomError:
        return ImageHeader("not an image", kind="dicom")
    except DataError as error:
        return ImageHeader(error.reason or "unreadable", str(error), "dicom")
    except Exception as error:  # whatever damaged tags lead to
        return ImageHeader("unreadable", type(error).__name__, "dicom")
    try:
        pixel_layout(data)
        missing = missing_decoder(syntax_of(data))
    except DataError as error:
        return ImageHeader(error.reason or "unreadable", str(error).removesuffix("."), "dicom", dataset=data)
    return ImageHeader("no decoder" if missing else None, missing or "", "dicom", dataset=data)


def _nifti(path: Path) -> ImageHeader:
    try:
        refuse_nifti_bomb(path)
        image: Any = nibabel.load(path)
    except DataError as error:
        return ImageHeader("decompression bomb" if "bomb" in str(error) else "unreadable", str(error), "nifti")
    except Exception as error:  # no NIfTI, or a damaged one
        return ImageHeader("unreadable", type(error).__name__, "nifti")
    if len(image.shape) > 2 and max(image.shape[2:]) > 1:
        return ImageHeader("multi-frame", f"a volume of shape {tuple(map(int, image.shape))}", "nifti")
    if image.get_data_dtype().names:
        return ImageHeader("wrong number of channels", str(image.get_data_dtype().names), "nifti")
    return ImageHeader(kind="nifti", turn=turn_of_nifti(image))


def tag_text(tags: Any, name: str, damaged: str = "") -> str:
    """A DICOM tag's value as text: nothing where it is missing, `damaged` where it cannot be read."""
    try:
        return str(tags.get(name) or "")
    except Exception:  # pydicom looks at a value only when it is asked for
        return damaged


def read_dicom_tags(path: str) -> Iterator[Any]:
    """The tags of the first DICOM image of a series' folder, or of the file; none where there is no such."""
    files = series_files(Path(path)) if os.path.isdir(path) else [Path(path)]
    for file in files:
        header = look_at_header(file) if file.is_file() and file.stat().st_size else ImageHeader()
        if header.dataset is not None and tag_text(header.dataset, "Rows"):
            yield header.dataset
            return
