# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The built-in sample of volumes: procedural chest CTs with reports and labels, made on first use."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel
import numpy as np

from monai_mgca.data.entry import Entry
from monai_mgca.utils.files import replacing

from .case import CLASSES, draw_anatomy, draw_findings
from .chest_volume import draw_volume
from .sample_folder import SampleKind, fill_folder
from .volume_canvas import FIELD
from .wording import write_report

__all__ = ["VOLUME_CLASSES", "make_volume_sample"]

VOLUME_CLASSES = tuple(name for name in CLASSES if name != "device")

_KIND = SampleKind(
    source="volume_sample",
    version=1,
    least=24,
    files={"image": "volumes"},
    pattern="volume_*.nii.gz",
    classes={"classes": VOLUME_CLASSES},
    units=("volumes", "{0} x {0} x {0}"),
)
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
    ``report_encoder/`` and, last, ``datalist.json``, as by :func:`make_sample`; so are patients, findings and wording,
    without devices. The same arguments give the same files, whatever the number of workers. The drawings are a toy to
    learn and test with, without clinical meaning.

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
    """Draw one study, write its volume, and give its entry of the datalist."""
    rng = np.random.default_rng([seed, index])
    anatomy = draw_anatomy(np.random.default_rng([seed, patient, 1]))
    findings = tuple(finding for finding in draw_findings(rng) if finding.kind != "device")
    report = write_report(anatomy, findings, prior, rng)
    for radiograph, ct in _OF_CT:
        report = report.replace(radiograph, ct)
    name = f"volumes/volume_{index:05d}.nii.gz"
    _save_volume(folder / name, draw_volume(anatomy, findings, image_size, rng))
    kinds = {finding.kind for finding in findings}
    return {
        "id": f"volume_{index:05d}",
        "report": report,
        "patient": f"patient_{patient:05d}",
        "image": name,
        "labels": [int(kind in kinds) for kind in VOLUME_CLASSES],
    }


def _save_volume(path: Path, values: np.ndarray) -> None:
    """Write (left, front, head) as a scanner stores it: (left, back, head)."""
    spacing = FIELD / len(values)
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    affine[:3, 3] = np.array([1.0, 1.0, -1.0]) * (FIELD - spacing) / 2
    image = nibabel.Nifti1Image(np.ascontiguousarray(values[:, ::-1]), affine)
    image.header.set_xyzt_units("mm")
    with replacing(path) as temporary:  # without the time, so that the same study is the same file
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
