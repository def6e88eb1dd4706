# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""DICOM Segmentation objects of volumes from label maps and back: a binary frame a segment and slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from fastapi import HTTPException

from monai_mgca.io.limits import MAX_VOXELS, refuse_bomb
from monai_mgca.io.volumes.volume_geometry import VolumeGeometry
from monai_mgca.io.volumes.volume_labels import present_labels, read_volume_labels
from monai_mgca.label.store.dicom_seg import (
    as_decimal,
    make_item,
    make_segment,
    nameless,
    new_segmentation,
    number_of_frame,
)
from monai_mgca.utils import DataError, read_settings, write_settings

if TYPE_CHECKING:
    from pydicom import Dataset


__all__ = [
    "PLACE",
    "read_place",
    "read_volume_segmentation",
    "segmentation_of_volume",
    "write_place",
    "write_volume_segmentation",
]

# in the folder of a series: where it lies; the headers of its instances are NUMBER.dcm, in the order of the slices
PLACE = "place.json"
# Parts of a voxel by which a frame may lie beside its slice, and of the cosine between directions
APART, ALIGNED = 0.2, 1e-3


def write_place(folder: Path, geometry: VolumeGeometry) -> None:
    """Keep where a series lies, exactly, beside the headers of its instances.

    Args:
        folder: of the series.
        geometry: of its volume.
    """
    write_settings(folder / PLACE, {"size": list(geometry.size), "ras": geometry.ras.tolist()})


def read_place(folder: Path) -> VolumeGeometry:
    """Read what :func:`write_place` kept.

    Args:
        folder: of the series.
    """
    kept = read_settings(folder / PLACE, required=True)
    ras = np.array(kept["ras"], dtype=float)
    x, y, z = map(int, kept["size"])
    return VolumeGeometry((x, y, z), np.diag([-1.0, -1.0, 1.0, 1.0]) @ ras, ras)


def segmentation_of_volume(folder: Path, label: str, names: Sequence[str], automatic: bool) -> Dataset:
    """The DICOM SEG of a label of the volume in a series' folder.

    Args:
        folder: of the series.
        label: path of the label map; ``.bin`` holds bytes alone, as OHIF sends them.
        names: of the segments from 1 on.
        automatic: a network alone made it.

    Raises:
        HTTPException: 400, when the label cannot be read or does not fit.
    """
    geometry = read_place(folder)
    sources = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.glob("*.dcm"))]
    try:
        if label.endswith(".bin"):
            labels = np.fromfile(label, np.uint8).reshape(geometry.size[::-1]).T
        else:
            labels = read_volume_labels(label, geometry)
        return write_volume_segmentation(labels, sources, geometry, names, automatic)
    except (DataError, ValueError) as error:
        raise HTTPException(400, f"The label cannot be saved: {error}") from None


def write_volume_segmentation(
    labels: np.ndarray,
    sources: Sequence[Dataset],
    geometry: VolumeGeometry,
    names: Sequence[str] = (),
    automatic: bool = False,
) -> Dataset:
    """Make a DICOM SEG of a volume's label map: a binary frame for every segment and slice that it is in.

    A segment that is nowhere has none; where all are, the first has an empty frame, for a label may be empty.

    Args:
        labels: (X, Y, Z) uint8: 0, and the number of the segment.
        sources: the instances of the series in the order of the slices, or the one of all frames; patient and study are
            taken over from the first.
        geometry: of the volume.
        names: of the segments from 1 on; those without one are called "segment 3".
        automatic: a network alone made it, no one has looked at it.

    Returns:
        The instance, of a new series in the study, to be stored.
    """
    columns, rows, _ = geometry.size
    result = new_segmentation(rows, columns, sources[0], "Segmentation of a volume")
    present = present_labels(labels)
    count = max([*present, len(names), 1])
    titles = [*names, *(nameless(number) for number in range(len(names) + 1, count + 1))]
    result.SegmentSequence = [make_segment(number, title, automatic) for number, title in enumerate(titles, 1)]
    axes = geometry.affine[:3, :3] / geometry.spacing
    thick = as_decimal(geometry.spacing[2:])[0]
    measures = make_item(
        PixelSpacing=as_decimal(geometry.spacing[[1, 0]]), SliceThickness=thick, SpacingBetweenSlices=thick
    )
    orientation = make_item(ImageOrientationPatient=as_decimal(axes[:, :2].T.ravel()))
    shared = make_item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[orientation])
    result.SharedFunctionalGroupsSequence = [shared]
    frames = [
        (number, k) for number in present for k in np.flatnonzero((labels == number).any(axis=(0, 1))).tolist()
    ] or [(1, 0)]
    for number, k in frames:
        plane = np.ascontiguousarray(number == labels[..., k].T).astype(np.uint8)
        source = sources[k] if len(sources) > 1 else sources[0]
        frame = result.add_frame(plane, number, [source], update_pixel_data=False)
        frame.FrameContentSequence = [make_item(DimensionIndexValues=[number, k + 1])]
        place = geometry.affine @ [0, 0, k, 1]
        frame.PlanePositionSequence = [make_item(ImagePositionPatient=as_decimal(place[:3]))]
        for derivation in frame.DerivationImageSequence:
            for image in derivation.SourceImageSequence:
                image.SpatialLocationsPreserved = "YES"
                if len(sources) == 1:
                    image.ReferencedFrameNumber = k + 1
    result.update_pixel_data()
    result.PixelData += b"\0" * (len(result.PixelData) % 2)
    return result


def read_volume_segmentation(data: Dataset, geometry: VolumeGeometry) -> np.ndarray:
    """Read the label map of a volume's DICOM SEG, whoever made it.

    Args:
        data: the instance.
        geometry: of the volume.

    Returns:
        (X, Y, Z) uint8: 0, and the number of the segment; where segments overlap, the highest.

    Raises:
        DataError: when its frames are no slices of the volume, it holds probabilities, or cannot be read.
    """
    columns, rows, _ = geometry.size
    if (data.get("Columns"), data.get("Rows")) != (columns, rows):
        raise DataError(f"the DICOM SEG is {data.get('Columns')} x {data.get('Rows')}, its slices {columns} x {rows}.")
    kind = data.get("SegmentationType")
    if kind not in ("BINARY", "LABELMAP"):
        raise DataError(f"the DICOM SEG is {kind}; a label is BINARY or LABELMAP.")
    try:
        refuse_bomb([rows, columns, int(data.get("NumberOfFrames") or 1)], MAX_VOXELS)
        frames = data.pixel_array.reshape(-1, rows, columns)
        groups = list(data.PerFrameFunctionalGroupsSequence)
        shared = (data.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
        slices = [_slice_of(group, shared, geometry) for group in groups]
        numbers = [number_of_frame([group]) or number_of_frame([shared]) or 0 for group in groups]
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"the DICOM SEG cannot be read: {type(error).__name__}: {error}") from None
    if len(groups) != len(frames) or (kind == "BINARY" and not all(0 < number < 256 for number in numbers)):
        raise DataError("the frames of the DICOM SEG do not name their segments, numbered 1 to 255.")
    labels = np.zeros(geometry.size, np.uint8, order="F")
    for number, k, frame in sorted(zip(numbers, slices, frames, strict=True), key=lambda one: one[:2]):
        if kind == "LABELMAP":
            labels[..., k] = np.maximum(labels[..., k], frame.T)
        else:
            labels[..., k][frame.T > 0] = number
    return labels


def _slice_of(group: Any, shared: Any, geometry: VolumeGeometry) -> int:
    """The number of the slice that a frame lies on."""

    def values(macro: str, name: str) -> np.ndarray:
        found = group.get(macro) or shared.get(macro)
        return np.array(found[0].get(name), dtype=float)

    axes = geometry.affine[:3, :3] / geometry.spacing
    if np.abs(values("PlaneOrientationSequence", "ImageOrientationPatient") - axes[:, :2].T.ravel()).max() > ALIGNED:
        raise DataError("the frames of the DICOM SEG have another orientation than the volume's slices.")
    place = np.linalg.inv(geometry.affine) @ [*values("PlanePositionSequence", "ImagePositionPatient"), 1]
    k = int(np.rint(place[2]))
    if not np.abs(place[:3] - [0, 0, k]).max() < APART or not 0 <= k < geometry.size[2]:
        raise DataError("the frames of the DICOM SEG do not lie on the volume's slices.")
    return k
