# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Loads a CT or MR volume: NIfTI, a folder of a DICOM series, or an array of RAD-ChestCT."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import itk
import numpy as np
import torch
from monai.config import KeysCollection, PathLike
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import ImageMetaKey, MetaKeys, SpaceKeys, TransformBackends
from nibabel.volumeutils import apply_read_scaling

from monai_mgca.io import kind_of_name
from monai_mgca.io.dicom.dicom_series import find_slices
from monai_mgca.io.dicom.padding import fill_padding
from monai_mgca.io.dicom.slice_stack import MAX_TILT, stack_slices
from monai_mgca.io.volumes.rad_chestct_array import read_rad_chestct
from monai_mgca.io.volumes.volume_grid import load_nifti
from monai_mgca.utils import DataError

__all__ = ["LoadVolume", "LoadVolumeD", "LoadVolumeDict", "LoadVolumed"]

# voxels that slope and intercept are applied to at a time
PART = 2**22


class LoadVolume(Transform):
    """Read a CT as (1, X, Y, Z), float32, in Hounsfield units, with the affine to world coordinates (RAS).

    NIfTI is read by nibabel; a DICOM file of all frames, or the folder of a DICOM series, by ITK, which applies rescale
    slope and intercept of each slice. Their order and the affine follow from the positions in their headers
    (:mod:`monai_mgca.io.dicom.slice_stack`), and PixelPaddingValue becomes air (:mod:`monai_mgca.io.dicom.padding`). An
    .npz file is one of RAD-ChestCT, whose arrays all lie alike
    (:func:`monai_mgca.io.volumes.rad_chestct_array.read_rad_chestct`). Of the header the geometry alone is kept:
    nothing of the patient.

    Args:
        image_only: return the MetaTensor alone, else the MetaTensor and its meta data.

    Raises:
        DataError: when the file or folder cannot be read, holds no volume or several series, or the slices of a series
            are no box: without a place, of several orientations, with gaps, sheared by a tilted gantry; or the qform
            and sform of a NIfTI file disagree. The message names it, the reason and the mend.

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
            values, affine = _reader_of(path)(path)
            values = values.reshape(values.shape[:3] + tuple(size for size in values.shape[3:] if size > 1))
            if values.ndim != 3 or min(values.shape) < 2:
                raise DataError(
                    f"its shape is {values.shape}; a volume is (X, Y, Z), of one channel and one time.",
                    reason="wrong number of channels",
                )
            if values.dtype.kind == "f" and not all(np.isfinite(plane).all() for plane in np.moveaxis(values, -1, 0)):
                raise DataError("it holds values that are not finite.", reason="values that are not finite (NaN)")
            _check_affine(affine)
        except Exception as e:
            reason = str(e) if isinstance(e, DataError) else f"{type(e).__name__}: {e}"
            raise DataError(f"cannot read the volume {filename!s}: {reason}", reason=getattr(e, "reason", None)) from e
        meta: dict[str, Any] = {MetaKeys.AFFINE: affine, MetaKeys.SPATIAL_SHAPE: np.asarray(values.shape)}
        meta |= {MetaKeys.SPACE: SpaceKeys.RAS, ImageMetaKey.FILENAME_OR_OBJ: str(path)}
        # as it lies in memory, and what was read as floats is not copied: MONAI would make an array C-contiguous, and a
        # CT of 512 x 512 x 600 voxels has 600 MB
        tensor = torch.from_numpy(np.asarray(values[None], dtype=np.float32))
        image = MetaTensor.ensure_torch_and_prune_meta(tensor, meta)
        return image if self.image_only else (image, meta)


def _reader_of(path: Path) -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
    if path.suffix.lower() == ".npz":
        return read_rad_chestct
    return _read_nifti if kind_of_name(path.name) == "nifti" else _read_dicom


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = load_nifti(path)
    return _rescaled(image.dataobj), image.affine


def _rescaled(stored: Any) -> np.ndarray:
    """The values of a NIfTI file after slope and intercept, float32 part by part: nibabel takes two float64 a voxel."""
    values: np.ndarray = stored.get_unscaled()
    if (stored.slope, stored.inter) == (1, 0):
        return values
    flat, scaled = values.reshape(-1, order="F"), np.empty(values.size, np.float32)
    for start in range(0, values.size, PART):
        part = slice(start, start + PART)
        scaled[part] = apply_read_scaling(flat[part], stored.slope, stored.inter)
    return scaled.reshape(values.shape, order="F")


def _read_dicom(path: Path) -> tuple[np.ndarray, np.ndarray]:
    slices, affine = stack_slices(find_slices(path))
    files = list(dict.fromkeys(str(one.file) for one in slices))
    if len(files) not in (1, len(slices)):
        raise DataError("the folder holds several files of several frames; give each a folder of its own.")
    display_warnings = itk.Object.GetGlobalWarningDisplay()
    itk.Object.SetGlobalWarningDisplay(False)  # that slices are uneven, by less than stack_slices allows
    try:  # as floats: the first slice's type would cut what the slope of another one gives
        # a view: a copy would be as large again
        values = itk.array_view_from_image(itk.imread(files if len(files) > 1 else files[0], pixel_type=itk.F))
    finally:
        itk.Object.SetGlobalWarningDisplay(display_warnings)
    if len(files) == 1:
        if len(values) != len(slices):
            raise DataError(f"the file holds {len(values)} frames, and gives the places of {len(slices)}.")
        values = values[[one.frame for one in slices]]
    fill_padding(values, [one.padding for one in slices])
    return values.T, affine


def _check_affine(affine: np.ndarray) -> None:
    """A volume is a box: axes that are not perpendicular, as of a tilted gantry, or no size would be read as one."""
    axes = affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or sizes.min() <= 0:
        raise DataError(f"its header gives voxels of {' x '.join(f'{size:g}' for size in sizes)} mm.")
    cosines = np.abs(np.triu((axes / sizes).T @ (axes / sizes), 1)).max()
    if cosines > np.sin(np.radians(MAX_TILT)):
        raise DataError(
            f"its axes are sheared by {np.degrees(np.arcsin(min(1.0, cosines))):.1f} degrees, as of a tilted gantry: "
            "straighten it first; dcm2niix writes such a file beside the sheared one."
        )


class LoadVolumed(MapTransform):
    """Dictionary-based version of :class:`LoadVolume`: the MetaTensor replaces the path under each key.

    Where an entry says what its files lack, as those of CT-RATE's first version, that is applied: "rescale", the slope
    and the intercept that make Hounsfield units of their values, and "spacing", the millimeters of a voxel along each
    axis as it is stored.

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
            d[key] = _completed(self.load(d[key]), d.get("rescale"), d.get("spacing"))
        return d


def _completed(image: MetaTensor, rescale: Sequence[float] | None, spacing: Sequence[float] | None) -> MetaTensor:
    if rescale is not None:
        slope, intercept = rescale
        image = cast(MetaTensor, image.mul_(slope).add_(intercept))
    if spacing is not None:
        sizes = image.affine[:3, :3].norm(dim=0)
        image.affine[:3, :3] *= image.affine.new_tensor(spacing) / sizes
    return image


LoadVolumeD = LoadVolumeDict = LoadVolumed
