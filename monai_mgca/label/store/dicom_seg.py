# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""DICOM Segmentation objects from label maps and back, by highdicom or pydicom-seg."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from fastapi import HTTPException
from pydicom_seg.dicom_utils import CodeSequence, DimensionOrganizationSequence
from pydicom_seg.segmentation_dataset import SegmentationDataset, SegmentationType

from monai_mgca import __version__
from monai_mgca.io.geometry import Geometry
from monai_mgca.utils import DataError

if TYPE_CHECKING:
    from pydicom import Dataset


__all__ = [
    "as_decimal",
    "make_item",
    "make_segment",
    "nameless",
    "names_of",
    "new_segmentation",
    "number_of_frame",
    "read_segmentation",
    "segment_names",
    "write_segmentation",
]

# what DICOM wants of every instance, empty where it is not known
REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)


def write_segmentation(
    mask: np.ndarray, source: Dataset, geometry: Geometry, names: Sequence[str] = (), automatic: bool = False
) -> Dataset:
    """Make a DICOM SEG of a radiograph's mask: a binary frame for every segment, also for those that are empty.

    A projection has no place in the patient, which readers of segmentations ask for: the frames lie where ITK and so
    3D Slicer place the radiograph's own file, in a frame of reference that all segmentations of one series share.

    Args:
        mask: (H, W), whole numbers: 0, and the number of the segment.
        source: the radiograph; its patient and study are taken over.
        geometry: of the radiograph.
        names: of the segments from 1 on; those without one are called "segment 3".
        automatic: a network alone made it, no one has looked at it.

    Returns:
        The instance, of a new series in the radiograph's study, to be stored.

    Raises:
        DataError: when the mask has another size, or values below 0 or above 255.
    """
    if mask.shape != geometry.size[::-1]:
        raise DataError(f"the mask is {mask.shape} (H, W), its radiograph {geometry.size[::-1]}.")
    if mask.min() < 0 or mask.max() > 255:
        raise DataError(f"the mask's values reach from {mask.min()} to {mask.max()}: segments are numbered 1 to 255.")
    spacing = np.linalg.norm(geometry.affine[:3, :3], axis=0)
    height, width = mask.shape
    result = new_segmentation(height, width, source, "Segmentation of a radiograph")
    count = max(int(mask.max()), len(names), 1)
    labels = [*names, *(nameless(number) for number in range(len(names) + 1, count + 1))]
    result.SegmentSequence = [make_segment(number, label, automatic) for number, label in enumerate(labels, 1)]
    thickness = as_decimal(spacing[2:])[0]
    measures = make_item(
        PixelSpacing=as_decimal(spacing[[1, 0]]), SliceThickness=thickness, SpacingBetweenSlices=thickness
    )
    orientation = make_item(ImageOrientationPatient=as_decimal((geometry.affine[:3, :2] / spacing[:2]).T.ravel()))
    shared = make_item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[orientation])
    result.SharedFunctionalGroupsSequence = [shared]
    position = make_item(ImagePositionPatient=as_decimal(geometry.affine[:3, 3]))
    for number in range(1, count + 1):
        frame = result.add_frame((mask == number).astype(np.uint8), number, [source], update_pixel_data=False)
        frame.FrameContentSequence = [make_item(DimensionIndexValues=[number, 1])]
        frame.PlanePositionSequence = [position]
        for derivation in frame.DerivationImageSequence:  # readers find the image's own pixels by it
            for image in derivation.SourceImageSequence:
                image.SpatialLocationsPreserved = "YES"
    result.update_pixel_data()
    result.PixelData += b"\0" * (len(result.PixelData) % 2)
    return result


def read_segmentation(data: Dataset, size: tuple[int, int]) -> np.ndarray:
    """Read the label map of a DICOM SEG, whoever made it.

    Args:
        data: the instance.
        size: (width, height) of its radiograph.

    Returns:
        (H, W) uint8: 0, and the number of the segment; where segments overlap, the highest.

    Raises:
        DataError: when it is of another size, holds probabilities, or cannot be read.
    """
    width, height = size
    if (data.get("Columns"), data.get("Rows")) != size:
        raise DataError(
            f"the DICOM SEG is {data.get('Columns')} x {data.get('Rows')}, its radiograph {width} x {height}."
        )
    kind = data.get("SegmentationType")
    if kind not in ("BINARY", "LABELMAP"):
        raise DataError(f"the DICOM SEG is {kind}; a label is BINARY or LABELMAP.")
    try:
        frames = data.pixel_array.reshape(-1, height, width)
        shared = number_of_frame(data.get("SharedFunctionalGroupsSequence"))
        numbers = [number_of_frame([item]) or shared or 0 for item in data.PerFrameFunctionalGroupsSequence]
    except Exception as error:
        raise DataError(f"the DICOM SEG cannot be read: {type(error).__name__}: {error}") from None
    if kind == "LABELMAP":
        return frames.max(0).astype(np.uint8)
    if len(numbers) != len(frames) or not all(0 < number < 256 for number in numbers):
        raise DataError("the frames of the DICOM SEG do not name their segments, numbered 1 to 255.")
    mask = np.zeros((height, width), np.uint8)
    for number, frame in sorted(zip(numbers, frames, strict=True), key=lambda pair: pair[0]):
        mask[frame > 0] = number
    return mask


def segment_names(label_info: Any) -> list[str]:
    """The names of the segments 1, 2, ... in a client's ``label_info``.

    Args:
        label_info: list of {"name": "lung", "idx": 1}; without "idx" they are counted. None names nothing.

    Raises:
        HTTPException: 400, when it is something else.
    """
    names: dict[int, str] = {}
    try:
        for position, entry in enumerate(label_info or [], 1):
            number = int(entry.get("idx", position))
            if not 0 < number < 256:
                raise ValueError
            names[number] = str(entry["name"])[:64]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise HTTPException(400, 'label_info is a list of {"name": "lung", "idx": 1}, idx from 1 to 255.') from None
    return [names.get(number, nameless(number)) for number in range(1, max(names, default=0) + 1)]


def names_of(data: Dataset) -> list[dict[str, Any]]:
    """The ``label_info`` of a DICOM SEG; nothing, unless someone named every segment."""
    rows: list[dict[str, Any]] = [
        {"name": str(segment.get("SegmentLabel", "")), "idx": int(segment.SegmentNumber)}
        for segment in data.get("SegmentSequence", [])
    ]
    return [] if any(row["name"] in ("", nameless(row["idx"])) for row in rows) else rows


def nameless(number: int) -> str:
    """What a segment without a name is called."""
    return f"segment {number}"


def new_segmentation(rows: int, columns: int, source: Dataset, content: str) -> SegmentationDataset:
    """A binary DICOM SEG without segments and frames, of the patient and study that an instance belongs to.

    Args:
        rows: of a frame.
        columns: of a frame.
        source: an instance that is segmented.
        content: what it is.
    """
    # of a copy: pydicom-seg takes elements over as they are, and gives their frame of reference another UID
    own = copy.deepcopy(source)
    result = SegmentationDataset(
        rows=rows, columns=columns, segmentation_type=SegmentationType.BINARY, reference_dicom=own
    )
    for keyword in REQUIRED:
        if keyword not in result:
            setattr(result, keyword, "")
    result.FrameOfReferenceUID = source.get("FrameOfReferenceUID") or pydicom.uid.generate_uid(
        entropy_srcs=[source.SeriesInstanceUID, "monai_mgca"]
    )
    result.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    if "SpecificCharacterSet" in source:  # in which the patient's name was taken over
        result.SpecificCharacterSet = source.SpecificCharacterSet
    result.Manufacturer, result.ManufacturerModelName, result.SoftwareVersions = "monai_mgca", "MGCA", __version__
    result.SeriesDescription, result.SeriesNumber = "MGCA segmentation", 300
    result.ContentDescription = content
    result.SegmentsOverlap = "NO"
    dimensions = DimensionOrganizationSequence()
    dimensions.add_dimension("ReferencedSegmentNumber", "SegmentIdentificationSequence")
    dimensions.add_dimension("ImagePositionPatient", "PlanePositionSequence")
    result.add_dimension_organization(dimensions)
    return result


def make_segment(number: int, name: str, automatic: bool) -> Dataset:
    """The description of a segment.

    Args:
        number: of the segment.
        name: of its class.
        automatic: a network alone made it.
    """
    return make_item(
        SegmentNumber=number,
        SegmentLabel=name,
        SegmentAlgorithmType="AUTOMATIC" if automatic else "SEMIAUTOMATIC",
        SegmentAlgorithmName="monai_mgca",
        SegmentedPropertyCategoryCodeSequence=CodeSequence("123037004", "SCT", "Anatomical Structure"),
        # a class has a name, and no code of a terminology
        SegmentedPropertyTypeCodeSequence=CodeSequence(f"CLASS{number}", "99MGCA", name),
    )


def number_of_frame(groups: Any) -> int | None:
    """The segment that functional groups name, or None."""
    sequence = groups[0].get("SegmentIdentificationSequence") if groups else None
    return int(sequence[0].ReferencedSegmentNumber) if sequence else None


def make_item(**values: Any) -> Dataset:
    """An item of a sequence, by keywords of DICOM."""
    item = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def as_decimal(values: np.ndarray) -> list[str]:
    """As DICOM writes numbers: 16 characters at most."""
    return [pydicom.valuerep.format_number_as_ds(float(value)) for value in values]
