# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A folder of volumes, NIfTI files and folders of DICOM series, as MONAI Label's local datastore."""

from __future__ import annotations

import logging
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from monai_mgca.io import is_clutter, kind_of_name, quick_kind
from monai_mgca.label.guards import is_plain
from monai_mgca.label.store.contained_store import LABELS
from monai_mgca.label.store.folder_datastore import FolderDatastore, watching
from monai_mgca.label.store.held_folder import plain_name
from monai_mgca.label.store.image_list import is_name
from monai_mgca.label.store.volume_endpoints import serve_series
from monai_mgca.utils import DataError

__all__ = ["VolumeDatastore"]

logger = logging.getLogger(__name__)

# what stands in an id between the folders of a series, and what marks a folder in MONAI Label's list, as an ending
BETWEEN, FOLDER = "=", "/"


class VolumeDatastore(FolderDatastore):
    """A folder of volumes as MONAI Label's local datastore; see :class:`FolderDatastore`.

    Its NIfTI files are volumes, and every folder below it, however deep, that holds DICOM files, which are one series;
    the id of a series is the way to its folder, with "=" between the folders: "patient1=chest". What a folder holds is
    looked at when it is read: several series, missing slices and radiographs are refused then.
    """

    spatial_dims = 3

    def __init__(self, folder: str | os.PathLike, auto_reload: bool = False, read_only: bool = False) -> None:
        super().__init__(folder, auto_reload, read_only)
        serve_series()
        top = [name for name in os.listdir(self._datastore_path) if not is_clutter(name)]
        files = [path for name in top if os.path.isfile(path := os.path.join(self._datastore_path, name))]
        if loose := sum(quick_kind(path) == "dicom" for path in files):
            logger.warning(
                f"{loose} DICOM files lie in the studies' folder itself, and are left out: a series has a folder of "
                "its own, below it."
            )
        if auto_reload:
            self._handler._patterns = None  # MONAI Label watches no folders of series

    def names_in(self, folder: str) -> list[str]:
        """As :meth:`FolderDatastore.names_in`; a series' ends with a slash."""
        found = []
        for place, folders, files in os.walk(folder):
            top = place == folder
            folders[:] = sorted(name for name in folders if not is_clutter(name) and not (top and name == LABELS))
            names = sorted(name for name in files if not is_clutter(name))
            if top:
                found += [n for n in names if kind_of_name(n) == "nifti" and os.path.isfile(os.path.join(place, n))]
            elif any(quick_kind(os.path.join(place, name)) == "dicom" for name in names):
                found.append(Path(place).relative_to(folder).as_posix() + FOLDER)
        if with_sign := [name for name in found if name.endswith(FOLDER) and BETWEEN in name]:
            logger.warning(f"{len(with_sign)} series are left out, whose folders have '{BETWEEN}' in their names.")
        return [name for name in found if name not in with_sign]

    def id_of(self, path: str) -> str:
        """As :meth:`ContainedStore.id_of`."""
        name = os.path.relpath(path, os.path.realpath(self._datastore_path))
        return self._to_id(Path(name).as_posix() + FOLDER if os.path.isdir(path) else name)[0]

    def _to_id(self, file: str) -> tuple[str, str]:
        if file.endswith(FOLDER):
            return file.removesuffix(FOLDER).replace("/", BETWEEN), FOLDER
        return super()._to_id(file)

    def _filename(self, id: str, ext: str) -> str:
        return id.replace(BETWEEN, os.sep) if ext == FOLDER else super()._filename(id, ext)

    def _is_image(self, id: str, ending: str) -> bool:
        if ending != FOLDER:
            return is_name(id, ending)
        parts = id.split(BETWEEN)
        try:
            good = is_plain(parts) and not any(is_clutter(plain_name(part)) for part in parts)
        except DataError:
            return False
        return good and parts[0] != LABELS

    def is_series(self, image_id: str) -> bool:
        """Whether an image is the folder of a DICOM series."""
        self._need(image_id)
        return bool(self._datastore.objects[image_id].image.ext == FOLDER)

    def get_image_uri(self, image_id: str) -> str:
        path = super().get_image_uri(image_id)
        if not self._holds_no_link_out(path):
            raise HTTPException(404, f"A file of image '{image_id}' is a link out of the studies' folder.")
        return path

    def _holds_no_link_out(self, path: str) -> bool:
        if not os.path.isdir(path):
            return True
        with os.scandir(path) as entries:
            return all(self._is_inside(entry.path) for entry in entries if entry.is_symlink())

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Of a series without the path, which viewers would open as a file, and with the name of what they get."""
        info = super().get_image_info(image_id)
        if self.is_series(image_id):
            del info["path"]
            info["name"] = f"{image_id}.nii.gz"
        return info

    def remove_image(self, image_id: str) -> None:
        if self.is_series(image_id):
            raise HTTPException(403, f"'{image_id}' is a DICOM series, which is not deleted from here.")
        super().remove_image(image_id)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        return [pair for pair in super().datalist(full_path) if self._holds_no_link_out(pair["image"])]

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """As MONAI Label's, a series with all its files."""
        pairs = self.datalist()[: limit_cases or None]
        if not pairs:
            raise HTTPException(404, "No image has a label of the tag 'final' yet: there is nothing to download.")
        with tempfile.NamedTemporaryFile(delete=False) as file, zipfile.ZipFile(file, "w") as archive:
            for pair in pairs:
                image, label = Path(pair["image"]), Path(pair["label"])
                for path in sorted(image.iterdir()) if image.is_dir() else [image]:
                    if path.is_file() and not is_clutter(path.name):
                        archive.write(path, Path("image", self.id_of(str(image)) if image.is_dir() else "", path.name))
                archive.write(label, Path("label", label.name))
            archive.writestr("metadata.json", self._datastore.model_dump_json(exclude={"base_path"}))
        return file.name

    def _refuse_other(self, file: str) -> None:
        if kind_of_name(file) != "nifti":
            raise HTTPException(
                400, "a volume is sent as .nii or .nii.gz; put the folder of a DICOM series into that of the studies."
            )

    def _on_any_event(self, event: Any) -> None:
        """What changes in a series that is known, or in what we keep, changes nothing in the list."""
        paths = [Path(os.fsdecode(path)) for path in (event.src_path, event.dest_path) if path]
        parts = [path.relative_to(self._datastore_path).parts for path in paths if self._is_below(path)]
        if event.is_directory:  # of a series that went, or has another place now
            if event.event_type in ("deleted", "moved") and any(one and not is_clutter(one[0]) for one in parts):
                with watching():
                    self.refresh()
            return
        if all(self._is_settled(one) for one in parts):
            return
        super()._on_any_event(event)

    def _is_below(self, path: Path) -> bool:
        return Path(self._datastore_path) in path.parents

    def _is_settled(self, parts: tuple[str, ...]) -> bool:
        """Whether a file can be no new study or label."""
        if len(parts) < 2 or parts[0] == LABELS:
            return len(parts) > 3
        if any(map(is_clutter, parts)):
            return True
        path = Path(self._datastore_path, *parts)
        known = self.knows(BETWEEN.join(parts[:-1])) and path.parent.is_dir()
        return known or (path.is_file() and quick_kind(path) != "dicom")

    def _on_modify_event(self, event: Any) -> None:
        path = Path(os.fsdecode(event.src_path))
        if path.parent == Path(self._datastore_path):
            super()._on_modify_event(event)
        elif not event.is_directory and path.parts[len(Path(self._datastore_path).parts)] != LABELS:
            self._on_any_event(event)  # the content came only now
