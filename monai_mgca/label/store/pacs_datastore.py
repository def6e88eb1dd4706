# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The studies of a PACS as a datastore of MONAI Label."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from filelock import FileLock
from monailabel.config import settings as server_settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from monai_mgca.io.geometry import read_geometry, write_label_map
from monai_mgca.label.client_names import check_info
from monai_mgca.label.store.contained_store import ContainedStore
from monai_mgca.label.store.dicom_seg import names_of, read_segmentation
from monai_mgca.label.store.pacs_client import Pacs, Series, open_pacs
from monai_mgca.label.store.pacs_endpoints import SOURCE, replace_endpoints, segmentation_of
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils import DataError, read_settings, write_settings
from monai_mgca.utils.files import replacing

__all__ = ["FINAL", "RadiographDICOMWebDatastore", "cache_path", "connect"]

logger = logging.getLogger(__name__)

FINAL = DefaultLabelTag.FINAL.value


class RadiographDICOMWebDatastore(ContainedStore, DICOMWebDatastore):
    """The radiographs of a PACS as MONAI Label's datastore; an image's id is the UID of its series.

    A radiograph is fetched when it is first asked for, and kept as ``<id>.nii.gz`` (W, H, 1) as it is to be displayed:
    0 to 255, its window applied, MONOCHROME1 inverted. Masks that are saved with the tag "final" go to the PACS as
    DICOM SEG, and those of the PACS, whoever made them, are the labels; boxes and what has another tag stay here.

    Args:
        pacs: the DICOMweb server.
        folder: to keep radiographs and labels in; each server has its own in it.

    Raises:
        DataError: when others could write there.
    """

    def __init__(self, pacs: Pacs, folder: str | os.PathLike) -> None:
        self.pacs, self._client = pacs, pacs.client
        place = Path(folder).resolve() / f"mgca-{hashlib.sha256(pacs.client.base_url.encode()).hexdigest()[:16]}"
        _make_own(place)
        LocalDatastore.__init__(self, str(place), extensions=("*.nii.gz", "*.nii", "*.nrrd"), auto_reload=False)

    def knows(self, image_id: str) -> bool:
        return self.pacs.find(image_id) is not None

    def list_images(self) -> list[str]:
        return list(self.pacs.listed())

    def json(self) -> dict[str, Any]:
        known = super().json()
        known["objects"] = {**{uid: {"image": {}, "labels": {}} for uid in self.list_images()}, **known["objects"]}
        return known

    def get_image_uri(self, image_id: str) -> str:
        self._need(image_id)
        return self._inside(str(self._fetch(image_id)), f"image '{image_id}'")

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        self.get_image_uri(image_id)
        return super().get_image_info(image_id)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        self.get_image_uri(image_id)
        super().update_image_info(image_id, info)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        raise HTTPException(403, "Radiographs come from the PACS: store it there.")

    def remove_image(self, image_id: str) -> None:
        self._need(image_id)
        raise HTTPException(403, "Radiographs are the PACS's own: delete it there.")

    def get_labeled_images(self, label_tag: str | None = None, labels: Sequence[str] | None = None) -> list[str]:
        """Those with a DICOM SEG in the PACS, and those with boxes."""
        labeled = {*self.pacs.segmentations(), *LocalDatastore.get_labeled_images(self)}
        return [uid for uid in self.list_images() if uid in labeled]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: Sequence[str] | None = None) -> list[str]:
        labeled = set(self.get_labeled_images())
        return [uid for uid in self.list_images() if uid not in labeled]

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        segmented = {FINAL: image_id} if image_id in self.pacs.segmentations() else {}
        return {**super().get_labels_by_image_id(image_id), **segmented}

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """A label's id is its image's. The newest mask of the PACS comes before boxes."""
        mask = self._fetch_mask(label_id) if label_tag == FINAL and self.knows(label_id) else None
        path = str(mask or LocalDatastore.get_label_uri(self, label_id, label_tag))
        return self._inside(path, f"label '{label_id}'") if path else path

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """Of a mask of the PACS, the names of its segments as ``label_info``."""
        mask = self._fetch_mask(label_id) if label_tag == FINAL else None
        if mask is None:
            return super().get_label_info(label_id, label_tag)
        return read_settings(mask.with_name(mask.name.replace(".nii.gz", ".json")))

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any], label_id: str = ""
    ) -> str:
        self.get_image_uri(image_id)
        if label_tag == FINAL and not label_filename.endswith(".json"):
            check_info(label_info)
            names = (label_info or {}).get("label_info")
            self.pacs.store(segmentation_of(self._folder(image_id), label_filename, names, automatic=False))
            return image_id
        self._check_label(image_id, label_filename, label_tag, label_info)
        return self._save_label(image_id, label_filename, label_tag, label_info)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        if label_tag == FINAL and label_id in self.pacs.segmentations():
            raise HTTPException(403, "The label is a DICOM SEG of the PACS: delete it there.")
        super().remove_label(label_id, label_tag)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Pairs of image and label: of each mask of the PACS, and of all boxes."""
        pairs = []
        for uid in self.list_images():
            try:
                labels = [self._fetch_mask(uid), LocalDatastore.get_label_uri(self, uid, FINAL)]
                pairs += [{"image": self.get_image_uri(uid), "label": str(label)} for label in labels if label]
            except HTTPException as error:
                logger.warning(f"left out of the labels: {error.detail}")
        return pairs

    def _folder(self, uid: str) -> Path:
        folder = Path(self._datastore.image_path()).resolve() / uid
        folder.mkdir(exist_ok=True)
        return folder

    def _series(self, uid: str) -> Series:
        found = self.pacs.find(uid)
        if found is None:
            raise HTTPException(404, f"The PACS has no series {uid} any more.")
        return found

    def _fetch(self, uid: str) -> Path:
        folder = self._folder(uid)
        path = folder.with_name(f"{uid}.nii.gz")
        with FileLock(folder / ".lock"):
            if not self._is_here(path):
                self._convert(uid, folder, path)
        self._init_from_datastore_file()  # another process may have fetched others
        if uid not in self._datastore.objects:
            series = self._series(uid)
            info = {"name": path.name, "SeriesInstanceUID": uid, "StudyInstanceUID": series.study}
            info["Modality"] = series.modality
            self._datastore.objects[uid] = ImageLabelModel(image=DataModel(ext=".nii.gz", info=info))
            self._update_datastore_file()
        return path

    def _is_here(self, path: Path) -> bool:
        """Whether an image was fetched."""
        return path.is_file()

    def _convert(self, uid: str, folder: Path, path: Path) -> None:
        data = self.pacs.only_instance(self._series(uid))
        if str(data.get("SeriesInstanceUID")) != uid:
            raise HTTPException(502, f"The DICOMweb server gives another series for {uid}.")
        temporary = folder / "displayed.nii.gz"
        try:
            with replacing(folder / SOURCE) as source:
                data.save_as(source, write_like_original=False)
            pixels = LoadRadiograph()(folder / SOURCE)[0].round().clamp(0, 255)
            write_label_map(pixels.numpy().astype(np.uint8), read_geometry(folder / SOURCE), temporary)
        except DataError as error:
            (folder / SOURCE).unlink(missing_ok=True)
            raise HTTPException(400, f"The series {uid} is no radiograph: {error.__cause__ or error}") from None
        os.replace(temporary, path)

    def _fetch_mask(self, uid: str) -> Path | None:
        """The label map of the newest DICOM SEG of an image, or None."""
        series = self.pacs.segmentations().get(uid)
        if series is None:
            return None
        self.get_image_uri(uid)
        folder = self._folder(uid)
        path = folder / f"{series.uid}.nii.gz"
        with FileLock(folder / ".lock"):
            if not path.is_file():
                data = self.pacs.only_instance(series)
                write_settings(folder / f"{series.uid}.json", {"label_info": names_of(data)})
                try:
                    self._write_mask(data, folder, path)
                except DataError as error:
                    raise HTTPException(400, f"The label of the series {uid}: {error}") from None
        return path

    def _write_mask(self, data: Any, folder: Path, path: Path) -> None:
        """The label map of a DICOM SEG."""
        geometry = read_geometry(folder / SOURCE)
        write_label_map(read_segmentation(data, geometry.size), geometry, path)


def _make_own(folder: Path) -> None:
    """Make a folder that is this user's alone, or refuse the one that is there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found, parent = folder.lstat(), folder.parent.stat()
    # in a folder that all can write to, only a sticky one keeps others from moving what is ours
    movable = parent.st_mode & 0o022 and not parent.st_mode & stat.S_ISVTX
    if stat.S_ISLNK(found.st_mode) or found.st_mode & 0o022 or found.st_uid != getattr(os, "getuid", int)() or movable:
        raise DataError(
            f"{folder} is a link, somebody else's, or others can write to it or move it: radiographs of the PACS are "
            "kept there. Name a folder of your own as MONAI_LABEL_DICOMWEB_CACHE_PATH."
        )


def connect(url: str, folder: str | os.PathLike) -> RadiographDICOMWebDatastore:
    """Open a DICOMweb server as MONAI Label's own environment variables say, see :func:`open_pacs`.

    Args:
        url: of the server.
        folder: to keep radiographs in, unless ``MONAI_LABEL_DICOMWEB_CACHE_PATH`` names another.
    """
    replace_endpoints()
    return RadiographDICOMWebDatastore(open_pacs(url), cache_path() or folder)


def cache_path() -> str:
    """Where ``MONAI_LABEL_DICOMWEB_CACHE_PATH`` says that images are kept, or nothing."""
    return server_settings.MONAI_LABEL_DICOMWEB_CACHE_PATH.strip()
