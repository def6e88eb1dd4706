# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Where the data of a run are: a folder of the user's, or the built-in sample, which is made on first use."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from monai.utils import ensure_tuple

from monai_mgca.data.entry import Entry
from monai_mgca.data.sample.radiographs import make_sample
from monai_mgca.data.sample.sample_folder import find_sample_dir
from monai_mgca.data.sample.volumes import make_volume_sample
from monai_mgca.io import IMAGE_SUFFIXES, FoundFiles, find_image_files, refuse_same_names, series_problem
from monai_mgca.utils import DataError
from monai_mgca.utils.dist import rank, world_size
from monai_mgca.utils.progress import list_problems

__all__ = [
    "find_images",
    "find_volumes",
    "group_volumes",
    "resolve_dataset",
    "resolve_trained",
    "trained_sample_edge",
]

logger = logging.getLogger(__name__)


def resolve_dataset(
    dataset_dir: str | os.PathLike | None,
    sample_dir: str | os.PathLike,
    size: int = 640,
    image_size: int = 146,
    make: Callable[..., Path] = make_sample,
) -> str:
    """The folder of the user's data, or of the built-in sample where none is given.

    Args:
        dataset_dir: the user's; None for the sample.
        sample_dir: where the sample is made at its first use; one of another size has its folder beside it.
        size: studies of the sample.
        image_size: pixels of the sample's images.
        make: :func:`make_sample`, or :func:`monai_mgca.data.make_volume_sample`.

    Raises:
        DataError: when ``dataset_dir`` does not exist.

    Example::

        folder = resolve_dataset(None, "bundles/mgca/data/sample")
    """
    if dataset_dir is not None:
        # a number would be taken for an open file
        folder = dataset_dir if isinstance(dataset_dir, (str, os.PathLike)) else str(dataset_dir)
        if not os.path.isdir(folder):
            value = (
                "" if folder is dataset_dir else f" It came as the value {dataset_dir!r}, not as a text: write ./NAME."
            )
            advice = "Give the folder that the datalist belongs to."
            raise DataError(f"dataset_dir does not exist: {folder}.{value} {advice}")
        return str(folder)
    sample_dir = find_sample_dir(sample_dir, size, image_size)
    if world_size() > 1:
        dist.barrier()  # all have looked, before one begins to make it
    if rank() == 0:
        logger.info(
            f"No dataset_dir is given: the built-in sample in {sample_dir} and compact encoders are used. For your own "
            "data: --dataset_dir FOLDER, with a datalist.json in it that `mgca data` makes."
        )
        make(sample_dir, size=size, image_size=image_size)
    if world_size() > 1:
        dist.barrier()
    return str(sample_dir)


def resolve_trained(
    dataset_dir: str | os.PathLike | None, root: str | os.PathLike, settings: Mapping[str, Any], size: int, edge: int
) -> str:
    """As :func:`resolve_dataset`, of the sample that a network was trained on: of radiographs, or of volumes.

    Args:
        dataset_dir: the user's; None for the sample.
        root: of the bundle, in whose ``data`` the samples are.
        settings: of the network's weights.
        size: studies of the sample.
        edge: pixels or voxels of its images, as :func:`trained_sample_edge` gives them.

    Raises:
        DataError: when ``dataset_dir`` does not exist.

    Example::

        print(resolve_trained("radiographs", "bundles/mgca", {"spatial_dims": 2}, 640, 146))  # radiographs
    """
    name, make = ("volume_sample", make_volume_sample) if _of_volumes(settings) else ("sample", make_sample)
    return resolve_dataset(dataset_dir, f"{root}/data/{name}", size, edge, make)


def trained_sample_edge(settings: Mapping[str, Any]) -> int:
    """The pixels or voxels of the sample's images that a network was trained on.

    Args:
        settings: of the network's weights.

    Example::

        print(trained_sample_edge({"spatial_dims": 3, "resize_size": [55, 55, 55]}))  # 55
    """
    least, usual = (24, 55) if _of_volumes(settings) else (64, 146)
    return max(least, *ensure_tuple(settings.get("resize_size", usual)))


def _of_volumes(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("spatial_dims", 2) == 3)


def find_images(folder: str | os.PathLike) -> list[Entry]:
    """All radiographs below a folder, as entries for a dataset.

    Args:
        folder: searched with all its subfolders for DICOM, NIfTI and picture files (:func:`monai_mgca.io.kind_of`);
            others are counted and named in the log.

    Returns:
        A list of {"image": path}, sorted.

    Raises:
        DataError: when there is no such folder or no image in it, or two have one name but for the suffix.

    Example::

        data = find_images("radiographs")
    """
    if folder is None:  # "None" on the command line
        raise DataError("No folder of images is given: --dataset_dir FOLDER.")
    if not os.path.isdir(folder):
        raise DataError(f"No such folder of images: {folder}.")
    found = find_image_files(folder)
    others = _log_others(found, folder, "image")
    if not found.kinds:
        raise DataError(f"No image in {folder}: looked for {', '.join(IMAGE_SUFFIXES)} and for DICOM files.{others}")
    refuse_same_names(found.kinds, folder)
    return [{"image": str(path)} for path in found.kinds]


def _log_others(found: FoundFiles, folder: str | os.PathLike, what: str) -> str:
    """Warn of files that are left out; the warning, to be put behind a sentence."""
    others = found.describe_others(folder, what)
    if others and rank() == 0:
        logger.warning(f"{folder}: {others}. Left out.")
    return f" {others}." if others else ""


def find_volumes(folder: str | os.PathLike) -> list[Entry]:
    """All volumes below a folder, as entries for a dataset.

    Args:
        folder: searched with all its subfolders for NIfTI files, and for folders of DICOM files that are the slices of
            one series; a folder's only DICOM file is taken by itself. Others are counted and named in the log.

    Returns:
        A list of {"image": path}, sorted.

    Raises:
        DataError: when there is no such folder or no volume in it, DICOM files of one folder are not one series, or
            two NIfTI files have one name but for the suffix.

    Example::

        make_volume_sample("ct", size=8, image_size=24)
        data = find_volumes("ct")
    """
    if not os.path.isdir(folder):
        raise DataError(f"No such folder of volumes: {folder}.")
    found = find_image_files(folder, lambda kind: kind in ("nifti", "dicom"))
    others = _log_others(found, folder, "volume")
    paths = group_volumes(found, folder)
    if not paths:
        raise DataError(f"No volume in {folder}: looked for .nii, .nii.gz and folders of DICOM files.{others}")
    return [{"image": str(path)} for path in paths]


def group_volumes(found: FoundFiles, folder: str | os.PathLike) -> list[Path]:
    """The volumes among the files of a folder: NIfTI files, folders of a DICOM series, and DICOM files by themselves.

    Args:
        found: its NIfTI and DICOM files.
        folder: that they were found in.

    Returns:
        Files and folders, sorted by their names.

    Raises:
        DataError: when DICOM files of one folder are not one series, or two NIfTI files have one name.

    Example::

        make_volume_sample("ct", size=8, image_size=24)
        print(len(group_volumes(find_image_files("ct/series"), "ct/series")))  # 3
    """
    paths = [path for path, kind in found.kinds.items() if kind == "nifti"]
    refuse_same_names(paths, folder)
    series: dict[Path, list[Path]] = {}
    for path in (path for path, kind in found.kinds.items() if kind == "dicom"):
        series.setdefault(path.parent, []).append(path)
    problems = [(str(place), reason) for place, files in series.items() if (reason := series_problem(files))]
    if problems:
        mend = "Give each series a folder of its own, and keep other images elsewhere."
        raise DataError(list_problems(f"{folder}: {len(problems)} folders are no DICOM series", problems, mend))
    paths += [files[0] if len(files) == 1 else place for place, files in series.items()]
    return sorted(paths, key=str)
