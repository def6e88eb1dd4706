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

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection, PathLike
from monai.data import ITKReader, MetaTensor, NibabelReader
from monai.transforms import MapTransform, Transform
from monai.utils import ImageMetaKey, MetaKeys, SpaceKeys, TransformBackends, optional_import

from monai_mgca.transforms.damaged_dicom import refuse_damaged_dicom
from monai_mgca.transforms.limits import MAX_VOXELS, refuse_bomb, refuse_nifti_bomb
from monai_mgca.utils import DataError

itk, _ = optional_import("itk", allow_namespace_pkg=True)

__all__ = ["LoadVolume", "LoadVolumeD", "LoadVolumeDict", "LoadVolumed"]

_UNEVEN = "ITK_non_uniform_sampling_deviation"  # what ITK notes of a series with gaps


class LoadVolume(Transform):
    """Read a CT as (1, X, Y, Z), float32, in Hounsfield units, with the affine to world coordinates (RAS).

    NIfTI is read by nibabel; a DICOM file, or the folder of a DICOM series, by ITK, which applies rescale slope and
    intercept and puts the slices in their order. Of the header the geometry alone is kept: nothing of the patient.

    Args:
        image_only: return the MetaTensor alone, else the MetaTensor and its meta data.

    Raises:
        DataError: when the file or folder cannot be read, holds no volume or several series, or a series has gaps; the
            message names it and the reason.

    Example::

        import nibabel, numpy as np
        from monai_mgca.transforms import LoadVolume

        nibabel.save(nibabel.Nifti1Image(np.zeros((8, 9, 10), dtype=np.int16), np.eye(4)), "ct.nii.gz")
        print(LoadVolume()("ct.nii.gz").shape)  # (1, 8, 9, 10)
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(self, image_only: bool = True) -> None:
        self.image_only = image_only

    def __call__(self, filename: PathLike) -> Any:
        """
        Args:
            filename: the file, or the folder of a DICOM series.
        """
        try:
            path = Path(os.path.expanduser(os.fspath(filename)))
            if not path.exists():
                raise DataError("there is no such file or folder.")
            values, affine = _read_nifti(path) if path.name.lower().endswith((".nii", ".nii.gz")) else _read_itk(path)
            values = values.reshape(values.shape[:3] + tuple(size for size in values.shape[3:] if size > 1))
            if values.ndim != 3 or min(values.shape) < 2:
                raise DataError(f"its shape is {values.shape}; a volume is (X, Y, Z), of one channel and one time.")
            if not np.isfinite(values).all():
                raise DataError("it holds values that are not finite.")
        except Exception as e:
            reason = str(e) if isinstance(e, DataError) else f"{type(e).__name__}: {e}"
            raise DataError(f"cannot read the volume {filename!s}: {reason}") from e
        meta = {MetaKeys.AFFINE: affine, MetaKeys.SPATIAL_SHAPE: np.asarray(values.shape)}
        meta |= {MetaKeys.SPACE: SpaceKeys.RAS, ImageMetaKey.FILENAME_OR_OBJ: str(path)}
        image = MetaTensor.ensure_torch_and_prune_meta(np.array(values[None], dtype=np.float32), meta)
        return image if self.image_only else (image, meta)


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    refuse_nifti_bomb(path, MAX_VOXELS)
    reader = NibabelReader()
    values, meta = reader.get_data(reader.read(path))
    return values, np.asarray(meta[MetaKeys.AFFINE])


def _read_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    # before ITK, which makes room for the pixels already when it looks at a header
    files = [path] if path.is_file() else filter(Path.is_file, path.iterdir())
    refuse_bomb([sum(refuse_damaged_dicom(file) for file in files)], MAX_VOXELS)
    if path.is_file() and not _is_dicom(path):
        raise DataError("a volume is NIfTI (.nii, .nii.gz) or DICOM, and this is neither.")
    image = itk.imread(_series_files(path) if path.is_dir() else str(path))
    if image.GetMetaDataDictionary().HasKey(_UNEVEN):
        raise DataError("slices are missing, or are not evenly spaced.")
    values, meta = ITKReader().get_data(image)
    return values, np.asarray(meta[MetaKeys.AFFINE])


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _series_files(folder: Path) -> list[str]:
    """The files of a folder's one DICOM series, in the order of their places."""
    names = itk.GDCMSeriesFileNames.New()
    names.SetUseSeriesDetails(True)
    names.SetDirectory(str(folder))
    series = names.GetSeriesUIDs()
    if len(series) != 1:
        mend = "; give each a folder of its own" if series else ""
        raise DataError(f"the folder holds {len(series) or 'no'} DICOM series{mend}.")
    files = list(names.GetFileNames(series[0]))
    if len(files) == 1:
        raise DataError("the folder holds one DICOM file; give the file, if it holds all slices.")
    return files


class LoadVolumed(MapTransform):
    """Dictionary-based version of :class:`LoadVolume`: the MetaTensor replaces the path under each key.

    Args:
        keys: keys of the paths.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = LoadVolume.backend

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadVolume()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.load(d[key])
        return d


LoadVolumeD = LoadVolumeDict = LoadVolumed
