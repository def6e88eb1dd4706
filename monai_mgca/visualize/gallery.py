# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Pages of the images, volumes and reports that a search found."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from monai_mgca.data.image_item import ImageLike
from monai_mgca.visualize.image_view import RadiographView
from monai_mgca.visualize.page import data_uri, write_page
from monai_mgca.visualize.volume_view import VolumeView

__all__ = ["Hit", "Ranking", "VolumePictures", "public_names", "show_volume", "thumbnail", "write_gallery"]

# pixels of the longest side of a volume, and of a slice; so many slices are 100 KB a volume
SIDE, SLICES = 128, 24


@dataclass
class Hit:
    """One result.

    Args:
        similarity: cosine, -1 to 1.
        image: the file of the image, or of the image that the report was written about; or its entry.
        name: what is shown of it.
        report: shown below it; empty for none.
        boxes: of a volume, [x0, y0, z0, x1, y1, z1] in millimeters; the planes go through the first.
    """

    similarity: float
    image: ImageLike
    name: str
    report: str = ""
    boxes: Sequence[Sequence[float]] = ()


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


class VolumePictures(NamedTuple):
    """A volume on a page: pictures as the ``src`` of an ``img``."""

    planes: str  # the axial, coronal and sagittal plane side by side
    slices: tuple[str, ...]  # axial, from the head down


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
    return data_uri(RadiographView(path).draw(), size)


def show_volume(
    image: ImageLike,
    boxes: Sequence[Sequence[float]] = (),
    settings: Mapping[str, Any] | None = None,
    slices: int = SLICES,
) -> VolumePictures:
    """The pictures of a volume for a page.

    Args:
        image: a NIfTI file, the folder of a DICOM series, or an entry.
        boxes: in millimeters (RAS+); the planes go through the middle of the first, else of the volume.
        settings: of a model, whose window it is shown in.
        slices: at most so many.

    Raises:
        DataError: when it cannot be read.

    Example::

        import nibabel

        nibabel.save(nibabel.Nifti1Image(np.zeros((8, 9, 10), dtype=np.int16), np.eye(4)), "ct.nii.gz")
        print(len(show_volume("ct.nii.gz").slices))  # 10
    """
    view = VolumeView(image, settings or {})
    middle = view.index_at(np.reshape(boxes[0], (2, 3)).mean(0)) if len(boxes) else None
    strip = (data_uri(picture, kind="JPEG") for picture in view.slices(slices, SIDE))
    return VolumePictures(data_uri(view.draw(middle, SIDE)), tuple(strip))


def write_gallery(
    path: str | os.PathLike,
    title: str,
    rankings: Sequence[Ranking],
    notes: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write the page of the results of some queries, with thumbnails in it: one file that works offline.

    Args:
        path: of the HTML file.
        title: of the page.
        rankings: one of each query.
        notes: lines below the title.
        settings: of the model, which say whether the images are volumes: these get three planes, and slices to scroll.

    Raises:
        DataError: when an image cannot be read.

    Example::

        write_gallery("gallery.html", "Retrieval", [Ranking("nodule", [Hit(0.5, "1.png", "1.png")])])
    """
    volumes = (settings or {}).get("spatial_dims") == 3
    show = partial(show_volume, settings=settings)
    values = {"rankings": rankings, "notes": notes, "thumbnail": thumbnail, "volumes": volumes, "show": show}
    write_page(Path(path), title, "gallery.html", **values)
