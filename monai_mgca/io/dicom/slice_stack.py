# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""How the slices of a DICOM series make a volume; where they make none, ITK would guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from monai_mgca.io.dicom.dicom_series import Slice
from monai_mgca.utils import DataError

__all__ = ["MAX_TILT", "stack_slices"]

# How far a slice may lie from its place in an even series: a part of the distance of two slices, or millimeters, as
# positions are written with few decimals. A missing slice is off by half of the distance or more.
UNEVEN, ROUNDED = 0.05, 0.01
# Slices are at one place when they are no farther apart, in millimeters.
SAME_PLACE = 1e-3
# Degrees by which slices may be shifted sideways, orientations differ, or axes not be perpendicular.
MAX_TILT = 0.5


def stack_slices(slices: Sequence[Slice]) -> tuple[list[Slice], np.ndarray]:
    """Put slices in the order of their places, from which the volume's place in the world follows.

    Args:
        slices: of one series, in any order.

    Returns:
        The slices along their normal, and the affine (4, 4) from their columns, rows and numbers to millimeters to the
        patient's right, front and head (RAS), as of NIfTI.

    Raises:
        DataError: when they are no volume: of several sizes or orientations, without a place, at one place, with gaps,
            or shifted sideways; it names a file and the mend.
    """
    for what, mend in (
        ("position", "the order and distance of the slices are not known: export it with ImagePositionPatient"),
        ("orientation", "its place is not known: export it with ImageOrientationPatient"),
        ("spacing", "its size is not known: export it with PixelSpacing"),
    ):
        without = [one for one in slices if getattr(one, what) is None]
        if without:
            raise DataError(f"{len(without)} of {len(slices)} slices give no {what} ({_names(without)}); {mend}.")
    if len(slices) < 2:
        raise DataError("it is one slice; a volume is the folder of all slices of a series, or a file of all frames.")
    if len({one.rescale for one in slices}) > 1:
        raise DataError("its frames differ in rescale slope or intercept; convert the file to NIfTI, as dcm2niix does.")
    _refuse_other_sizes(slices)
    row, column = _common_orientation(slices)
    normal = np.cross(row, column)
    places = np.array([one.position for one in slices])
    order = np.argsort(places @ normal, kind="stable")
    ordered, places = [slices[i] for i in order], places[order]
    along = places @ normal
    _refuse_uneven(ordered, along)
    step = (along[-1] - along[0]) / (len(along) - 1)
    _refuse_shifted(ordered, places - places[0] - np.outer(along - along[0], normal), float(along[-1] - along[0]))
    rows, columns = ordered[0].spacing or (0, 0)
    affine = np.eye(4)
    affine[:3] = np.stack([row * columns, column * rows, normal * step, places[0]], axis=1)
    return ordered, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # DICOM's axes point to the left and back


def _names(slices: Sequence[Slice], most: int = 3) -> str:
    names = list(dict.fromkeys(one.file.name for one in slices))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _refuse_other_sizes(slices: Sequence[Slice]) -> None:
    sizes = Counter(one.size for one in slices)
    if len(sizes) > 1:
        counts = ", ".join(f"{count} of {size[0]} x {size[1]}" for size, count in sizes.most_common())
        odd = [one for one in slices if one.size != sizes.most_common(1)[0][0]]
        raise DataError(
            f"its slices differ in size: {counts} pixels ({_names(odd)}); take out of the folder what is no slice."
        )
    spacings = np.array([one.spacing for one in slices])
    if spacings.min() <= 0:
        raise DataError("PixelSpacing is not above 0.")
    middle = np.median(spacings, axis=0)
    odd = [one for one, far in zip(slices, np.abs(spacings / middle - 1).max(1) > 1e-3, strict=True) if far]
    if odd:
        raise DataError(f"its slices differ in PixelSpacing ({_names(odd)}); resample them, or take them out.")


def _common_orientation(slices: Sequence[Slice]) -> tuple[np.ndarray, np.ndarray]:
    """The unit vectors along a row and a column, which all slices share."""
    every = np.array([one.orientation for one in slices])
    common = np.median(every, axis=0)  # of the most
    far = np.abs(every - common).max(1) > np.sin(np.radians(MAX_TILT))
    if far.any():
        odd = [one for one, is_far in zip(slices, far, strict=True) if is_far]
        raise DataError(
            f"{len(odd)} of {len(slices)} slices have another orientation than the rest ({_names(odd)}): localizers? "
            "Take them out of the folder."
        )
    row, column = common[:3], common[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose(lengths, 1, atol=1e-2) or abs(row @ column) > np.sin(np.radians(MAX_TILT)):
        raise DataError("ImageOrientationPatient is no pair of perpendicular directions.")
    row = row / lengths[0]
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def _refuse_uneven(ordered: Sequence[Slice], along: np.ndarray) -> None:
    gaps = np.diff(along)
    if along[-1] - along[0] < SAME_PLACE:
        raise DataError(f"all {len(along)} slices are at one place ({along[0]:g} mm): they are no volume.")
    double = np.flatnonzero(gaps < SAME_PLACE)
    if len(double):
        raise DataError(
            f"{len(double)} slices are where another one is, such as {_between(ordered, along, double[0])}: copies, or "
            "several times or reconstructions; give each a folder of its own."
        )
    step = (along[-1] - along[0]) / len(gaps)
    off = np.abs(along - along[0] - step * np.arange(len(along))).max()
    if off <= max(UNEVEN * step, ROUNDED):
        return
    steps = gaps / np.percentile(gaps, 50, method="lower")  # the usual one, also of two
    missing = np.rint(steps) - 1
    if np.abs(steps - np.rint(steps)).max() < 2 * UNEVEN and missing.max() > 0:
        raise DataError(
            f"slices are missing: {missing.sum():g} of them, {missing.max():g} between "
            f"{_between(ordered, along, missing.argmax())}; export the whole series again, or leave it out."
        )
    raise DataError(
        f"its slices are not evenly spaced: {gaps.min():.6g} to {gaps.max():.6g} mm apart, the last between "
        f"{_between(ordered, along, gaps.argmax())}; resample them to one distance, or leave the series out."
    )


def _between(ordered: Sequence[Slice], along: np.ndarray, gap: Any) -> str:
    ends = ordered[gap : gap + 2], along[gap : gap + 2]
    return " and ".join(f"{one.file.name} (at {place:.6g} mm)" for one, place in zip(*ends, strict=True))


def _refuse_shifted(ordered: Sequence[Slice], sideways: np.ndarray, extent: float) -> None:
    """Slices behind each other are a box, those shifted sideways a parallelepiped, such as of a tilted gantry."""
    far = np.linalg.norm(sideways, axis=1)
    if far.max() <= extent * np.tan(np.radians(MAX_TILT)) + ROUNDED:
        return
    tilt = np.degrees(np.arctan2(far[-1], extent))
    if tilt > MAX_TILT and np.abs(sideways - np.linspace(0, 1, len(far))[:, None] * sideways[-1]).max() < 0.1 * far[-1]:
        raise DataError(
            f"its slices are shifted sideways, as by a gantry tilted by {tilt:.1f} degrees: read as a box it would be "
            "sheared. Straighten it first: dcm2niix writes such a file beside the sheared one."
        )
    raise DataError(
        f"a slice is shifted sideways by {far.max():.6g} mm ({ordered[far.argmax()].file.name}); the series is no box."
    )
