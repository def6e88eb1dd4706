# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The built-in sample: procedural chest radiographs with reports, masks, boxes and labels, made on first use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from monai_mgca.data.entry import Entry, as_entry
from monai_mgca.utils import DataError
from monai_mgca.utils.files import replacing

from .case import CLASSES, draw_anatomy, draw_findings
from .contact_sheet import draw_sheet
from .findings import draw_study
from .sample_folder import SampleKind, fill_folder
from .wording import write_phrase, write_report

__all__ = ["SAMPLE_LANGUAGES", "draw_sheet", "make_sample"]

SAMPLE_LANGUAGES = ("en", "es", "en+es")

_FILES = {"image": "images", "lung_mask": "lung_masks", "finding_mask": "finding_masks"}
_KIND = SampleKind(
    source="sample",
    version=1,
    least=64,
    files=_FILES,
    pattern="sample_*.png",
    classes={"classes": CLASSES, "box_classes": CLASSES},
    units=("studies", "{0} x {0} pixels"),
)


def make_sample(
    output_dir: str | os.PathLike,
    size: int = 640,
    image_size: int = 128,
    seed: int = 0,
    num_workers: int | None = None,
    progress: bool = True,
    language: str = "en",
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
        language: of the reports: "en", "es", or "en+es" for one study in English, the next in Spanish. It changes the
            texts alone. The datalist of the latter two says ``"letters": "all"``, and their tokenizer knows the words
            of both languages.

    Returns:
        The path of ``datalist.json``.

    Raises:
        DataError: when an argument is out of its range, there is no such language, or the folder holds a datalist of
            something else.

    Example::

        datalist = make_sample("sample", size=64)
        training = load_datalist(datalist, "training")
    """
    if language not in SAMPLE_LANGUAGES:
        raise DataError(f"language must be one of {', '.join(SAMPLE_LANGUAGES)}, got {language}.")
    make_study = partial(_make_study, languages=language.split("+"))
    return fill_folder(_KIND, make_study, output_dir, size, image_size, seed, num_workers, progress, language)


def _make_study(
    folder: Path, image_size: int, seed: int, index: int, patient: int, prior: bool, languages: Sequence[str]
) -> Entry:
    """Draw one study, write its three images, and give its entry of the datalist."""
    rng = np.random.default_rng([seed, index])
    anatomy = draw_anatomy(np.random.default_rng([seed, patient, 1]))
    findings = draw_findings(rng)
    language = languages[index % len(languages)]
    report = write_report(anatomy, findings, prior, rng, language)
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
    entry["box_phrases"] = [write_phrase(finding, language) for finding in findings]
    return as_entry(entry)


def _box(mask: np.ndarray) -> list[float]:
    """The box [x0, y0, x1, y1] around a mask; x1 and y1 are the far edges of its last pixels."""
    y, x = np.nonzero(mask)
    return [float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)]


def _save_png(path: Path, pixels: np.ndarray) -> None:
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
