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

import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore

from monai_mgca.data.many import list_problems
from monai_mgca.io import IMAGE_SUFFIXES, is_clutter, kind_of_name, quick_kind
from monai_mgca.label.held_folder import HeldFolder
from monai_mgca.utils import DataError
from monai_mgca.utils.errors import StorageError
from monai_mgca.utils.files import replacing

__all__ = ["ContainedStore", "RadiographDatastore", "check_info", "check_plain"]

# how Slicer and we write labels
_LABELS = (".nrrd", ".seg.nrrd")
BOXES = ".json"
_PATTERNS = [f"*{case(suffix)}" for suffix in (*IMAGE_SUFFIXES, *_LABELS) for case in (str.lower, str.upper)]
# what a client may name: no separator, nothing hidden
NAME = re.compile(r"[^\W_][\w .,=+@-]*")


class ContainedStore:
    """Put before a datastore of MONAI Label: no id, tag or link from a client leads out of the datastore's folder.

    What is unknown or out of bounds is answered with an HTTP error and changes nothing. The datastore's own file is
    written whole or not at all.
    """

    @property
    def work_dir(self) -> Path:
        """Folder of what we keep beside the studies: embeddings, datalists of the labels."""
        folder = Path(self._datastore_path) / ".mgca"
        folder.mkdir(exist_ok=True)
        return folder

    def knows(self, image_id: str) -> bool:
        """Whether there is such an image."""
        return image_id in self._datastore.objects

    def get_image_uri(self, image_id: str) -> str:
        self._need(image_id)
        return self._inside(super().get_image_uri(image_id), f"image '{image_id}'")

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        self._need(image_id)
        return super().get_image_info(image_id)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        self._need(image_id)
        check_info(info)
        super().update_image_info(image_id, info)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        check_plain(image_id, "an image's id")
        check_info(image_info)
        self._check_file(image_id, image_filename)
        with FileLock(self._lock_file):
            image = self._put(image_filename, image_id, self._datastore.image_path(), image_info)
            self._datastore.objects[image_id] = ImageLabelModel(image=image)
            self._update_datastore_file(lock=False)
        return image_id

    def remove_image(self, image_id: str) -> None:
        self._need(image_id)
        super().remove_image(image_id)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        self._need(image_id)
        check_plain(label_tag, "a label's tag")
        check_info(label_info)
        return self._save_label(image_id, label_filename, label_tag, label_info)

    def _save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        with FileLock(self._lock_file):
            label = self._put(label_filename, image_id, self._datastore.label_path(label_tag), label_info)
            self._datastore.objects[image_id].labels[label_tag] = label
            self._update_datastore_file(lock=False)
        return image_id

    def _put(self, file: str, id: str, folder: str, info: dict[str, Any]) -> DataModel:
        """Copy what a client sent to its place, whole or not at all, in the place of what has the same id there."""
        ending = self._to_id(os.path.basename(file))[1]
        name = self._filename(id, ending)
        with self._held(folder) as place:
            if place.is_link(name):
                raise HTTPException(409, f"{os.path.join(*place.parts, name)} is a link: remove it first.")
            place.put(file, name)
            if place.parts:  # of a label
                self._remove_others(place, id, ending)
        return DataModel(info={**(info or {}), "ts": int(time.time()), "name": name}, ext=ending)

    @contextmanager
    def _held(self, folder: str) -> Iterator[HeldFolder]:
        """The datastore's folder or one in it, held open; what prevents that, or writing there, is told."""
        parts = Path(os.path.relpath(folder, self._datastore_path)).parts
        try:
            with HeldFolder(self._datastore_path, *parts) as place:
                yield place
        except DataError as error:
            raise HTTPException(409, str(error)) from error
        except StorageError as error:
            raise HTTPException(507, str(error)) from error

    def _remove_others(self, place: HeldFolder, id: str, ending: str) -> None:
        """An image has one mask of a tag, and one file of boxes: an older one of another ending would come back."""
        for name in place.names():
            other, kind = self._to_id(name)
            if other == id and kind != ending and (kind == BOXES) == (ending == BOXES) and not is_clutter(name):
                place.remove(name)

    def get_label_uri(self, label_id: str, label_tag: str, *args: Any) -> str:
        if not self.knows(label_id):
            check_plain(label_id, "a label's id")
        check_plain(label_tag, "a label's tag")
        path = super().get_label_uri(label_id, label_tag, *args)
        return self._inside(path, f"label '{label_id}'") if path else path

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        if not self._datastore.label(label_id, label_tag):
            raise HTTPException(404, f"There is no label '{label_id}' of tag '{label_tag}'.")
        check_info(info)
        super().update_label_info(label_id, label_tag, info)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        if not self.get_label_uri(label_id, label_tag):
            raise HTTPException(404, f"There is no label '{label_id}' of tag '{label_tag}'.")
        ending = self._datastore.label(label_id, label_tag).ext
        with self._held(self._datastore.label_path(label_tag)) as place:
            self._remove_others(place, label_id, ending)
        super().remove_label(label_id, label_tag)

    def _need(self, image_id: str) -> None:
        if not self.knows(image_id):
            raise HTTPException(404, f"There is no image '{image_id}'; GET /datastore/?output=all lists all.")

    def _check_file(self, image_id: str, file: str) -> None:
        """Whatever else a client sends could take the place of a report, of the list, or of what comes later."""
        ending = self._to_id(os.path.basename(file))[1]
        if kind_of_name(file) is None:  # without an ending it could take the place of the list, say
            raise HTTPException(400, f"a radiograph is {', '.join(IMAGE_SUFFIXES)}, not '{ending}'.")
        if self.knows(image_id):
            raise HTTPException(
                409, f"There is an image '{image_id}': choose another id, or delete it with its labels."
            )

    def _inside(self, path: str, name: str) -> str:
        if not self._is_inside(path):
            raise HTTPException(404, f"The {name} is a link out of the studies' folder: put the file itself there.")
        return path

    def _is_inside(self, path: str) -> bool:
        folder = os.path.realpath(self._datastore_path)
        return os.path.commonpath([folder, os.path.realpath(os.path.join(folder, path))]) == folder

    def _update_datastore_file(self, lock: bool = True) -> None:
        with FileLock(self._lock_file) if lock else nullcontext():
            content = self._datastore.model_dump(exclude={"base_path"})
            with replacing(self._datastore_config_path) as temporary:
                temporary.write_text(json.dumps(content, indent=2, default=str), encoding="utf-8")
            self._config_ts = os.stat(self._datastore_config_path).st_mtime


class RadiographDatastore(ContainedStore, LocalDatastore):
    """A folder of radiographs as MONAI Label's local datastore.

    Args:
        folder: DICOM, with or without a suffix, PNG, JPEG, TIFF ... and NIfTI (W, H) or (W, H, 1) files
            (:func:`monai_mgca.io.kind_of`); folders in it are not searched. Labels go to ``labels/`` in it, MONAI
            Label's list to ``datastore_v2.json``, what we keep to ``.mgca/``.
        auto_reload: watch the folder for new files.
        read_only: leave the list as it is.

    Raises:
        DataError: when the folder does not exist, or two images have one name but for the ending, which is the id.
    """

    def __init__(self, folder: str | os.PathLike, auto_reload: bool = False, read_only: bool = False) -> None:
        folder = os.path.realpath(folder)
        if not os.path.isdir(folder):
            raise DataError(f"studies: there is no folder {folder}.")
        _check_names(folder)
        super().__init__(folder, extensions=("*",), auto_reload=auto_reload, read_only=read_only)
        if auto_reload:  # rsync, and whoever copies with care, gives a file its name at the end
            self._handler.on_moved = self._on_any_event

    def _to_id(self, file: str) -> tuple[str, str]:
        return _id_and_ending(file)

    def _list_files(self, path: str, patterns: list[str]) -> dict[str, str]:
        if path != self._datastore.image_path():
            return super()._list_files(path, _PATTERNS)
        return {name: name for name in _image_names(path)}

    def _on_any_event(self, event: Any) -> None:
        names = [os.path.basename(os.fsdecode(path)) for path in (event.src_path, event.dest_path) if path]
        own = os.path.basename(self._datastore_config_path)
        if not event.is_directory and not all(is_clutter(name) or name.startswith(own) for name in names):
            super()._on_any_event(event)

    def _on_modify_event(self, event: Any) -> None:
        """A file without a suffix shows what it is only when its content comes."""
        name = os.path.basename(os.fsdecode(event.src_path))
        if kind_of_name(name) is None and not self.knows(_id_and_ending(name)[0]):
            self._on_any_event(event)
        super()._on_modify_event(event)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Pairs of image and label, without those that a link leads out of the folder."""
        pairs = super().datalist(full_path)
        return [pair for pair in pairs if all(map(self._is_inside, pair.values()))]


def check_plain(name: str, what: str) -> None:
    """Refuse a name from a client that could be a path.

    Raises:
        HTTPException: 400, when it is more than letters, digits, blanks and a few signs.
    """
    if not NAME.fullmatch(name or ""):
        raise HTTPException(400, f"{what} is letters, digits, blanks and ._,=+@- without a path, not '{name}'.")


def check_info(info: Any) -> None:
    """What a client tells of an image or label is answered as JSON later, and read by the strategies.

    Raises:
        HTTPException: 400, when that would fail.
    """
    try:
        json.dumps(info, allow_nan=False, default=str)
        times = [given.get("ts", 0) for given in (info or {}).get("strategy", {}).values()]
    except (AttributeError, ValueError):
        times = [None]
    if not all(isinstance(time, (int, float)) for time in times):
        raise HTTPException(400, 'info is a JSON object without NaN; "strategy" in it is MONAI Label\'s own.')


def _id_and_ending(file: str) -> tuple[str, str]:
    """A file's id and what follows it: the suffix of an image or label; nothing of "1.2.840.7", which has none."""
    ending = max((s for s in (*IMAGE_SUFFIXES, *_LABELS) if file.lower().endswith(s)), key=len, default="")
    ending = file[len(file) - len(ending) :] if ending else os.path.splitext(file)[1]
    return (file, "") if ending[1:2].isdigit() else (file.removesuffix(ending), ending)


def _image_names(folder: str) -> list[str]:
    names = (name for name in sorted(os.listdir(folder)) if not is_clutter(name))
    return [name for name in names if os.path.isfile(path := os.path.join(folder, name)) and quick_kind(path)]


def _check_names(folder: str) -> None:
    files = defaultdict(list)
    for name in _image_names(folder):
        files[_id_and_ending(name)[0]].append(name)
    problems = [(", ".join(names), f"are all '{stem}'") for stem, names in files.items() if len(names) > 1]
    if problems:
        title = f"{folder} has {len(problems)} names of several images"
        raise DataError(list_problems(title, problems, "An image's id is its name without the ending: rename them."))
