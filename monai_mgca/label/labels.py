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
from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from PIL import Image

from monai_mgca.data.annotations import image_size
from monai_mgca.data.datalist import list_problems, write_datalist
from monai_mgca.label.geometry import read_geometry, read_label_map
from monai_mgca.label.markups import markups_to_boxes
from monai_mgca.utils import DataError
from monai_mgca.utils.files import replacing

__all__ = ["labels_to_datalist"]

logger = logging.getLogger(__name__)

BOXES = ".json"


def labels_to_datalist(
    datastore: Datastore, task: str, classes: Sequence[str] | None = None, val_split: float = 0.2
) -> Path:
    """Write the datalist of the labels that annotators saved, as the bundle's ``train_<task>.json`` takes it.

    Only labels of the tag "final" count: label maps for segmentation, Slicer's markups for detection. Which images
    validate is told by their ids alone, so that an image stays where it is when others are added, mostly.

    Args:
        datastore: with a ``work_dir`` in its folder; masks and datalist are written there.
        task: "segmentation" or "detection".
        classes: names of the classes. By default those of the boxes, and of masks "class 1" and so on.
        val_split: the part of the images to validate with; at least one image validates and one trains.

    Returns:
        Path of the datalist; its paths are relative to the datastore's folder.

    Raises:
        DataError: naming all images whose label cannot be used; when fewer than two images have a label.

    Example::

        # datalist = labels_to_datalist(RadiographDatastore("/data/cxr"), "segmentation", ["lung"])
    """
    base, folder = Path(os.path.realpath(datastore.work_dir)).parent, datastore.work_dir / task
    wanted, others = _labels_of(datastore, task)
    if others:
        logger.info(f"{task}: {others} labels of another kind are left out.")
    if len(wanted) < 2:
        kind = "boxes (Slicer markups)" if task == "detection" else "masks"
        raise DataError(f"{task} has {len(wanted)} images with saved {kind}: save labels of two or more as final.")
    read = _read_boxes if task == "detection" else _read_mask
    found: dict[str, Any] = {}
    problems = []
    for name, image, label in wanted:
        try:
            found[name] = read(image, label)
        except DataError as error:
            problems.append((name, str(error)))
    names = list(classes or _names_of(found.values()))
    problems += [(name, problem) for name, item in found.items() if (problem := _problem(item, names))]
    if problems:
        title = f"{len(problems)} of {len(wanted)} saved labels cannot be used for {task}"
        raise DataError(list_problems(title, problems, "Save these labels again, or delete them."))
    entries = {
        name: {
            "id": name,
            "image": os.path.relpath(os.path.realpath(image), base),
            "patient": name,
            **_entry(found[name], names, folder / "masks" / f"{name}.png", base),
        }
        for name, image, _ in wanted
    }
    key = "box_classes" if task == "detection" else "mask_classes"
    sections = {part: [entries[name] for name in some] for part, some in _split(list(entries), val_split).items()}
    write_datalist(folder / "datalist.json", sections, task, "labels of MONAI Label", {}, **{key: names})
    return folder / "datalist.json"


def _labels_of(datastore: Datastore, task: str) -> tuple[list[tuple[str, str, str]], int]:
    """Id, image and label of every image with a label of the task's kind, and how many have another kind."""
    pairs = [(datastore._to_id(os.path.basename(d["image"]))[0], d["image"], d["label"]) for d in datastore.datalist()]
    wanted = [pair for pair in sorted(pairs) if (Path(pair[2]).suffix.lower() == BOXES) == (task == "detection")]
    return wanted, len(pairs) - len(wanted)


def _read_mask(image: str, label: str) -> np.ndarray:
    mask, size = read_label_map(label), image_size(image)
    if mask.shape != size:
        raise DataError(f"its mask is {mask.shape[1]} x {mask.shape[0]}, the image {size[1]} x {size[0]} pixels")
    return mask


def _read_boxes(image: str, label: str) -> tuple[np.ndarray, list[str]]:
    try:
        content = json.loads(Path(label).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"its label is no JSON ({type(error).__name__})") from None
    geometry = read_geometry(image)
    boxes, names = markups_to_boxes(content, geometry)
    clipped = boxes.clip(0, [*geometry.size, *geometry.size])
    if (clipped[:, 2:] - clipped[:, :2] < 1).any():
        raise DataError("a box is outside the image, or smaller than a pixel")
    return clipped.round(2), names


def _names_of(items: Any) -> list[str]:
    items = list(items)
    if items and isinstance(items[0], tuple):
        return sorted({name for _, names in items for name in names})
    highest = max((int(mask.max(initial=0)) for mask in items), default=0)
    return [f"class {value}" for value in range(1, highest + 1)]


def _problem(item: Any, classes: Sequence[str]) -> str:
    if isinstance(item, tuple):
        unknown = sorted(set(item[1]) - set(classes))
        return f"has boxes of {', '.join(unknown)}; the classes are {', '.join(classes)}" if unknown else ""
    low, high = int(item.min(initial=0)), int(item.max(initial=0))
    return f"has the values {low} to {high}; there are {len(classes)} classes" if low < 0 or high > len(classes) else ""


def _entry(item: Any, classes: Sequence[str], path: Path, base: Path) -> dict[str, Any]:
    if isinstance(item, tuple):
        return {"boxes": item[0].tolist(), "box_labels": [list(classes).index(name) for name in item[1]]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        Image.fromarray(item.astype(np.uint8)).save(temporary, format="PNG")
    return {"mask": os.path.relpath(os.path.realpath(path), base)}


def _split(names: Sequence[str], val_split: float) -> dict[str, list[str]]:
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    count = min(max(1, round(val_split * len(order))), len(order) - 1)
    return {"training": order[count:], "validation": order[:count]}
