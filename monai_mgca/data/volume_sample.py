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

"""The built-in sample of volumes: procedural chest CTs with reports and labels, made on first use."""

from __future__ import annotations

import gzip
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import optional_import

from monai_mgca.utils import DataError
from monai_mgca.utils.files import replacing

from .datalist import SECTIONS, file_problem, progress_bar, read_datalist, write_datalist
from .sample import plan_studies
from .sample_case import CLASSES, draw_anatomy, draw_findings
from .sample_encoder import ENCODER_FILES, write_report_encoder
from .sample_report import write_report
from .split import split_by_patient
from .volume_canvas import FIELD
from .volume_image import draw_volume

nibabel, _ = optional_import("nibabel")

__all__ = ["VOLUME_CLASSES", "make_volume_sample"]

logger = logging.getLogger(__name__)

VOLUME_CLASSES = tuple(name for name in CLASSES if name != "device")

_VERSION = 1  # of the drawing and the wording: a sample of another version is made anew
_FRACTIONS = (0.75, 0.125, 0.125)
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
    workers = os.cpu_count() or 1 if num_workers is None else num_workers
    limits = (("size", size, 8), ("image_size", image_size, 24), ("seed", seed, 0), ("num_workers", workers, 1))
    for name, value, least in limits:
        if value < least:
            raise DataError(f"{name} must be at least {least}, got {value}.")
    settings = {"version": _VERSION, "size": size, "image_size": image_size, "seed": seed}
    path = (folder := Path(output_dir)) / "datalist.json"
    if _is_complete(path, settings):
        logger.info(f"The sample of {size} volumes in {folder} is complete: reused.")
        return path
    path.unlink(missing_ok=True)  # from here on incomplete
    (folder / "volumes").mkdir(parents=True, exist_ok=True)
    write_report_encoder(folder / "report_encoder")

    with ThreadPoolExecutor(workers) as pool:
        made = pool.map(lambda study: _make_study(folder, image_size, seed, *study), plan_studies(size, seed))
        entries = list(progress_bar(made, "drawing the sample", size) if progress else made)
    splits = split_by_patient(entries, _FRACTIONS, seed)
    extra = {"settings": settings, "classes": list(VOLUME_CLASSES)}
    document = write_datalist(path, splits, name="volume_sample", source="volume_sample", dropped={}, **extra)
    _remove_leftovers(folder, entries)
    counts = ", ".join(f"{count} {section}" for section, count in document["counts"].items())
    logger.info(f"Made the sample in {folder}: {counts} volumes of {image_size} x {image_size} x {image_size}; {path}.")
    return path


def _is_complete(path: Path, settings: dict[str, int]) -> bool:
    """Whether the datalist is there, of these settings, with all its files."""
    if not path.is_file():
        return False
    document = read_datalist(path)
    if document.get("source") != "volume_sample":
        raise DataError(f"{path} is the datalist of another data set; give the sample a folder of its own.")
    base = os.path.realpath(path.parent)
    files = [f"report_encoder/{name}" for name in ENCODER_FILES]
    files += [entry.get("image") for section in SECTIONS for entry in document.get(section, ())]
    return document.get("settings") == settings and not any(file_problem(base, file) for file in files)


def _make_study(folder: Path, image_size: int, seed: int, index: int, patient: int, prior: bool) -> dict[str, Any]:
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


def _remove_leftovers(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Remove the volumes of an earlier, larger sample."""
    named = {entry["image"] for entry in entries}
    for file in (folder / "volumes").glob("volume_*.nii.gz"):
        if f"volumes/{file.name}" not in named:
            file.unlink(missing_ok=True)


def _save_volume(path: Path, values: np.ndarray) -> None:
    """Write (left, front, head) as a scanner stores it: (left, back, head)."""
    spacing = FIELD / len(values)
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    affine[:3, 3] = np.array([1.0, 1.0, -1.0]) * (FIELD - spacing) / 2
    image = nibabel.Nifti1Image(np.ascontiguousarray(values[:, ::-1]), affine)
    image.header.set_xyzt_units("mm")
    with replacing(path) as temporary:  # without the time, so that the same study is the same file
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
