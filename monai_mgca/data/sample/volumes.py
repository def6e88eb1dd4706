# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The built-in sample of volumes: procedural chest CTs with reports, masks, boxes and labels, made on first use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from monai_mgca.data.entry import Entry, as_entry

from .case import CLASSES, draw_anatomy, draw_findings
from .chest_volume import draw_volume
from .sample_folder import SampleKind, fill_folder
from .volume_files import box_around, save_nifti, save_series
from .wording import write_phrase, write_report

__all__ = ["VOLUME_CLASSES", "make_volume_sample"]

VOLUME_CLASSES = tuple(name for name in CLASSES if name != "device")

_FILES = {"image": "volumes", "lung_mask": "lung_masks", "finding_mask": "finding_masks"}
_KIND = SampleKind(
    source="volume_sample",
    version=2,
    least=24,
    files=_FILES,
    pattern="volume_*.nii.gz",
    classes={"classes": VOLUME_CLASSES, "box_classes": VOLUME_CLASSES},
    units=("volumes", "{0} x {0} x {0}"),
    some=("series",),
)
_NUM_SERIES = 3  # so many studies are written as DICOM series, too
# what the reports of radiographs say that is not true of a CT
_OF_CT = (
    ("Frontal view of the chest was obtained", "CT of the chest was obtained"),
    ("Single frontal radiograph", "CT without contrast medium"),
    ("Portable view of the chest", "Low dose CT of the chest"),
    ("Normal chest radiograph", "Normal chest CT"),
    ("The previous radiograph", "The previous CT"),
    ("projects over", "is seen in"),
    ("Breast shadows overlie the lower lungs", "The breasts are unremarkable"),
    ("Overlying breast tissue is noted", "Breast tissue is noted"),
)


def make_volume_sample(
    output_dir: str | os.PathLike,
    size: int = 320,
    image_size: int = 55,
    seed: int = 0,
    num_workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Make the built-in sample of chest CTs in a folder, or find it there complete and with the same settings.

    Written are ``volumes/`` (NIfTI of 16 bits in Hounsfield units, axes to the patient's left, back and head),
    ``lung_masks/`` and ``finding_masks/`` (NIfTI of 8 bits, 0 or 1, which lie alike), ``series/`` (the first studies
    once more, each the folder of a DICOM series), ``report_encoder/`` and, last, ``datalist.json``, as by
    :func:`make_sample`; so are patients, findings and wording, without devices. Boxes are [x0, y0, z0, x1, y1, z1] in
    millimeters to the patient's right, front and head. A finding that is hidden, as a nodule under the diaphragm, has
    its label but no box. The same arguments give the same files, whatever the number of
    workers. The drawings are a toy to learn and test with, without clinical meaning.

    Args:
        output_dir: folder to write to; made if need be.
        size: number of studies, at least 8.
        image_size: voxels of an edge, which is 440 mm long; at least 24.
        seed: another seed gives other patients; 0 or more.
        num_workers: threads that draw. Defaults to the number of processors.
        progress: whether to show a progress bar.

    Returns:
        The path of ``datalist.json``.

    Raises:
        DataError: when an argument is out of its range, or the folder holds a datalist of something else.

    Example::

        datalist = make_volume_sample("volume_sample", size=16, image_size=32)
        training = load_datalist(datalist, "training")
    """
    return fill_folder(_KIND, _make_study, output_dir, size, image_size, seed, num_workers, progress)


def _make_study(folder: Path, image_size: int, seed: int, index: int, patient: int, prior: bool) -> Entry:
    """Draw one study, write its volume and masks, and give its entry of the datalist."""
    rng = np.random.default_rng([seed, index])
    anatomy = draw_anatomy(np.random.default_rng([seed, patient, 1]))
    findings = tuple(finding for finding in draw_findings(rng) if finding.kind != "device")
    report = write_report(anatomy, findings, prior, rng)
    for radiograph, ct in _OF_CT:
        report = report.replace(radiograph, ct)
    values, lungs, masks = draw_volume(anatomy, findings, image_size, rng)
    finding_mask = np.any(masks, axis=0) if masks else np.zeros_like(lungs)
    name = f"volume_{index:05d}"
    entry: dict[str, Any] = {"id": name, "report": report, "patient": f"patient_{patient:05d}"}
    for (key, subfolder), voxels in zip(_FILES.items(), (values, lungs, finding_mask), strict=True):
        entry[key] = f"{subfolder}/{name}.nii.gz"
        save_nifti(folder / entry[key], voxels if key == "image" else voxels.astype(np.uint8))
    if index < _NUM_SERIES:
        entry["series"] = f"series/{name}"
        save_series(folder / entry["series"], values, entry["patient"], seed)
    kinds = {finding.kind for finding in findings}
    entry["labels"] = [int(kind in kinds) for kind in VOLUME_CLASSES]
    seen = [(finding, mask) for finding, mask in zip(findings, masks, strict=True) if mask.any()]
    entry["boxes"] = [box_around(mask) for _, mask in seen]
    entry["box_labels"] = [VOLUME_CLASSES.index(finding.kind) for finding, _ in seen]
    entry["box_phrases"] = [write_phrase(finding) for finding, _ in seen]
    return as_entry(entry)
