# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A folder of images and a folder of reports as plain text."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import pydicom
from monai.utils import look_up_option

from monai_mgca.data.find_dataset import group_volumes
from monai_mgca.data.paths import find_files, refuse_links_out
from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.study_reports import reports_of_folders
from monai_mgca.io import FoundFiles, find_image_files, stem_of
from monai_mgca.io.dicom.dicom_file import read_dicom
from monai_mgca.io.dicom.dicom_series import series_files
from monai_mgca.text.report_reader import ReportReader
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import list_problems, progress_bar

__all__ = ["collect_folder"]


def collect_folder(
    images: str | os.PathLike,
    reports: str | os.PathLike,
    patient: str = "none",
    one_per_folder: bool = False,
    headings: str | os.PathLike | None = None,
    letters: str = "ascii",
    volumes: bool = False,
) -> Collection:
    """Collect one's own radiographs and reports: an image and a .txt file with the same name belong together.

    Sub-folders count: images/7/a.dcm goes with reports/7/a.txt. With one report a folder, all images in images/7 go
    with reports/7.txt or with the one text in reports/7.

    Args:
        images: the folder of images (DICOM, with or without a suffix, PNG, JPEG, TIFF, BMP, NIfTI).
        reports: the folder of reports, UTF-8 text; section headings are recognized. "one-per-folder" means one report
            a folder that lies beside or among its images.
        patient: "folder" where the first sub-folder is the patient's; "dicom" where all images are DICOM, to read
            their PatientID; "none": every image counts as its own patient, or every report where folders have one.
        one_per_folder: one report for all images of a folder (:func:`reports_of_folders`).
        headings: a JSON file of headings that the table lacks, see :class:`Headings`.
        letters: of the reports: "ascii" for English, "all" for other languages.
        volumes: the images are volumes (:func:`monai_mgca.data.find_volumes`): NIfTI files, and folders of one DICOM
            series each, such as images/7/series for reports/7/series.txt.

    Raises:
        DataError: when a folder is not there or has no such files, two images or two reports have one name, a folder
            several reports for its images, a report is not UTF-8, a patient is not known, or a link leads out.
        ValueError: when `patient` is another word.

    Example::

        print(collect_folder("radiographs", "reports", patient="folder").write("dataset.json"))
    """
    patient = look_up_option(patient, ("none", "folder", "dicom"))
    if reports == "one-per-folder":
        reports, one_per_folder = images, True
    _refuse_missing(images, reports)
    collection = Collection("folder", images, letters=letters)
    path_of, texts = _by_stem(_find(images, volumes, collection), images), _texts(reports)
    text_of = reports_of_folders(path_of, texts.items()) if one_per_folder else texts
    reader, used = ReportReader(headings), dict[Path, str]()
    for stem, path in progress_bar(path_of.items(), "reading the reports"):
        image = path.relative_to(images).as_posix()
        if stem not in text_of:
            collection.drop("image without a report", image)
            continue
        if (file := text_of[stem]) not in used:
            used[file] = collection.readings.take(reader.whole(_read_text(file)))
        own = file.relative_to(reports).as_posix() if one_per_folder else stem
        collection.add(stem, image, used[file], _patient(path, stem, patient) or own)
    unused = (path.relative_to(reports).as_posix() for path in texts.values() if path not in used)
    collection.drop("report without an image", *unused)
    if one_per_folder:
        collection.notes.append(f"{len(used)} reports for {len(text_of)} images")
    if patient == "none":
        own = "report" if one_per_folder else "image"
        collection.notes.append(f"no --patient given: every {own} counts as its own patient")
    return collection


def _find(images: str | os.PathLike, volumes: bool, collection: Collection) -> Iterable[Path]:
    """The images, or the volumes; the collection notes what other files there are."""
    found = find_image_files(images, (lambda kind: kind in ("nifti", "dicom")) if volumes else bool)
    refuse_links_out(images, found.kinds)
    others = FoundFiles({}, [path for path in found.others if path.suffix.lower() != ".txt"])
    collection.notes += filter(None, [others.describe_others(images, "volume" if volumes else "image")])
    return group_volumes(found, images) if volumes else found.kinds


def _refuse_missing(*folders: str | os.PathLike) -> None:
    for folder in folders:
        if not Path(folder).is_dir():
            raise DataError(f"the folder does not exist: {folder}")


def _texts(folder: str | os.PathLike) -> dict[str, Path]:
    texts = _by_stem(find_files(folder, "*.txt"), folder)
    if not texts:
        raise DataError(f"there is no .txt file in {folder}: a report is a text file with the name of its image.")
    return texts


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8; save it as UTF-8.") from None


def _by_stem(files: Iterable[Path], folder: str | os.PathLike) -> dict[str, Path]:
    """The files by their path in the folder without the suffix, in this order.

    Raises:
        DataError: when two have the same: which of them is meant?
    """
    found: dict[str, list[Path]] = {}
    for path in files:
        # macOS writes an accent behind its letter, other systems as one with it
        relative = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
        stem = relative[:-4] if relative.lower().endswith(".txt") else stem_of(relative)
        found.setdefault(stem, []).append(path)
    twice = [(stem, ", ".join(path.name for path in paths)) for stem, paths in found.items() if len(paths) > 1]
    if twice:
        mend = "A report and an image belong together by this name: leave one file of each."
        raise DataError(list_problems(f"{folder}: {len(twice)} names of several files", twice, mend))
    return {stem: found[stem][0] for stem in sorted(found)}


def _patient(path: Path, stem: str, patient: str) -> str:
    if patient == "folder":
        if "/" not in stem:
            raise DataError(f"{path} is in no sub-folder, so its patient is not known; leave out patient='folder'.")
        return stem.split("/")[0]
    if patient == "dicom":
        try:
            path = series_files(path)[0] if path.is_dir() else path
            who = str(read_dicom(path, stop_before_pixels=True, specific_tags=["PatientID"]).get("PatientID", ""))
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        except pydicom.errors.InvalidDicomError:
            raise DataError(f"{path} is not DICOM, so its patient is not known; use patient='folder'.") from None
        except Exception as error:  # damaged files fail in any way
            raise DataError(f"{path}: its PatientID cannot be read ({type(error).__name__}).") from None
        if not who.strip():
            raise DataError(f"{path} has no PatientID; use patient='folder' or 'none'.")
        return who.strip()
    return ""
