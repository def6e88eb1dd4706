# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The package's readers, each with sound files to break and the surroundings that these need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import samples

from monai_mgca.apps.zero_shot.zero_shot_classifier import read_prompts
from monai_mgca.data.annotations import annotation_problems, image_size
from monai_mgca.data.check.check_datalist import check_datalist
from monai_mgca.data.check.clean_datalist import read_exclusions, write_clean
from monai_mgca.data.check.image_problems import ImageCheck, check_radiograph, check_volume
from monai_mgca.data.check.phi import image_signs, tag_signs
from monai_mgca.data.check.problem import WARNINGS, CheckLimits
from monai_mgca.data.datalist import load_datalist
from monai_mgca.data.labeled import load_labeled
from monai_mgca.data.preflight import header_reason
from monai_mgca.data.sources.object_cxr import collect_object_cxr
from monai_mgca.data.sources.open_i import collect_open_i
from monai_mgca.data.sources.report_folder import collect_folder
from monai_mgca.data.sources.siim_acr import collect_siim_acr
from monai_mgca.data.sources.tables.csv_table import collect_table
from monai_mgca.data.sources.tables.table_labels import LabelColumns
from monai_mgca.handlers.non_finite import read_quarantine
from monai_mgca.io.embedding_file import read_embeddings
from monai_mgca.io.geometry import Geometry, read_geometry, read_label_map
from monai_mgca.label.store.markups import read_markups
from monai_mgca.transforms import LoadMask, LoadRadiograph, LoadVolume
from monai_mgca.utils import CheckpointError, DataError
from monai_mgca.utils.files import parse_json, read_settings
from monai_mgca.weights.weight_file import tensors_of

WHOLE = (1, 0, 0)
LIMITS = CheckLimits()


class Target(NamedTuple):
    """A reader.

    Args:
        share: of all files, compared with the others.
        prepare: makes the surroundings in a folder; gives the sound files, name in the folder to content.
        read: gets the folder and the broken file's path; raises one of our errors where it refuses it.
    """

    share: int
    prepare: Callable[[Path], dict[str, bytes]]
    read: Callable[[Path, Path], Any]


def _datalist(folder: Path, path: Path) -> None:
    """Every way in which a datalist is read; one that refuses does not keep the others from reading."""
    ways = [
        lambda: load_datalist(path, "training", folder),
        lambda: load_labeled(path, "training", "detection", folder),
        lambda: load_labeled(path, "training", "classification", folder),
        lambda: load_labeled(path, "training", "segmentation", folder),
        lambda: write_clean(path, folder / "clean.json", check_datalist(path, folder, 2, phi=True), LIMITS, folder),
    ]
    refused = []
    for way in ways:
        try:
            way()
        except DataError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def _table(folder: Path, path: Path) -> None:
    columns = LabelColumns(masks=("mask",), boxes="boxes", box_label="class", labels=("edema", "mass"))
    names = {"report": "report", "patient": "patient", "split": "split", "annotations": columns}
    collect_table(path, "image", dataset_dir=folder, **names).write(folder / "out.json")


def _box_table(folder: Path, path: Path) -> None:
    columns = LabelColumns(box_columns=("x", "y", "w", "h"), box_format="xywh", box_label="class", label="names")
    collect_table(path, "image", dataset_dir=folder, annotations=columns).write(folder / "out.json", fractions=WHOLE)


def _folder(folder: Path, path: Path) -> None:
    images = folder / "images"
    collect_folder(images, folder / "reports", "dicom").write(images / "out.json", fractions=WHOLE)


def _open_i(folder: Path, path: Path) -> None:
    collect_open_i(path.parent, folder / "images", folder / "projections.csv").write(folder / "o.json", fractions=WHOLE)


def _siim(folder: Path, path: Path) -> None:
    collect_siim_acr(folder, path).write(folder / "out.json", fractions=WHOLE)


def _object_cxr(folder: Path, path: Path) -> None:
    collect_object_cxr(folder).write(folder / "out.json", fractions=WHOLE)


def _check(look: Callable[..., ImageCheck], path: Path) -> list[tuple[str, str]]:
    """What the check finds in an image; it never fails."""
    if path.is_file() and not path.stat().st_size:
        return [("zero bytes", "")]
    found = look(str(path), LIMITS)
    list(tag_signs(found.tags))
    list(image_signs(found.pixels) if found.pixels is not None and found.pixels.ndim == 2 else ())
    return found.found


def _radiograph(folder: Path, path: Path) -> None:
    """As it is trained on and checked; what one refuses, the other does."""
    found = {reason for reason, _ in _check(check_radiograph, path)}
    problems = found - {"constant", "too small", "too elongated", "wrong modality", "lateral view", *WARNINGS}
    try:
        image_size(path)
    finally:
        image = LoadRadiograph()(path)
    if problems or header_reason(str(path.parent), path.name):
        raise AssertionError(f"a radiograph is read that the check calls {problems}")
    if image.ndim != 3 or not -0.01 <= image.min() <= image.max() <= 255.01:
        raise AssertionError(f"a radiograph of {tuple(image.shape)}, {image.min()} to {image.max()}")


def _volume(folder: Path, path: Path) -> None:
    path = path.parent if path.parent.name == "series" else path
    found = _check(check_volume, path)
    try:
        LoadVolume()(path)
    except DataError:
        if not found:
            raise AssertionError("a volume is refused that the check calls sound") from None
        raise


def _mask(folder: Path, path: Path) -> None:
    LoadMask(3)(path)


def _annotations(folder: Path, path: Path) -> None:
    """Run lengths, boxes and labels, as one entry of a datalist."""
    try:
        entry = {**parse_json(path.read_text(encoding="utf-8")), "image": "1.png"}
    except (TypeError, ValueError) as error:  # as read_datalist refuses it
        raise DataError(str(error)) from None
    problems = list(annotation_problems(entry, str(folder), ["a", "b"], ["nodule"], ["mask"]))
    if problems:
        raise DataError(problems[0][1])


def _label_map(folder: Path, path: Path) -> None:
    read_label_map(path)


def _geometry(folder: Path, path: Path) -> None:
    read_geometry(path)


def _markups(folder: Path, path: Path) -> None:
    read_markups(path, Geometry((30, 20), samples.AFFINE))


def _checkpoint(folder: Path, path: Path) -> None:
    tensors_of(path)


def _settings(folder: Path, path: Path) -> None:
    read_settings(path, required=True)


def _lists(folder: Path, path: Path) -> None:
    """Lists of images that are left out, and prompts."""
    if path.name.startswith("prompts"):
        read_prompts(path)
        return
    read_exclusions(path)
    read_quarantine(path)


def _embeddings(folder: Path, path: Path) -> None:
    arrays = read_embeddings(path, "sha256:0")
    if arrays is None:
        raise DataError("logged, and computed again")
    for array in arrays.values():
        array.sum()


ERRORS = (DataError, CheckpointError)
TARGETS = {
    "datalist": Target(12, samples.datalist, _datalist),
    "table": Target(10, samples.table, _table),
    "table of boxes": Target(5, samples.box_table, _box_table),
    "SIIM-ACR table": Target(4, samples.siim, _siim),
    "Object-CXR table": Target(4, samples.object_cxr, _object_cxr),
    "folder of reports": Target(4, samples.folder, _folder),
    "Open-i XML": Target(8, samples.open_i, _open_i),
    "DICOM radiograph": Target(14, samples.dicom, _radiograph),
    "PNG, JPEG, TIFF, BMP": Target(10, samples.pictures, _radiograph),
    "NIfTI radiograph": Target(6, samples.nifti, _radiograph),
    "volume file": Target(4, samples.volume, _volume),
    "DICOM series": Target(4, samples.series, _volume),
    "mask file": Target(4, samples.masks, _mask),
    "run lengths, boxes, labels": Target(6, samples.annotations, _annotations),
    "checkpoint": Target(6, samples.checkpoints, _checkpoint),
    "model.json": Target(2, samples.settings, _settings),
    "quarantine list, prompts": Target(3, samples.lists, _lists),
    "embeddings": Target(3, samples.embeddings, _embeddings),
    "label map of a client": Target(4, samples.label_maps, _label_map),
    "geometry (ITK)": Target(4, samples.geometry, _geometry),
    "Slicer's markups": Target(3, samples.markups, _markups),
}
