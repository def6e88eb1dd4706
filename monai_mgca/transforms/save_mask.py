# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Saves predicted masks in the geometry of the file of the image or volume."""

from __future__ import annotations

import gzip
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey
from PIL import Image

from monai_mgca.io import stem_of
from monai_mgca.io.orientation import turn_of_nifti
from monai_mgca.io.volumes.nifti_affine import take_geometry
from monai_mgca.utils.files import replacing

__all__ = ["SaveMaskD", "SaveMaskDict", "SaveMaskd"]


class SaveMaskd(MapTransform):
    """Write the masks of a radiograph or a volume in the size and geometry of its file.

    A NIfTI image gets a NIfTI mask of its own shape, axes and header geometry, any other radiograph a PNG, and a DICOM
    series NIfTI too, at the place of its slices. One class is written as 0 and 255 in a PNG and as 0 and 1 in NIfTI;
    each of several, which may overlap, gets a file of its own. Files take the image's path below ``data_dir``, with
    "_mask" or the class behind its name.

    Args:
        keys: keys of masks, (C, H, W) or (C, X, Y, Z) of 0 and 1 at the image's own size, as
            :class:`InvertProbabilitiesd` and a threshold give them; their meta data name the image.
        output_dir: folder of the masks.
        data_dir: folder of the images.
        classes: names of the C classes.
        allow_missing_keys: do not raise where a key is missing.

    Raises:
        ValueError: when a mask holds other values than 0 and 1.

    Example::

        from monai.transforms import AsDiscreted
        from monai_mgca.transforms import LoadRadiographd, SaveMaskd
        from PIL import Image

        Image.new("L", (30, 40), 255).save("radiograph.png")
        item = AsDiscreted("pred", threshold=9)(LoadRadiographd("pred")({"pred": "radiograph.png"}))
        SaveMaskd("pred", output_dir="masks", data_dir=".", classes=["lung"])(item)  # masks/radiograph_mask.png
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike,
        data_dir: str | os.PathLike,
        classes: Sequence[str],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_dir, self.data_dir = Path(output_dir), Path(data_dir)
        self.postfixes = ["mask"] if len(classes) == 1 else [name.replace(" ", "_") for name in classes]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            image = Path(d[key].meta[ImageMetaKey.FILENAME_OR_OBJ])
            place = self.output_dir / Path(os.path.relpath(image, self.data_dir)).parent
            place.mkdir(parents=True, exist_ok=True)
            suffix = next((s for s in (".nii.gz", ".nii") if image.name.lower().endswith(s)), None)
            of_volume = d[key].ndim == 4
            # a folder may have points in its name, as a DICOM UID has, and no ending
            stem = image.name if image.is_dir() else stem_of(image.name)
            ending = suffix or (".nii.gz" if of_volume else ".png")
            for plane, postfix in zip(d[key], self.postfixes, strict=True):
                values = torch.as_tensor(plane).cpu().numpy()
                if not ((values == 0) | (values == 1)).all():
                    raise ValueError(f"the mask of {image} holds more than 0 and 1: put a threshold before SaveMaskd.")
                values = values.astype(np.uint8)
                with replacing(place / f"{stem}_{postfix}{ending}") as temporary:
                    if ending == ".png":
                        Image.fromarray(values * 255).save(temporary, format="PNG")
                    elif suffix is None:
                        _write(nib.Nifti1Image(values, d[key].affine.cpu().numpy()), temporary, ending)
                    else:
                        original: Any = nib.load(image)
                        stored = values if of_volume else turn_of_nifti(original).undo(values).T
                        _write(_like(original, stored.reshape(original.shape)), temporary, suffix)
        return d


def _like(original: Any, values: np.ndarray) -> nib.Nifti1Image:
    """Values as the image is stored, (W, H), (W, H, 1) or (X, Y, Z), with its geometry, of whatever space it says."""
    mask = nib.Nifti1Image(values, None)
    take_geometry(mask.header, original.header)
    return mask


def _write(mask: nib.Nifti1Image, path: Path, suffix: str) -> None:
    # nibabel compresses by the name, and the temporary one ends otherwise
    content = mask.to_bytes()
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)


SaveMaskD = SaveMaskDict = SaveMaskd
