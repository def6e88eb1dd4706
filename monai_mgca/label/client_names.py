# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Ids, tags and the information about them: which names a client may give, and which names are one."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastapi import HTTPException

from monai_mgca.io import IMAGE_SUFFIXES, is_clutter, quick_kind
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import list_problems

__all__ = [
    "LABEL_SUFFIXES",
    "check_info",
    "check_names_of_images",
    "check_plain",
    "id_and_ending",
    "image_names",
    "same",
    "without_own",
]

# how Slicer and we write labels; boxes are markups in JSON
LABEL_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".png", ".json")
# what a client may name: no separator, nothing hidden, no blank or dot at the end, which Windows leaves out
NAME = re.compile(r"[^\W_]([\w .,=+@-]*[\w,=+@-])?")
# of Windows, whatever follows a dot in them; a folder of studies may lie on one of its shares
DEVICE = re.compile(r"(con|prn|aux|nul|com[\d\xb9\xb2\xb3]|lpt[\d\xb9\xb2\xb3])(\..*)?", re.IGNORECASE)
# fields of an image or label that the server sets itself: clients would take another image, or file, for it
OWN = ("id", "name", "path", "ts")
# levels of JSON; the reader of the list of images fails at 200
DEEPEST = 50
# bytes; a file system takes 255 with the ending and what a temporary name adds
LONGEST = 200


def check_plain(name: Any, what: str) -> None:
    """Refuse a name from a client that could be a path, or too long for a file.

    Args:
        name: of an image, a label or a tag.
        what: it is, for the message.

    Raises:
        HTTPException: 400, when it is more than letters, digits, blanks and a few signs, or too long.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        allowed = "letters, digits, blanks and ._,=+@- without a path, and ends with no blank or dot"
        raise HTTPException(400, f"{what} is {allowed}, not '{name}'.")
    if DEVICE.fullmatch(name):
        raise HTTPException(400, f"{what} is a device on Windows, '{name}': choose another.")
    if len(name.encode()) > LONGEST:
        raise HTTPException(400, f"{what} has at most {LONGEST} bytes, not {len(name.encode())}.")


def check_info(info: Any) -> None:
    """What a client sends about an image or label is answered as JSON later, and read by the strategies.

    Args:
        info: of the client.

    Raises:
        HTTPException: 400, when that would fail.
    """
    try:
        json.dumps(info, allow_nan=False, default=str, ensure_ascii=False).encode()
        times = [given.get("ts", 0) for given in (info or {}).get("strategy", {}).values()]
        good = all(isinstance(time, (int, float)) for time in times) and _depth(info) <= DEEPEST
    except (AttributeError, ValueError, RecursionError):
        good = False
    if not good:
        raise HTTPException(
            400,
            f"info is a JSON object of at most {DEEPEST} levels, without NaN and half characters; "
            '"strategy" in it is MONAI Label\'s own.',
        )


def without_own(info: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a client sends about an image or label, without the fields that the server sets itself.

    Args:
        info: of the client.

    Example::

        print(without_own({"name": "b.png", "note": 1}))  # {'note': 1}
    """
    return {key: value for key, value in (info or {}).items() if key not in OWN}


def _depth(value: Any) -> int:
    """Levels of objects and lists in each other; it is asked of what could be written as JSON."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return 1 + max(map(_depth, inner), default=0)


def id_and_ending(file: str) -> tuple[str, str]:
    """A file's id and what follows it: the suffix of an image or label; nothing of "1.2.840.7", which has none.

    Args:
        file: its name without folders.

    Example::

        print(id_and_ending("a.seg.nrrd"), id_and_ending("1.2.840.7"))  # ('a', '.seg.nrrd') ('1.2.840.7', '')
    """
    suffixes = (s for s in (*IMAGE_SUFFIXES, *LABEL_SUFFIXES) if file.lower().endswith(s))
    ending = max(suffixes, key=len, default="")
    ending = file[len(file) - len(ending) :] if ending else os.path.splitext(file)[1]
    return (file, "") if ending[1:2].isdigit() else (file.removesuffix(ending), ending)


def same(id: str) -> str:
    """What ids have in common that people, or other file systems, take for one: case, blanks, width, composition.

    Args:
        id: of an image.

    Example::

        print(same("Ａ  1") == same("a 1"))  # True
    """
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", id).casefold()).split())


def image_names(folder: str) -> list[str]:
    """Names of the radiographs in a folder, sorted.

    Args:
        folder: not searched deeper.
    """
    names = (name for name in sorted(os.listdir(folder)) if not is_clutter(name))
    return [name for name in names if os.path.isfile(path := os.path.join(folder, name)) and quick_kind(path)]


def check_names_of_images(
    folder: str, names: Iterable[str], to_id: Callable[[str], tuple[str, str]] = id_and_ending
) -> None:
    """Refuse a folder in which two images have one id, or ids that could be taken for one.

    Args:
        folder: of the images, for the message.
        names: of the images in it.
        to_id: gives the id of a name, and its ending.

    Raises:
        DataError: naming them.
    """
    files = defaultdict(list)
    for name in names:
        files[same(to_id(name)[0])].append(name)
    problems = [(", ".join(some), f"are all '{key}'") for key, some in files.items() if len(some) > 1]
    if problems:
        title = f"{folder} has {len(problems)} names of several images"
        advice = "An image's id is its name without the ending, whatever its case, width and blanks: rename them."
        raise DataError(list_problems(title, problems, advice))
