# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Pages of the images and reports that a search found."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from monai_mgca.transforms import LoadRadiograph
from monai_mgca.visualize.page import data_uri, write_page

__all__ = ["Hit", "Ranking", "public_names", "thumbnail", "write_gallery"]


@dataclass
class Hit:
    """One result.

    Args:
        similarity: cosine, -1 to 1.
        image: the file of the image, or of the image that the report was written about.
        name: what is shown of it.
        report: shown below it; empty for none.
    """

    similarity: float
    image: str
    name: str
    report: str = ""


@dataclass
class Ranking:
    """The results of one query, best first.

    Args:
        query: the text, or the name of the image.
        hits: at least one.
        image: the file of the query where it is an image.
    """

    query: str
    hits: Sequence[Hit]
    image: str | None = None


def public_names(names: Sequence[str], patients: Sequence[str]) -> list[str]:
    """What is shown of images on a page that is passed to others.

    It is the file's name, behind the folders that all images share. Folders that differ are often a patient's. Where
    the name, or what it shares, holds the patient's id or its number, or where it is not the only one, the number in
    the set stands for what is left out.

    Args:
        names: paths in the dataset folder.
        patients: of each image; empty where none is known.

    Example::

        print(public_names(["a/P007/1.png", "a/P008/1.png"], ["P007", "P008"]))  # ['no. 1, a/1.png', 'no. 2, a/1.png']
    """
    plain = [Path(name).as_posix() for name in names]
    folders = [os.path.dirname(name) for name in plain]
    outside = any(os.path.isabs(name) or ".." in Path(name).parts for name in plain)
    common = "" if outside or "" in folders else os.path.commonpath(folders)
    known = set(filter(None, patients))
    if len(known) == 1 or any(_names_patient(common, patient) for patient in known):
        # of one patient all folders are shared, and one may be the patient's
        common = ""
    shown = [f"{common}/{os.path.basename(name)}".lstrip("/") for name in plain]
    count = Counter(shown)
    return [
        f"no. {number}"
        if _names_patient(os.path.basename(name), os.path.basename(patient))
        else name
        if count[name] == 1
        else f"no. {number}, {name}"
        for number, (name, patient) in enumerate(zip(shown, patients, strict=True), 1)
    ]


def _names_patient(name: str, patient: str) -> bool:
    """Whether a name holds a patient's id, or its number where that has three digits or more."""
    digits = re.sub(r"\D", "", patient).lstrip("0")
    runs = {run.lstrip("0") for run in re.findall(r"\d+", name)}
    # a short id may be a part of any word
    inside = patient.lower() in (name.lower() if len(patient) > 2 else re.split(r"[^a-z0-9]+", name.lower()))
    return bool(patient) and (inside or (len(digits) > 2 and digits in runs))


def thumbnail(path: str | os.PathLike, size: int = 192) -> str:
    """A radiograph of any format as the ``src`` of an ``img``.

    Args:
        path: PNG, JPEG, DICOM or NIfTI file.
        size: pixels of its longer side, at most.

    Raises:
        DataError: when the file cannot be read.

    Example::

        print(thumbnail("1.png")[:22])  # data:image/png;base64,
    """
    pixels = LoadRadiograph()(path)[0].clamp(0, 255).round().byte().numpy()
    return data_uri(Image.fromarray(pixels), size)


def write_gallery(path: str | os.PathLike, title: str, rankings: Sequence[Ranking], notes: Sequence[str] = ()) -> None:
    """Write the page of the results of some queries, with thumbnails in it: one file that works offline.

    Args:
        path: of the HTML file.
        title: of the page.
        rankings: one of each query.
        notes: lines below the title.

    Raises:
        DataError: when an image cannot be read.

    Example::

        write_gallery("gallery.html", "Retrieval", [Ranking("nodule", [Hit(0.5, "1.png", "1.png")])])
    """
    write_page(Path(path), title, "gallery.html", rankings=rankings, notes=notes, thumbnail=thumbnail)
