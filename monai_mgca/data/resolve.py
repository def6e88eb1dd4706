# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from monai_mgca.data.sample import make_sample
from monai_mgca.utils import DataError
from monai_mgca.utils.dist import rank, world_size

__all__ = ["IMAGE_SUFFIXES", "find_images", "find_volumes", "resolve_dataset"]

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".nii", ".nii.gz")


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
        sample_dir: where the sample is made at its first use.
        size: studies of the sample.
        image_size: pixels of the sample's images.
        make: :func:`make_sample`, or :func:`monai_mgca.data.make_volume_sample`.

    Raises:
        DataError: when ``dataset_dir`` does not exist.

    Example::

        folder = resolve_dataset(None, "bundles/mgca/data/sample")
    """
    if dataset_dir is not None:
        if not os.path.isdir(dataset_dir):
            raise DataError(f"dataset_dir does not exist: {dataset_dir}. Give the folder that the datalist belongs to.")
        return str(dataset_dir)
    if rank() == 0:
        logger.info(
            f"No dataset_dir is given: the built-in sample in {sample_dir} and compact encoders are used. For your own "
            "data: --dataset_dir FOLDER, with a datalist.json in it that `python -m monai_mgca.data` makes."
        )
        make(sample_dir, size=size, image_size=image_size)
    if world_size() > 1:
        dist.barrier()
    return str(sample_dir)


def find_images(folder: str | os.PathLike) -> list[dict[str, str]]:
    """All radiographs below a folder, as entries for a dataset.

    Args:
        folder: searched with all its subfolders for PNG, JPEG, DICOM (.dcm) and NIfTI files.

    Returns:
        A list of {"image": path}, sorted.

    Raises:
        DataError: when there is no such folder or no such file in it.

    Example::

        data = find_images("radiographs")
    """
    if not os.path.isdir(folder):
        raise DataError(f"No such folder of images: {folder}.")
    paths = sorted(str(p) for p in Path(folder).rglob("*") if p.is_file() and p.name.lower().endswith(IMAGE_SUFFIXES))
    if not paths:
        raise DataError(f"No image in {folder}: looked for {', '.join(IMAGE_SUFFIXES)}.")
    return [{"image": path} for path in paths]


def find_volumes(folder: str | os.PathLike) -> list[dict[str, str]]:
    """All volumes below a folder, as entries for a dataset.

    Args:
        folder: searched with all its subfolders for NIfTI files, and for folders that hold DICOM files (.dcm): each is
            taken for one series.

    Returns:
        A list of {"image": path}, sorted.

    Raises:
        DataError: when there is no such folder or no volume in it.

    Example::

        make_volume_sample("ct", size=8, image_size=24)
        data = find_volumes("ct")
    """
    if not os.path.isdir(folder):
        raise DataError(f"No such folder of volumes: {folder}.")
    files = [p for p in Path(folder).rglob("*") if p.is_file()]
    paths = {str(p) for p in files if p.name.lower().endswith((".nii", ".nii.gz"))}
    paths |= {str(p.parent) for p in files if p.name.lower().endswith(".dcm")}
    if not paths:
        raise DataError(f"No volume in {folder}: looked for .nii, .nii.gz and folders of .dcm.")
    return [{"image": path} for path in sorted(paths)]
