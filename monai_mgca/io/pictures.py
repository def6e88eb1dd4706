# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""Pictures, that is, what Pillow opens, as gray values: PNG, JPEG, TIFF and others."""

from __future__ import annotations

import logging
import os
from typing import Any

import itk
import numpy as np
from PIL import Image, ImageChops, ImageFile, ImageOps

from monai_mgca.io.dicom.dicom_display import scale_to_255
from monai_mgca.io.levels import ends_of
from monai_mgca.io.limits import refuse_bomb
from monai_mgca.io.orientation import AS_STORED, Turn, turn_of_picture
from monai_mgca.utils import DataError

__all__ = ["OTHER_COLORS", "displayed_size", "is_white_zero", "to_gray", "upright"]

# Modes of Pillow that are no gray and no RGB, from which a gray value does not follow.
OTHER_COLORS = ("CMYK", "LAB", "HSV")
_WHITE_IS_ZERO = 0
_PHOTOMETRIC, _BITS, _PLANES, _SIGN = 262, 258, 284, 339
_LUMINANCE = (0.299, 0.587, 0.114)

# Pillow logs at DEBUG what the tags of TIFF and JPEG files hold, and that may be the patient's name
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.INFO)


def to_gray(image: ImageFile.ImageFile) -> Image.Image:
    """Convert any Pillow image to luminance in 0..255: 8 bits as they are, 16 and 32 bits from minimum to maximum.

    What is transparent lies on a black background, and does not count for the range. The image comes out as it is
    displayed: turned as its EXIF orientation says, and with white as white.

    Args:
        image: opened, of any mode but CMYK, LAB and HSV; its pixels may not have been read yet.

    Raises:
        DataError: when it declares too many pixels, several frames or other colors.
    """
    refuse_bomb(image.size)
    # a photograph's file of several pictures (MPO) begins with the one that is meant
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise DataError("the file holds several frames or pages; a radiograph has one.", reason="multi-frame")
    if image.mode in OTHER_COLORS:
        message = f"its channels are {image.mode}; a radiograph is gray, or gray stored as RGB."
        raise DataError(message, reason="wrong number of channels")
    turn = turn_of_picture(image)
    _load_tiff(image, turn)
    if image.mode[0] in "IF" or _has_deep_colors(image):
        return _deep(image, turn)
    gray = _flat(image)
    # Pillow itself turns TIFF files while it reads them
    return gray if image.format == "TIFF" else _turned(gray, turn)


def displayed_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """(H, W) of a picture as it is displayed, by its header.

    Args:
        image: opened by Pillow, its pixels not read yet.
    """
    # of a TIFF file that is turned, some versions of Pillow give the one size and some the other
    width, height = (_tag(image, 256), _tag(image, 257)) if image.format == "TIFF" else image.size
    return (width, height) if turn_of_picture(image).transpose else (height, width)


def upright(image: ImageFile.ImageFile) -> Image.Image:
    """A picture as it is displayed, of its own mode.

    Args:
        image: opened by Pillow, its pixels not read yet.
    """
    turn = turn_of_picture(image)
    if image.format != "TIFF":
        return ImageOps.exif_transpose(image) if any(turn) else image
    _load_tiff(image, turn)
    return image


def _load_tiff(image: ImageFile.ImageFile, turn: Turn) -> None:
    """Read the pixels of a TIFF file whose rows are to become columns: mapped into memory, Pillow mixes them up."""
    if image.format == "TIFF" and turn.transpose:
        path, image.filename = image.filename, ""  # without it nothing is mapped
        image.load()
        image.filename = path


def _turned(gray: Image.Image, turn: Turn) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(turn.apply(np.asarray(gray)))) if any(turn) else gray


def _flat(image: ImageFile.ImageFile) -> Image.Image:
    """Of 8 bits and less."""
    if not image.has_transparency_data:
        return image.convert("L")
    image.load()
    value = image.info.get("transparency")
    if image.format == "PNG" and isinstance(value, int) and image.mode in ("1", "L"):
        # Pillow widens gray values of few bits, and in some versions not the one that is transparent
        most = 2 ** _png_bits(image) - 1
        gray = image.convert("L")
        gray.info["transparency"] = min(value, most) * (255 // most)
        colors = gray.convert("RGBA")
    else:
        colors = image.convert("RGBA")
    return ImageChops.multiply(colors.convert("L"), colors.getchannel("A"))


def _deep(image: ImageFile.ImageFile, turn: Turn) -> Image.Image:
    """Of 16 and 32 bits."""
    alpha: np.ndarray | None = None
    if image.mode[0] in "IF":
        values = np.asarray(image)
        if image.mode == "I" and image.format == "TIFF" and (_tag(image, _SIGN) or (1,))[0] == 1:
            values = values.view(np.uint32)  # which Pillow takes for numbers with a sign
        if isinstance(image.info.get("transparency"), int):
            alpha = (values != image.info["transparency"]).astype(np.float32)
        turn = AS_STORED if image.format == "TIFF" else turn
    else:
        if image.format == "TIFF" and _tag(image, _PLANES) == 2:  # of which ITK keeps 8 bits
            raise DataError("its channels of 16 bits lie behind each other; save it as gray, or pixel by pixel.")
        values, alpha = _read_deep_colors(image.filename)
    seen = values if alpha is None else values[alpha > 0]
    shown = scale_to_255(values, *ends_of(seen))
    if is_white_zero(image) and shown.any():
        shown = 255.0 - shown
    return _turned(Image.fromarray(shown if alpha is None else np.where(alpha > 0, shown * alpha, 0)), turn)


def is_white_zero(image: ImageFile.ImageFile) -> bool:
    """Whether 0 is white in a file of 16 or 32 bits; of fewer Pillow inverts it.

    Args:
        image: opened by Pillow.
    """
    return image.format == "TIFF" and image.mode[0] in "IF" and _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO


def _has_deep_colors(image: ImageFile.ImageFile) -> bool:
    """Whether a file of several channels has 16 bits a channel, of which Pillow keeps 8."""
    if image.mode not in ("RGB", "RGBA", "RGBX", "LA"):
        return False
    if image.format == "PNG":
        return _png_bits(image) == 16
    return image.format == "TIFF" and max(_tag(image, _BITS) or (8,)) > 8


def _tag(image: Any, number: int) -> Any:
    """What a tag of a TIFF file says, None where it is missing."""
    return image.tag_v2.get(number)


def _png_bits(image: ImageFile.ImageFile) -> int:
    with open(image.filename, "rb") as file:
        return file.read(25)[24]


def _read_deep_colors(path: str | bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Luminance and opacity, 0..1, both (H, W), float32; None where there is no opacity."""
    path = os.fsdecode(path)
    opened = itk.ImageIOFactory.CreateImageIO(path, itk.CommonEnums.IOFileMode_ReadMode)
    opened.SetFileName(path)
    opened.ReadImageInformation()
    channels = opened.GetNumberOfComponents()
    reader = itk.ImageFileReader[itk.Image[itk.Vector[itk.F, channels], 2]].New(FileName=path, ImageIO=opened)
    reader.Update()
    values = np.asarray(itk.array_from_image(reader.GetOutput()))
    gray = values[..., :3] @ np.array(_LUMINANCE, np.float32) if channels > 2 else values[..., 0]
    return gray, None if channels == 3 else values[..., -1] / np.float32(65535)
