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

"""The built-in sample: procedural chest radiographs with reports, masks, boxes and labels, made on first use."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from monai_mgca.utils import DataError
from monai_mgca.utils.files import replacing

from .datalist import SECTIONS, file_problem, progress_bar, read_datalist, write_datalist
from .sample_case import CLASSES, draw_anatomy, draw_findings
from .sample_encoder import ENCODER_FILES, write_report_encoder
from .sample_findings import draw_study
from .sample_report import write_report
from .sample_sheet import draw_sheet
from .split import split_by_patient

__all__ = ["draw_sheet", "make_sample"]

logger = logging.getLogger(__name__)

_VERSION = 1  # of the drawing and the wording: a sample of another version is made anew
_FILES = {"image": "images", "lung_mask": "lung_masks", "finding_mask": "finding_masks"}
_FRACTIONS = (0.75, 0.125, 0.125)


def make_sample(
    output_dir: str | os.PathLike,
    size: int = 640,
    image_size: int = 128,
    seed: int = 0,
    num_workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Make the built-in sample in a folder, or find it there complete and with the same settings.

    Written are ``images/``, ``lung_masks/``, ``finding_masks/`` (8-bit gray PNG, masks 0 or 255), ``report_encoder/``
    (for ``AutoConfig`` and ``AutoTokenizer`` of transformers) and, last, ``datalist.json``. The same arguments give
    the same files, whatever the number of workers, so that several processes may call it at once. A sample of other
    settings in the folder is replaced. The drawings are a toy to learn and test with, without clinical meaning.

    Args:
        output_dir: folder to write to; made if need be.
        size: number of studies, at least 8.
        image_size: width and height of the images in pixels, at least 64.
        seed: another seed gives other patients; 0 or more.
        num_workers: threads that draw. Defaults to the number of processors.
        progress: whether to show a progress bar.

    Returns:
        The path of ``datalist.json``.

    Raises:
        DataError: when an argument is out of its range, or the folder holds a datalist of something else.

    Example::

        datalist = make_sample("sample", size=64)
        training = load_datalist(datalist, "training")
    """
    workers = os.cpu_count() or 1 if num_workers is None else num_workers
    limits = (("size", size, 8), ("image_size", image_size, 64), ("seed", seed, 0), ("num_workers", workers, 1))
    for name, value, least in limits:
        if value < least:
            raise DataError(f"{name} must be at least {least}, got {value}.")
    settings = {"version": _VERSION, "size": size, "image_size": image_size, "seed": seed}
    path = (folder := Path(output_dir)) / "datalist.json"
    if _is_complete(path, settings):
        logger.info(f"The sample of {size} studies in {folder} is complete: reused.")
        return path
    path.unlink(missing_ok=True)  # from here on incomplete
    for name in _FILES.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_report_encoder(folder / "report_encoder")

    # threads, not processes: numpy and Pillow free the interpreter, and notebooks need no main guard
    with ThreadPoolExecutor(workers) as pool:
        made = pool.map(lambda study: _make_study(folder, image_size, seed, *study), plan_studies(size, seed))
        entries = list(progress_bar(made, "drawing the sample", size) if progress else made)
    splits = split_by_patient(entries, _FRACTIONS, seed)
    extra = {"settings": settings, "classes": list(CLASSES), "box_classes": list(CLASSES)}
    document = write_datalist(path, splits, name="sample", source="sample", dropped={}, **extra)
    _remove_leftovers(folder, entries)
    counts = ", ".join(f"{count} {section}" for section, count in document["counts"].items())
    logger.info(f"Made the sample in {folder}: {counts} studies of {image_size} x {image_size} pixels; {path}.")
    return path


def _is_complete(path: Path, settings: Mapping[str, int]) -> bool:
    """Whether the datalist is there, of these settings, with all its files."""
    if not path.is_file():
        return False
    document = read_datalist(path)
    if document.get("source") != "sample":
        raise DataError(f"{path} is the datalist of another data set; give the sample a folder of its own.")
    base = os.path.realpath(path.parent)
    files = [f"report_encoder/{name}" for name in ENCODER_FILES]
    files += [entry.get(key) for section in SECTIONS for entry in document.get(section, ()) for key in _FILES]
    return document.get("settings") == settings and not any(file_problem(base, file) for file in files)


def plan_studies(size: int, seed: int) -> list[tuple[int, int, bool]]:
    """For every study its index, its patient, and whether the patient has an earlier one: a quarter have two."""
    pairs = size // 5
    studies_of = np.random.default_rng([seed]).permutation([2] * pairs + [1] * (size - 2 * pairs))
    visits = [(patient, visit > 0) for patient, count in enumerate(studies_of) for visit in range(count)]
    return [(index, patient, prior) for index, (patient, prior) in enumerate(visits)]


def _make_study(folder: Path, image_size: int, seed: int, index: int, patient: int, prior: bool) -> dict[str, Any]:
    """Draw one study, write its three images, and give its entry of the datalist."""
    rng = np.random.default_rng([seed, index])
    anatomy = draw_anatomy(np.random.default_rng([seed, patient, 1]))
    findings = draw_findings(rng)
    report = write_report(anatomy, findings, prior, rng)
    image, lungs, masks = draw_study(anatomy, findings, image_size, rng)
    finding_mask = np.any(masks, axis=0) if masks else np.zeros_like(lungs)
    name = f"sample_{index:05d}"
    entry: dict[str, Any] = {"id": name, "report": report, "patient": f"patient_{patient:05d}"}
    for (key, subfolder), pixels in zip(_FILES.items(), (image, lungs, finding_mask), strict=True):
        entry[key] = f"{subfolder}/{name}.png"
        _save_png(folder / entry[key], pixels if key == "image" else pixels.astype(np.uint8) * 255)
    kinds = [CLASSES.index(finding.kind) for finding in findings]
    entry["labels"] = [int(k in kinds) for k in range(len(CLASSES))]
    entry["boxes"] = [_box(mask) for mask in masks]
    entry["box_labels"] = kinds
    entry["box_phrases"] = [finding.phrase for finding in findings]
    return entry


def _box(mask: np.ndarray) -> list[float]:
    """The box [x0, y0, x1, y1] around a mask; x1 and y1 are the far edges of its last pixels."""
    y, x = np.nonzero(mask)
    return [float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)]


def _save_png(path: Path, pixels: np.ndarray) -> None:
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def _remove_leftovers(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Remove the images of an earlier, larger sample."""
    for key, subfolder in _FILES.items():
        named = {os.path.basename(entry[key]) for entry in entries}
        for file in (folder / subfolder).glob("sample_*.png"):
            if file.name not in named:
                file.unlink(missing_ok=True)
