# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Loads a radiograph as displayed: DICOM, NIfTI or a picture, as gray values 0 to 255."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader, MetaTensor, PILReader
from monai.transforms import MapTransform, Transform
from monai.utils import ImageMetaKey, MetaKeys, TransformBackends

from monai_mgca.io import kind_of
from monai_mgca.io.dicom_reader import RadiographDicomReader
from monai_mgca.io.limits import refuse_not_finite
from monai_mgca.io.nifti_reader import RadiographNiftiReader
from monai_mgca.io.pictures import to_gray
from monai_mgca.utils import DataError

__all__ = ["LoadRadiograph", "LoadRadiographD", "LoadRadiographDict", "LoadRadiographd"]


class LoadRadiograph(Transform):
    """Read a radiograph of any usual format as (1, H, W), float32, 0..255, rows from top to bottom as displayed.

    DICOM is detected by its content or name and shown as its own tags want it (:class:`RadiographDicomReader`), NIfTI
    by its name (:class:`RadiographNiftiReader`); everything else is left to Pillow (PNG, JPEG, TIFF, ...): color
    becomes luminance, 16-bit images are scaled from their minimum and maximum. The meta data hold ``filename_or_obj``,
    ``spatial_shape`` (H, W) and ``affine`` (row, column) -> world.

    Args:
        image_only: return the MetaTensor alone, else the MetaTensor and its meta data.

    Raises:
        DataError: when the file cannot be read, holds several frames, or declares more than ``MAX_PIXELS`` of
            :mod:`monai_mgca.io.limits`; the message names the file and the reason.

    Example::

        import numpy as np
        from PIL import Image
        from monai_mgca.transforms import LoadRadiograph

        Image.fromarray(np.zeros((40, 30), dtype=np.uint8)).save("radiograph.png")
        print(LoadRadiograph()("radiograph.png").shape)  # (1, 40, 30)
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(self, image_only: bool = True) -> None:
        self.image_only = image_only

    def __call__(self, filename: PathLike) -> Any:
        """
        Args:
            filename: the file to read.
        """
        try:
            path = Path(os.path.expanduser(os.fspath(filename)))
            reader = _reader_of(path)
            values, meta = reader.get_data(reader.read(path))
            if not values.size:
                raise DataError(f"its shape is {values.shape}: it holds no pixels.")
            if not isinstance(reader, RadiographDicomReader):  # which looks at its levels, not at each pixel
                refuse_not_finite(values)
        except Exception as e:
            reason = str(e) if isinstance(e, DataError) else f"{type(e).__name__}: {e}"
            message = f"cannot read the radiograph {filename!s}: {reason}"
            raise DataError(message, reason=getattr(e, "reason", None)) from e
        meta[MetaKeys.SPATIAL_SHAPE] = np.asarray(values.shape)  # Pillow's is (W, H)
        meta[ImageMetaKey.FILENAME_OR_OBJ] = str(path)
        image = MetaTensor.ensure_torch_and_prune_meta(np.require(values[None], np.float32, ["C", "W"]), meta)
        return image if self.image_only else (image, meta)


def _reader_of(path: Path) -> ImageReader:
    """Choose the reader by the file's first bytes and name. A reader keeps a state: a new one for every file."""
    if not path.is_file():
        raise DataError("it is a folder." if path.is_dir() else "there is no such file.")
    if path.stat().st_size == 0:
        raise DataError("the file is empty.")
    kind = kind_of(path)
    if kind == "nifti":
        return RadiographNiftiReader()
    if kind == "dicom":
        return RadiographDicomReader()
    return PILReader(converter=to_gray, reverse_indexing=False)


class LoadRadiographd(MapTransform):
    """Dictionary-based version of :class:`LoadRadiograph`: the MetaTensor replaces the path under each key.

    Args:
        keys: keys of the paths.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = LoadRadiograph.backend

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadRadiograph()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.load(d[key])
        return d


LoadRadiographD = LoadRadiographDict = LoadRadiographd
