# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What keeps a datastore of MONAI Label inside its folder, and its files whole."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel
from monailabel.interfaces.datastore import DefaultLabelTag

from monai_mgca.io import IMAGE_SUFFIXES, is_clutter, kind_of_name
from monai_mgca.label.client_names import LABEL_SUFFIXES, check_info, check_plain, id_and_ending, same, without_own
from monai_mgca.label.store.file_state import file_state
from monai_mgca.label.store.held_folder import HeldFolder
from monai_mgca.label.store.image_list import is_name, read_list
from monai_mgca.label.store.saved_label import read_label
from monai_mgca.utils import DataError
from monai_mgca.utils.errors import StorageError

__all__ = ["ContainedStore"]

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from monailabel.datastore.local import LocalDatastore as _Store  # what it is put before
else:
    _Store = object

# folders beside the studies: what we keep, and MONAI Label's own
OURS, LABELS = ".mgca", "labels"


class ContainedStore(_Store):
    """Put before a datastore of MONAI Label: no id, tag or link from a client leads out of the datastore's folder.

    What is unknown or out of bounds is answered with an HTTP error and changes nothing. Files are written whole or not
    at all, in folders that are held open meanwhile: nobody who can write there can have us write elsewhere. The list
    of images and labels may be somebody's as well, so that what it says is not believed.
    """

    _config_ts: float
    # of the studies: 3 for volumes
    spatial_dims = 2

    @property
    def work_dir(self) -> Path:
        """Folder of what we keep beside the studies: embeddings, datalists of the labels."""
        with self._held(OURS) as folder:
            return Path(folder.path)

    def id_of(self, path: str) -> str:
        """The id of an image of the datalist, by its path."""
        return self._to_id(os.path.basename(path))[0]

    def knows(self, image_id: str) -> bool:
        """Whether there is such an image."""
        return image_id in self._datastore.objects

    def get_image_uri(self, image_id: str) -> str:
        self._need(image_id)
        return self._inside(super().get_image_uri(image_id), f"image '{image_id}'")

    def image_state(self, image_id: str) -> str:
        """What changes when an image does."""
        return file_state(self.get_image_uri(image_id))

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        self._need(image_id)
        return super().get_image_info(image_id)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        self._need(image_id)
        check_info(info)
        super().update_image_info(image_id, without_own(info))

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        check_plain(image_id, "an image's id")
        check_info(image_info)
        self._check_file(image_id, image_filename)
        with self._locked(), self._held() as folder:
            image = self._put(image_filename, image_id, folder, image_info)
            self._datastore.objects[image_id] = ImageLabelModel(image=image)
            self._update_datastore_file(lock=False)
        return image_id

    def remove_image(self, image_id: str) -> None:
        self._need(image_id)
        known = self._datastore.objects[image_id]
        for tag in list(known.labels):
            self.remove_label(image_id, tag)
        with self._held() as folder:
            folder.remove(self._filename(image_id, known.image.ext))
        self.refresh()

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        self._need(image_id)
        self._check_label(image_id, label_filename, label_tag, label_info)
        return self._save_label(image_id, label_filename, label_tag, label_info)

    def _save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        with self._locked(), self._held(LABELS, label_tag) as folder:
            label = self._put(label_filename, image_id, folder, label_info)
            self._remove_others(folder, image_id, label.ext)
            self._datastore.objects[image_id].labels[label_tag] = label
            self._update_datastore_file(lock=False)
        return image_id

    def _put(self, file: str, id: str, folder: HeldFolder, info: dict[str, Any]) -> DataModel:
        """Copy what a client sent to its place, whole or not at all, in the place of what has the same id there."""
        ending = self._to_id(os.path.basename(file))[1]
        name = self._filename(id, ending)
        if (of := self._to_id(name)) != (id, ending):  # "a.seg" and ".nrrd"
            raise HTTPException(400, f"'{name}' would be a file of '{of[0]}': choose another ending, or another id.")
        if folder.is_link(name):
            raise HTTPException(409, f"{os.path.join(*folder.parts, name)} is a link: remove it first.")
        folder.put(file, name)
        return DataModel(info={**without_own(info), "ts": int(time.time()), "name": name}, ext=ending)

    def _to_id(self, file: str) -> tuple[str, str]:
        return id_and_ending(file)

    @contextmanager
    def _held(self, *parts: str) -> Iterator[HeldFolder]:
        """The datastore's folder or one in it, held open; what prevents that, or writing there, is reported."""
        try:
            with HeldFolder(self._datastore_path, *parts) as folder:
                yield folder
        except DataError as error:
            raise HTTPException(409, str(error)) from error
        except StorageError as error:
            raise HTTPException(507, str(error)) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """For the list of images and labels one process at a time; the lock itself follows no link."""
        try:
            lock = FileLock(self._lock_file).acquire()
        except OSError as error:
            name = os.path.basename(self._lock_file)
            raise HTTPException(
                409, f"{name} among the studies is a link, a folder or not ours ({error.strerror}): remove it."
            ) from None
        with lock:
            yield

    def _remove_others(self, folder: HeldFolder, id: str, ending: str | None = None) -> None:
        """An image has one label of a tag: an older one of another ending would come back."""
        for name in folder.names():
            other, kind = self._to_id(name)
            if other == id and kind != ending and not is_clutter(name):
                folder.remove(name)

    def get_label_uri(self, label_id: str, label_tag: str, *args: Any) -> str:
        if not self.knows(label_id):
            check_plain(label_id, "a label's id")
        check_plain(label_tag, "a label's tag")
        path = super().get_label_uri(label_id, label_tag, *args)
        return self._inside(path, f"label '{label_id}'") if path else path

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        self._need_label(label_id, label_tag)
        check_info(info)
        info = without_own(info)
        if "label_info" in info:
            name = self._filename(label_id, self._datastore.label(label_id, label_tag).ext)
            path = self._inside(os.path.join(self._datastore.label_path(label_tag), name), f"label '{label_id}'")
            self._check_label(label_id, path, label_tag, info)
        super().update_label_info(label_id, label_tag, info)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        self._need_label(label_id, label_tag)
        with self._held(LABELS, label_tag) as folder:
            self._remove_others(folder, label_id)
        self.refresh()

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        if not self.datalist():
            raise HTTPException(404, "No image has a label of the tag 'final' yet: there is nothing to download.")
        return super().get_dataset_archive(limit_cases)

    def _need(self, image_id: str) -> None:
        if not self.knows(image_id):
            raise HTTPException(404, f"There is no image '{image_id}'; GET /datastore/?output=all lists all.")

    def _need_label(self, label_id: str, label_tag: str) -> None:
        if not self._datastore.label(label_id, label_tag):
            check_plain(label_tag, "a label's tag")
            raise HTTPException(404, f"There is no label '{label_id}' of tag '{label_tag}'.")

    def _check_file(self, image_id: str, file: str) -> None:
        """Whatever else a client sends could take the place of a report, of the list, or of what comes later."""
        self._refuse_other(file)
        known = {same(name): name for name in self._datastore.objects}
        if other := known.get(same(image_id)):
            raise HTTPException(409, f"There is an image '{other}': choose another id, or delete it with its labels.")

    def _refuse_other(self, file: str) -> None:
        """Without an ending it could take the place of the list, say."""
        if kind_of_name(file) is None:
            ending = self._to_id(os.path.basename(file))[1]
            raise HTTPException(400, f"a radiograph is {', '.join(IMAGE_SUFFIXES)}, not '{ending}'.")

    def _check_label(self, image_id: str, file: str, tag: str, info: Any) -> None:
        """What no training could take is not saved: a label of the tag "final" counts as done."""
        check_plain(tag, "a label's tag")
        check_info(info)
        ending = self._to_id(os.path.basename(file))[1]
        if ending.lower() not in LABEL_SUFFIXES:
            raise HTTPException(400, f"a label is {', '.join(LABEL_SUFFIXES)}, not '{ending}'.")
        if tag == DefaultLabelTag.FINAL:
            try:
                read_label(self.get_image_uri(image_id), file, (info or {}).get("label_info"), self.spatial_dims)
            except DataError as error:
                message = str(error).replace(os.fspath(file), f"of '{image_id}'")
                raise HTTPException(400, f"The label of '{image_id}' is not saved: {message}.") from None

    def _is_image(self, id: str, ending: str) -> bool:
        """Whether the list, which may be somebody's, names what could be an image here."""
        return is_name(id, ending)

    def _inside(self, path: str, name: str) -> str:
        if not self._is_inside(path):
            raise HTTPException(404, f"The {name} is a link out of the studies' folder: put the file itself there.")
        return path

    def _is_inside(self, path: str) -> bool:
        folder = os.path.realpath(self._datastore_path)
        return os.path.commonpath([folder, os.path.realpath(os.path.join(folder, path))]) == folder

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """Read the list, where it has changed; while the server runs, one that cannot be read changes nothing."""
        with self._locked(), self._held() as folder:
            try:
                changed = os.lstat(self._datastore_config_path).st_mtime
                if changed == self._config_ts:
                    return
                found = read_list(folder.read(os.path.basename(self._datastore_config_path)), self._is_image)
            except FileNotFoundError:
                return
            except DataError as error:
                message = (
                    f"{error} It is recreated, without what clients said of images and labels, as the names in masks."
                )
                if throw_exception:
                    raise DataError(message) from None
                logger.error(message)
                return
        found.images_dir, found.labels_dir, found.base_path = ".", LABELS, self._datastore_path
        self._datastore, self._config_ts = found, changed

    def _update_datastore_file(self, lock: bool = True) -> None:
        with self._locked() if lock else nullcontext(), self._held() as folder:
            content = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str).encode()
            folder.write(os.path.basename(self._datastore_config_path), lambda file: file.write(content))
            self._config_ts = os.lstat(self._datastore_config_path).st_mtime

    def _reconcile_datastore(self) -> None:
        with self._held(LABELS):  # recreated where somebody removed it
            super()._reconcile_datastore()
