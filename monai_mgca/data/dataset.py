# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Datasets of a datalist with MONAI's caches: none, in memory, on disk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, Dataset, PersistentDataset
from monai.utils import CommonKeys, convert_to_tensor, look_up_option

from monai_mgca.data.without_meta import need_no_meta, without_meta
from monai_mgca.io.tensor_file import read_tensors
from monai_mgca.utils import DataError
from monai_mgca.utils.console import visible
from monai_mgca.utils.dist import world_size
from monai_mgca.utils.errors import StorageError, first_cause
from monai_mgca.utils.files import replacing
from monai_mgca.utils.hashing import hash_contents
from monai_mgca.utils.progress import list_problems

__all__ = ["CachedOnDiskDataset", "check_batch_size", "make_dataset"]

# So many unusable images end the filling of a cache: then it is more than the images that is wrong.
MAX_UNUSABLE = 100


def hash_item(item: Any) -> bytes:
    """Hash an entry together with the size and time of its files, so that a file that was rewritten is read again.

    Files are found in lists and dictionaries too, as where there is a mask for each class. A folder, such as that of a
    DICOM series, stands for all files in it but hidden ones.
    """
    return hash_contents(sorted(item.items()) if isinstance(item, dict) else item, files=True).encode()


def hash_transform(item: Any) -> bytes:
    """Hash transforms with all their arguments, the weights of a network, their sources and files among them.

    The files of a tokenizer's folder are such, and the sources of this package: another version may read otherwise.
    """
    return hash_contents(item, files=True).encode()


class PlainDataset(Dataset):
    """:class:`monai.data.Dataset` that makes plain tensors, of transforms that need no meta data."""

    def _transform(self, index: int) -> Any:
        with without_meta():
            return super()._transform(index)


class CachedOnDiskDataset(PersistentDataset):
    """:class:`monai.data.PersistentDataset` that returns plain tensors from the first epoch on.

    MONAI's gives a MetaTensor where an item is computed and a plain tensor where it is read back; a batch that mixes
    the two cannot be collated. A file of this one is whole or not there, however a run ended, and one that is damaged,
    wherever that is, or of another item is recreated.

    Args:
        args: see :class:`monai.data.PersistentDataset`.
        track_meta: random transforms keep meta data, by which boxes follow their image.
        kwargs: see :class:`monai.data.PersistentDataset`.

    Raises:
        StorageError: when a file cannot be read or written, naming it.
    """

    def __init__(self, *args: Any, track_meta: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.track_meta = track_meta

    def _pre_transform(self, item_transformed: Any) -> Any:
        with without_meta(not self.track_meta and need_no_meta(self.transform)):
            item = super()._pre_transform(item_transformed)
        return convert_to_tensor(item, convert_numeric=False, track_meta=False)

    def _cachecheck(self, item_transformed: Any) -> Any:
        if self.cache_dir is None:
            return super()._cachecheck(item_transformed)
        name = f"{self.hash_func(item_transformed).decode()}{self.transform_hash}"
        path = self.cache_dir / f"{name}.pt"
        if path.is_file():
            try:
                return self._read(path, name)
            except FileNotFoundError:  # another process has just removed it
                pass
            except OSError as error:
                mend = "mend that, or choose another cache_dir"
                raise StorageError(f"the cache file {path} cannot be read ({error.strerror}): {mend}.") from error
            except ValueError as error:
                message = f"The cache file {path} is damaged ({error}): it is recreated."
                warnings.warn(visible(message), stacklevel=2)
        item = self._pre_transform(deepcopy(item_transformed))
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save({"name": name, "item": item}, file)
        return item

    @staticmethod
    def _read(path: Path, name: str) -> Any:
        """The item in a file, which holds its own name, so that another's is not taken for it."""
        content = read_tensors(path)
        if not isinstance(content, dict) or content.get("name") != name:
            raise ValueError("it is of another item")
        return content["item"]

    def _post_transform(self, item_transformed: Any) -> Any:
        with without_meta(not self.track_meta):
            return super()._post_transform(item_transformed)


class WholeCacheDataset(CacheDataset):
    """:class:`monai.data.CacheDataset` that reports all files that cannot be used, not only the first it meets.

    Args:
        args: see :class:`monai.data.CacheDataset`.
        kwargs: see :class:`monai.data.CacheDataset`.

    Raises:
        DataError: listing the files and reasons; of very many, the first hundred.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._unusable: list[tuple[str, str]] = []
        super().__init__(*args, **kwargs)

    def _fill_cache(self, indices: Any = None) -> list:
        cache = super()._fill_cache(indices)
        if self._unusable:
            self._refuse(f"{len(self._unusable)} of {len(self.data)} images cannot be used")
        return cache

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except Exception as error:
            cause, item = first_cause(error), self.data[idx]
            if not isinstance(cause, DataError):
                raise
            file = item.get(CommonKeys.IMAGE) if isinstance(item, Mapping) else None
            self._unusable.append((str(file or f"item {idx}"), str(cause)))
            if len(self._unusable) >= MAX_UNUSABLE:
                self._refuse(f"more than {MAX_UNUSABLE - 1} images cannot be used; the first of them")
            return None

    def _refuse(self, title: str) -> None:
        mend = (
            "Mend the files or take them out: `mgca check` with the datalist finds all that is"
            " broken, and with --write-clean FILE leaves it out."
        )
        raise DataError(list_problems(title, sorted(self._unusable), mend, MAX_UNUSABLE))


class CachedInMemoryDataset(WholeCacheDataset):
    """:class:`monai.data.CacheDataset` that holds and returns plain tensors, for trainings that invert no transform."""

    def _fill_cache(self, indices: Any = None) -> list:
        with without_meta(need_no_meta(self.transform)):  # of all threads
            return super()._fill_cache(indices)

    def _load_cache_item(self, idx: int) -> Any:
        return convert_to_tensor(super()._load_cache_item(idx), convert_numeric=False, track_meta=False)

    def _transform(self, index: int) -> Any:
        with without_meta():
            return super()._transform(index)


def make_dataset(
    data: Sequence,
    transform: Sequence[Callable] | Callable,
    cache: str = "none",
    cache_dir: str | os.PathLike | None = None,
    num_workers: int = 0,
    progress: bool = True,
    track_meta: bool | None = None,
) -> Dataset:
    """Make a dataset whose deterministic transforms run every time, once into memory, or once onto the disk.

    Args:
        data: entries, e.g. of :func:`load_datalist`.
        transform: the transforms; what comes before the first random one is cached.
        cache: "none"; "memory", filled here; "disk", filled by the first epoch and found again by later runs. The
            disk's items are found by a hash of the entry, its files' size and time and the transforms with all their
            arguments, files (a tokenizer's) and sources: none of them can change unnoticed. They are loaded with
            `weights_only=True`.
        cache_dir: the folder of the disk cache.
        num_workers: threads that fill the memory.
        progress: whether filling the memory shows a progress bar.
        track_meta: keep the meta data of images, by which transforms are inverted and boxes follow their image;
            without them an item is there in half the time. Those on the disk have none, and with True get new
            ones from the random transforms. Without a cache False leaves them out where no transform looks at them.
            Defaults to False on the disk, else to True.

    Raises:
        DataError: when the disk cache has no `cache_dir`; listing all images that cannot be used, when the memory is
            filled.
        ValueError: when `cache` is another word.

    Example::

        dataset = make_dataset([{"image": "1.png"}], LoadImaged("image"), cache="disk", cache_dir="cache")
    """
    cache = look_up_option(cache, ("none", "memory", "disk"))
    if cache == "memory":
        dataset = CachedInMemoryDataset if track_meta is False else WholeCacheDataset
        return dataset(data, transform, num_workers=num_workers, progress=progress)
    if cache == "disk":
        if cache_dir is None:
            raise DataError("cache='disk' needs cache_dir: the folder in which to keep the transformed items.")
        return CachedOnDiskDataset(
            data,
            transform,
            cache_dir=Path(cache_dir),
            hash_func=hash_item,
            hash_transform=hash_transform,
            track_meta=bool(track_meta),
        )
    return (PlainDataset if track_meta is False and need_no_meta(transform) else Dataset)(data, transform)


def check_batch_size(num_items: int, batch_size: int) -> None:
    """Refuse a batch that is larger than a process's part of the training set: dropping the last would leave none.

    Raises:
        DataError: when `batch_size` is larger than `num_items`.

    Example::

        check_batch_size(num_items=640, batch_size=64)
    """
    num_items //= world_size()
    if batch_size > num_items:
        raise DataError(
            f"batch_size is {batch_size} but there are {num_items} training items: no whole batch, so nothing would be"
            f" trained. Set batch_size to at most {num_items}, or bring more data."
        )
