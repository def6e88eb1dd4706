# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The one place that decides what a file is: DICOM, NIfTI, a picture, or nothing that an image is read from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pydicom

__all__ = ["IMAGE_SUFFIXES", "Kind", "is_clutter", "kind_of", "kind_of_name", "quick_kind", "stem_of"]

Kind = Literal["dicom", "nifti", "picture"]
"""What a file of an image is."""

SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "dicom": (".dcm", ".dicom", ".dcm30", ".ima", ".dic", ".dc3"),
    "nifti": (".nii", ".nii.gz"),
    "picture": tuple(".png .jpg .jpeg .jpe .jfif .bmp .tif .tiff .gif .webp .jp2 .pgm".split()),
}
IMAGE_SUFFIXES = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
"""The endings of names that images have, in lower case."""
# What systems and programs leave in folders; what begins with a dot is hidden, AppleDouble's "._x" among it.
_CLUTTER = (
    *("__macosx", "icon\r", "lost+found", "@eadir", "$recycle.bin", "system volume information"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "dicomdir"),
)
# Copies and what was not written whole: an image by its first bytes, perhaps, but none that was meant.
_LEFT_OVER = ("~", ".bak", ".tmp", ".part", ".partial", ".crdownload", ".swp")
# The first bytes of PNG, JPEG, TIFF (both byte orders) and JPEG 2000.
_PICTURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
# Groups 2 and 8 in both byte orders: a DICOM data set that lacks preamble and "DICM" begins with one of them.
_BARE = (b"\2\0", b"\x08\0", b"\0\x08")


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's data: hidden, or left there by a system.

    Args:
        name: without folders.

    Example::

        print(is_clutter("._1.png"), is_clutter("Thumbs.db"), is_clutter("1.png"))  # True True False
    """
    return name.startswith(".") or name.lower() in _CLUTTER


def kind_of_name(name: str) -> Kind | None:
    """What a file is by its name, in whatever case; None where the name does not say it.

    Args:
        name: of the file, with or without folders.

    Example::

        print(kind_of_name("1.IMA"), kind_of_name("1.nii.gz"), kind_of_name("IM000001"))  # dicom nifti None
    """
    name = os.path.basename(name).lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if name.endswith(suffixes)), None)


def stem_of(name: str) -> str:
    """A file's name without the suffix of an image; a name that has none stays whole, as "1.2.840.7" does.

    Args:
        name: of the file, with or without folders, which stay.

    Example::

        print(stem_of("a/1.nii.gz"), stem_of("1.2.840.7"))  # a/1 1.2.840.7
    """
    lower = name.lower()
    suffix = max((s for s in IMAGE_SUFFIXES if lower.endswith(s)), key=len, default="")
    return name[: len(name) - len(suffix)]


def kind_of(path: str | os.PathLike) -> Kind | None:
    """What a file is, as its readers take it: by its content where the name does not say it, or where it is DICOM's.

    Args:
        path: a file that is there.

    Returns:
        "dicom" for "DICM" at byte 128 whatever the name, for a suffix of DICOM's, and for a data set without preamble
        that parses; "nifti" by its suffix; "picture" for a suffix of a picture's or the first bytes of one; else None,
        as for names of copies and of half-written files.

    Raises:
        OSError: when the file cannot be opened.

    Example::

        from PIL import Image

        Image.new("L", (30, 40)).save("radiograph", format="PNG")
        print(kind_of("radiograph"))  # picture
    """
    path = Path(path)
    named = kind_of_name(path.name)
    if named == "nifti" or path.name.lower().endswith(_LEFT_OVER):
        return named
    with path.open("rb") as file:
        head = file.read(132)
    if head[128:] == b"DICM":
        return "dicom"
    if named is None and head.startswith(_PICTURES):
        return "picture"
    if named is None and head.startswith(_BARE) and _parses(path):
        return "dicom"
    return named


def quick_kind(path: str | os.PathLike) -> Kind | None:
    """As :func:`kind_of`, but a file whose name says what it is is not opened: for many files at once.

    Args:
        path: a file that is there; one that cannot be opened is of no kind.

    Example::

        print(quick_kind("1.png"))  # picture
    """
    try:
        return kind_of_name(os.fspath(path)) or kind_of(path)
    except OSError:
        return None


def _parses(path: Path) -> bool:
    """Whether a data set without preamble says what it is; two bytes alone may begin any file."""
    try:
        tags = ["SOPClassUID", "Modality", "Rows", "Columns"]
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
        return bool(header.get("SOPClassUID") or header.get("Modality")) or min(header.Rows, header.Columns) > 0
    except Exception:  # no DICOM after all: pydicom fails on other files in any way
        return False
