# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The CT series of a PACS as a datastore of MONAI Label."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException

from monai_mgca.io.dicom.dicom_series import Slice, find_slices
from monai_mgca.io.dicom.slice_stack import stack_slices
from monai_mgca.io.limits import MAX_VOXELS
from monai_mgca.io.volumes.volume_geometry import read_volume_geometry, write_volume
from monai_mgca.label.store.pacs_client import is_uid, open_pacs
from monai_mgca.label.store.pacs_datastore import RadiographDICOMWebDatastore, cache_path
from monai_mgca.label.store.pacs_endpoints import replace_endpoints
from monai_mgca.label.store.volume_endpoints import write_series_file
from monai_mgca.label.store.volume_seg import read_place, read_volume_segmentation, write_place
from monai_mgca.utils import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["VolumeDICOMWebDatastore", "connect"]

# GiB of volumes that are kept, unless MGCA_PACS_CACHE names another number
CACHE = 50


class VolumeDICOMWebDatastore(RadiographDICOMWebDatastore):
    """The CT series of a PACS as MONAI Label's datastore; an image's id is the UID of its series.

    A series is fetched when it is first asked for, and kept as ``<id>.nii.gz`` in Hounsfield units, with the headers of
    its instances. When the volumes take more room than :data:`CACHE`, those that were not used for the longest time
    become empty files, and are fetched again when they are asked for. Masks and boxes are kept as those of radiographs.
    """

    spatial_dims = 3

    def image_state(self, image_id: str) -> str:
        """Of a series of the PACS nothing changes: it need not be fetched to know that."""
        self._need(image_id)
        return image_id

    def get_image_uri(self, image_id: str) -> str:
        path = super().get_image_uri(image_id)
        os.utime(path)
        self._make_room(Path(path))
        return path

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """As that of radiographs; a volume that is not here has no path, and viewers ask for it."""
        if not self.knows(image_id) or image_id not in self._datastore.objects:
            return super().get_image_info(image_id)
        info = super(RadiographDICOMWebDatastore, self).get_image_info(image_id)
        if not self._is_here(Path(info["path"])):
            del info["path"]
        return info

    def _is_here(self, path: Path) -> bool:
        return path.is_file() and path.stat().st_size > 0

    def _make_room(self, kept: Path) -> None:
        """Empty the files that were not used for the longest time, down to the limit; this one stays."""
        found = {path: path.stat() for path in kept.parent.glob("*.nii.gz")}
        room = float(os.environ.get("MGCA_PACS_CACHE", CACHE)) * 2**30
        total = sum(stat.st_size for stat in found.values())
        for path, stat in sorted(found.items(), key=lambda pair: pair[1].st_mtime):
            if total > room and path != kept and stat.st_size:
                os.truncate(path, 0)
                total -= stat.st_size

    def _convert(self, uid: str, folder: Path, path: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            self._download(uid, Path(own))
            try:
                slices, _ = stack_slices(find_slices(Path(own)))
                write_place(folder, read_volume_geometry(own))
                write_series_file(own, Path(own, "volume.nii.gz"))
            except DataError as error:
                raise HTTPException(400, f"The series {uid} is no volume: {error.__cause__ or error}") from None
            _keep_headers(slices, folder)
            os.replace(Path(own, "volume.nii.gz"), path)

    def _download(self, uid: str, folder: Path) -> None:
        """The instances of a series, one after the other in memory, as files named by their UIDs."""
        voxels = 0
        for data in self.pacs.instances(self._series(uid)):
            instance = str(data.get("SOPInstanceUID"))
            if str(data.get("SeriesInstanceUID")) != uid or not is_uid(instance):
                raise HTTPException(502, f"The DICOMweb server gives another series for {uid}.")
            voxels += _voxels_of(data)
            if voxels > MAX_VOXELS:
                raise HTTPException(400, f"The series {uid} has more than {MAX_VOXELS:,} voxels.")
            data.save_as(folder / f"{instance}.dcm", write_like_original=False)

    def _write_mask(self, data: Any, folder: Path, path: Path) -> None:
        geometry = read_place(folder)
        write_volume(read_volume_segmentation(data, geometry), geometry, path)


def _voxels_of(data: Dataset) -> int:
    try:
        return int(data.get("Rows") or 0) * int(data.get("Columns") or 0) * int(data.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):  # a damaged tag; the reader refuses the series
        return 0


def _keep_headers(slices: list[Slice], folder: Path) -> None:
    """The headers of a series' instances, in the order of its slices: labels that go back refer to them."""
    import pydicom

    for number, file in enumerate(dict.fromkeys(one.file for one in slices)):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        header.save_as(folder / f"{number:06d}.dcm", write_like_original=False)


def connect(url: str, folder: str | os.PathLike) -> VolumeDICOMWebDatastore:
    """Open a DICOMweb server as MONAI Label's own environment variables say, see :func:`open_pacs`.

    Args:
        url: of the server.
        folder: to keep volumes in, unless ``MONAI_LABEL_DICOMWEB_CACHE_PATH`` names another.
    """
    replace_endpoints()
    return VolumeDICOMWebDatastore(open_pacs(url, 3), cache_path() or folder)
