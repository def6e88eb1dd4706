# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What a NIfTI header says of a volume's orientation, which it may say twice, by qform and sform, or not at all."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes

from monai_mgca.utils import DataError

__all__ = ["gives_orientation", "refuse_two_orientations", "take_geometry"]

# Of a NIfTI header, without what may be of a patient.
_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y"),
    *("qoffset_z", "sform_code", "srow_x", "srow_y", "srow_z"),
)

# Cosine of the angle between an axis of qform and of sform from which on they mean the same direction of the patient;
# a registration turns a volume by less. Sizes are written with few digits, and scaled by an affine registration.
SAME_DIRECTION, SAME_SIZE = 0.7, 0.1


def gives_orientation(image: Any) -> bool:
    """Whether a header says which way the axes point; where it does not, readers guess, and not alike.

    Args:
        image: of nibabel, NIfTI.

    Example::

        print(gives_orientation(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), None)))  # False
    """
    return bool(image.header["qform_code"] > 0 or image.header["sform_code"] > 0)


def take_geometry(header: Any, original: Any) -> None:
    """Let a NIfTI header say where its values lie with the very fields of another, as every reader understands both.

    Args:
        header: that is changed.
        original: of the image that the values belong to.

    Example::

        mask = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), None)
        take_geometry(mask.header, nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.diag([3, 3, 5, 1])).header)
        print(mask.header.get_zooms())  # (3.0, 3.0, 5.0)
    """
    for field in _GEOMETRY:
        header[field] = original[field]


def refuse_two_orientations(image: Any) -> None:
    """Refuse a volume whose qform and sform place its axes otherwise; nibabel reads the sform, others the qform.

    Turned by less than 45 degrees and moved they may be: the sform may lead to a template.

    Args:
        image: of nibabel, NIfTI.

    Raises:
        DataError: when an axis points elsewhere, or has other sizes; it names both and the mend.
    """
    try:
        qform, sform = image.get_qform(coded=True)[0], image.get_sform(coded=True)[0]
    except nibabel.spatialimages.HeaderDataError:  # a qform of nonsense, beside a sform
        return
    if qform is None or sform is None or not np.isfinite(qform).all() or not np.isfinite(sform).all():
        return
    sizes = voxel_sizes(qform), voxel_sizes(sform)
    if min(map(np.min, sizes)) <= 0:
        return  # of no size, which the reader refuses
    cosines = ((qform[:3, :3] / sizes[0]) * (sform[:3, :3] / sizes[1])).sum(axis=0)
    if cosines.min() > SAME_DIRECTION and np.allclose(*sizes, rtol=SAME_SIZE):
        return
    forms = [
        f"{''.join(map(str, nibabel.aff2axcodes(form)))} with voxels of {' x '.join(f'{one:.4g}' for one in size)} mm"
        for form, size in zip((qform, sform), sizes, strict=True)
    ]
    raise DataError(
        f"its qform and sform disagree: {forms[0]} and {forms[1]}, and which is right is not known. Write the right "
        "one as both, as image.set_qform(image.get_sform()) of nibabel does, or leave the file out."
    )
