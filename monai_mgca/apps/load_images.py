# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Images and volumes on their way into a network: a few at a time, loaded by threads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from typing import Any

import torch
from monai.transforms import Compose
from monai.utils import CommonKeys

from monai_mgca.data import find_images, find_volumes
from monai_mgca.data.entry import Entry
from monai_mgca.data.image_item import ImageLike, image_item
from monai_mgca.utils import DataError

__all__ = ["Batches", "find_below", "image_batches", "refuse_missing"]

# A CT of 512 x 512 x 600 voxels has 600 MB as it is loaded, and its window as much again: of volumes two are loaded at
# once, and four that were brought to the network's size wait for it.
THREADS = {2: 16, 3: 2}
BATCH_SIZE = {2: 32, 3: 4}


class Batches(Sequence):
    """Batches of images that threads load: an error keeps its cause, which names the file; a process would lose it.

    Args:
        images: all of them.
        transform: makes "image" of an item.
        pool: of the threads.
        size: images at a time.
    """

    def __init__(self, images: Sequence[ImageLike], transform: Compose, pool: ThreadPool, size: int) -> None:
        self.chunks = [images[start : start + size] for start in range(0, len(images), size)]
        self.transform, self.pool = transform, pool

    def __getitem__(self, index: Any) -> Any:
        """{"image": (B, in_channels, H, W[, D])}"""
        loaded = self.pool.map(self._load, self.chunks[index], chunksize=1)
        return {CommonKeys.IMAGE: torch.stack(loaded)}

    def __len__(self) -> int:
        return len(self.chunks)

    def _load(self, image: ImageLike) -> torch.Tensor:
        # of what was loaded nothing else is kept, which may be hundreds of times as large
        loaded: torch.Tensor = self.transform(image_item(image))[CommonKeys.IMAGE].as_tensor()
        return loaded


@contextmanager
def image_batches(
    images: Sequence[ImageLike], transform: Compose, spatial_dims: int = 2, batch_size: int | None = None
) -> Iterator[Batches]:
    """The batches of some images, while their threads run.

    Args:
        images: paths or entries.
        transform: of the model.
        spatial_dims: 3 for volumes, of which few are in memory at a time.
        batch_size: images at a time; 32 unless given, of volumes 4.

    Example::

        from monai.transforms import Compose
        from monai_mgca.transforms import default_preprocessing
        from PIL import Image as Picture

        Picture.new("L", (60, 40)).save("radiograph.png")
        with image_batches(["radiograph.png"], Compose(default_preprocessing(32))) as batches:
            print(batches[0]["image"].shape)  # (1, 1, 32, 32)
    """
    with ThreadPool(min(THREADS[spatial_dims], os.cpu_count() or 1)) as pool:
        yield Batches(images, transform, pool, batch_size or BATCH_SIZE[spatial_dims])


def find_below(folder: str | os.PathLike, spatial_dims: int = 2) -> list[Entry]:
    """All radiographs below a folder, or all volumes; see :func:`monai_mgca.data.find_volumes`.

    Args:
        folder: searched with its subfolders.
        spatial_dims: 3 for volumes.

    Raises:
        DataError: when there are none.
    """
    return find_volumes(folder) if spatial_dims == 3 else find_images(folder)


def refuse_missing(images: Sequence[str], spatial_dims: int = 2) -> None:
    """Refuse images of a command line that are not there.

    Args:
        images: paths of files; of volumes also of folders.
        spatial_dims: 3 for volumes.

    Raises:
        DataError: naming them, and the option that they came by.
    """
    there = os.path.exists if spatial_dims == 3 else os.path.isfile
    if missing := [path for path in images if not there(path)]:
        raise DataError(f"There is no image {', '.join(missing)}: check the path of --image.")
