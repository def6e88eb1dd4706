# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes predicted boxes as JSON, also in the format of COCO."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.utils import CommonKeys, ImageMetaKey

from monai_mgca.utils.files import replacing

__all__ = ["DetectionSaver", "as_coco"]


class DetectionSaver:
    """Writes all that a detector found to one JSON file in the style of COCO's results.

    Attach it to an evaluator whose output is a list of dictionaries with "image", whose meta data name the file, and
    "boxes", "labels", "labels_scores" in pixels of the stored image, of a volume in millimeters of the world, RAS+: see
    :class:`monai_mgca.engines.PerImage` and :class:`monai_mgca.transforms.RestoreBoxesd`. The file appears at the end
    of the run, whole or not at all.

    Args:
        path: the JSON file.
        classes: names of the classes; labels are indices into them.
        data_dir: folder that file names are relative to.

    Example::

        DetectionSaver("detections.json", ["lung", "heart"], "radiographs").attach(evaluator)
    """

    def __init__(self, path: str | os.PathLike, classes: Sequence[str], data_dir: str | os.PathLike) -> None:
        self.path, self.classes, self.data_dir = Path(path), list(classes), data_dir
        self.results: list[dict[str, Any]] = []
        self.images = 0

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's evaluator.
        """
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self.results, self.images = [], 0

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output:
            name = os.path.relpath(item[CommonKeys.IMAGE].meta[ImageMetaKey.FILENAME_OR_OBJ], self.data_dir)
            self.results += as_coco(item, self.classes, Path(name).as_posix(), self.images)
            self.images += 1

    def _write(self, engine: Engine) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")


def as_coco(found: Mapping[str, Any], classes: Sequence[str], file_name: str, image_id: int) -> list[dict[str, Any]]:
    """What was found in an image as entries of COCO's results, of the highest score first.

    Args:
        found: "boxes" (N, 4) [x0, y0, x1, y1] in pixels, of volumes (N, 6) [x0, y0, z0, x1, y1, z1] in millimeters,
            "labels" (N,) and "labels_scores" (N,).
        classes: names of the classes.
        file_name: of the image.
        image_id: of the image.

    Returns:
        "file_name", "image_id", "category_id" (index into ``classes``), "category_name", "bbox" ([x, y, width, height]
        in pixels, of volumes [x, y, z] and the three sizes in millimeters, to a hundredth) and "score" for each box.

    Example::

        found = {"boxes": torch.tensor([[1.0, 2, 11, 22]]), "labels": torch.tensor([0]), "labels_scores": torch.ones(1)}
        print(as_coco(found, ["nodule"], "a.png", 0)[0]["bbox"])
    """
    entries = []
    columns = (found[key].tolist() for key in ("boxes", "labels", "labels_scores"))
    for box, label, score in zip(*columns, strict=True):
        lowest, highest = box[: len(box) // 2], box[len(box) // 2 :]
        sizes = [high - low for low, high in zip(lowest, highest, strict=True)]
        entries.append(
            {
                "file_name": file_name,
                "image_id": image_id,
                "category_id": label,
                "category_name": classes[label],
                "bbox": [round(value, 2) for value in (*lowest, *sizes)],
                "score": round(score, 6),
            }
        )
    return sorted(entries, key=lambda entry: -entry["score"])
