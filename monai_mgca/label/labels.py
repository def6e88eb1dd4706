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

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from PIL import Image

from monai_mgca.data.annotations import image_size
from monai_mgca.data.datalist import write_datalist
from monai_mgca.data.many import list_problems
from monai_mgca.label.geometry import read_geometry, read_label_map
from monai_mgca.label.markups import read_markups
from monai_mgca.utils import DataError
from monai_mgca.utils.files import replacing

__all__ = ["check_names", "labels_to_datalist"]

logger = logging.getLogger(__name__)

BOXES = ".json"
# a class's name goes into a configuration, which would run what begins with "$"
NAME = re.compile(r"[^\W_][\w .,()/+-]*")


def labels_to_datalist(
    datastore: Datastore, task: str, classes: Sequence[str] | None = None, val_split: float = 0.2
) -> Path:
    """Write the datalist of the labels that annotators saved, as the bundle's ``train_<task>.json`` takes it.

    Only labels of the tag "final" count: label maps for segmentation, Slicer's markups for detection. What a value of
    a label map is tells the ``label_info`` that Slicer saves with it, else the order of the classes. Which images
    validate is told by their ids alone: an image stays where it is when labels are added, unless there would be none
    to train or to validate with.

    Args:
        datastore: with a ``work_dir`` in its folder; masks and datalist are written there.
        task: "segmentation" or "detection".
        classes: names of the classes. By default those that the labels name, sorted, and "class 1" and so on where
            label maps come without names.
        val_split: the part of the images to validate with, from 0 to 1; at least one image validates and one trains.

    Returns:
        Path of the datalist; its paths are relative to the datastore's folder.

    Raises:
        DataError: naming all images whose label cannot be used; when fewer than two images have a label, or a class has
            none to train with.

    Example::

        # datalist = labels_to_datalist(RadiographDatastore("/data/cxr"), "segmentation", ["lung"])
    """
    wanted = _labels_of(datastore, task)
    found, problems = _read_all(datastore, task, wanted)
    names = list(classes or _names_of(found.values()))
    check_names(names)
    planes = {name: _by_class(item, names) for name, item in found.items()}
    problems += [(name, reason) for name, reason in planes.items() if isinstance(reason, str)]
    if problems:
        title = f"{len(problems)} of {len(wanted)} saved labels cannot be used for {task}"
        raise DataError(list_problems(title, problems, "Save these labels again, or delete them."))
    parts = split_ids(list(planes), val_split)
    _check_positives({name: _positives(planes[name]) for name in parts["training"]}, names, len(parts["validation"]))
    base, folder = Path(os.path.realpath(datastore.work_dir)).parent, datastore.work_dir / task
    images = {name: os.path.relpath(os.path.realpath(image), base) for name, image, _ in wanted}
    _remove_old(folder / "masks", planes)
    entries = {
        name: {
            "id": name,
            "image": images[name],
            "patient": name,
            **_entry(item, folder / "masks" / f"{name}.png", base),
        }
        for name, item in planes.items()
    }
    sections = {part: [entries[name] for name in some] for part, some in parts.items()}
    key = "box_classes" if task == "detection" else "mask_classes"
    write_datalist(folder / "datalist.json", sections, task, "labels of MONAI Label", {}, **{key: names})
    return folder / "datalist.json"


def check_names(classes: Iterable[str]) -> None:
    """Refuse names of classes that are no plain words, or given twice.

    Raises:
        DataError: naming them.

    Example::

        check_names(["left lung", "right lung"])
    """
    names = list(classes)
    bad = [repr(name) for name in names if not NAME.fullmatch(name)]
    bad += [f"{name!r} twice" for name in sorted(set(names)) if names.count(name) > 1]
    if bad:
        raise DataError(f"classes: {', '.join(bad)}. A name is letters, digits, blanks and _.,()/+-, and there once.")


def split_ids(ids: Sequence[str], val_split: float) -> dict[str, list[str]]:
    """Divide images by a hash of their ids, so that each stays on its side when others come.

    Args:
        ids: of two images or more.
        val_split: the part that validates, from 0 to 1.

    Returns:
        "training" and "validation", none of them empty.

    Example::

        print(split_ids(["a", "b", "c"], 0.3))
    """
    place = {name: int.from_bytes(sha256(name.encode()).digest()[:8], "big") / 2**64 for name in ids}
    order = sorted(ids, key=place.__getitem__)
    count = min(max(1, sum(place[name] < val_split for name in order)), len(order) - 1)
    return {"training": order[count:], "validation": order[:count]}


def _labels_of(datastore: Datastore, task: str) -> list[tuple[str, str, str]]:
    """Id, image and label of every image with a label of the task's kind."""
    pairs = [(datastore._to_id(os.path.basename(d["image"]))[0], d["image"], d["label"]) for d in datastore.datalist()]
    wanted = [pair for pair in sorted(pairs) if (Path(pair[2]).suffix.lower() == BOXES) == (task == "detection")]
    if others := sorted({pair[0] for pair in pairs} - {pair[0] for pair in wanted}):
        logger.info(f"{task}: {len(others)} images have a label of another kind, left out: {', '.join(others[:20])}.")
    if len(wanted) < 2:
        kind = "boxes (Slicer markups)" if task == "detection" else "masks"
        raise DataError(f"{task} has {len(wanted)} images with saved {kind}: save labels of two or more as final.")
    return wanted


def _read_all(
    datastore: Datastore, task: str, wanted: list[tuple[str, str, str]]
) -> tuple[dict[str, tuple[np.ndarray, Any]], list[tuple[str, str]]]:
    """What each label holds, and what cannot be read."""
    found, problems = {}, []
    for name, image, label in wanted:
        try:
            if task == "detection":
                found[name] = _read_boxes(image, label)
            else:
                info = datastore.get_label_info(name, DefaultLabelTag.FINAL) or {}
                found[name] = _read_mask(image, label, info.get("label_info"))
        except DataError as error:
            problems.append((name, str(error)))
    return found, problems


def _read_mask(image: str, label: str, info: Any) -> tuple[np.ndarray, dict[int, str]]:
    """(H, W) values, and the names of those in it where Slicer saved names."""
    mask, size = read_label_map(label, read_geometry(image).turn), image_size(image)
    if mask.shape != size:
        raise DataError(f"its mask is {mask.shape[1]} x {mask.shape[0]}, the image {size[1]} x {size[0]} pixels")
    mask = mask.astype(np.int64)
    try:
        named = {int(row.get("idx") or number): str(row["name"]) for number, row in enumerate(info or [], 1)}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError('the label_info saved with it is no list of {"name": ..., "idx": ...}') from None
    present = [int(value) for value in np.unique(mask) if value]
    if named and (unnamed := [value for value in present if value not in named]):
        raise DataError(f"its mask holds {unnamed}, but the label_info saved with it names {sorted(named)}")
    return mask, {value: named[value] for value in present if named}


def _read_boxes(image: str, label: str) -> tuple[np.ndarray, list[str]]:
    """(N, 4) in pixels, what lies over the image's edge cut off, and their names."""
    geometry = read_geometry(image)
    boxes, names = read_markups(label, geometry)
    inside = boxes.clip(0, [*geometry.size, *geometry.size])
    if not np.isfinite(inside).all() or (inside[:, 2:] - inside[:, :2] < 1).any():
        raise DataError("a box lies outside the image, or is smaller than a pixel")
    return inside.round(2), names


def _names_of(items: Iterable[tuple[np.ndarray, Any]]) -> list[str]:
    """The classes that the labels name; label maps without names have numbers."""
    items = list(items)
    named = {name for _, names in items for name in (names.values() if isinstance(names, dict) else names)}
    if named or not items or not isinstance(items[0][1], dict):
        return sorted(named)
    return [f"class {value}" for value in range(1, max(int(mask.max(initial=0)) for mask, _ in items) + 1)]


def _by_class(item: tuple[np.ndarray, Any], classes: list[str]) -> Any:
    """A label in the order of the classes, a map (H, W) uint8 or (boxes, indices); or what is wrong with it."""
    values, names = item
    used = set(names.values() if isinstance(names, dict) else names)
    if unknown := sorted(used - set(classes)):
        return f"has {', '.join(map(repr, unknown))}; the classes are {', '.join(classes)}"
    if not isinstance(names, dict):
        return values, [classes.index(name) for name in names]
    if names:
        mapped = np.zeros(values.shape, np.uint8)
        for value, name in names.items():
            mapped[values == value] = classes.index(name) + 1
        return mapped
    if len(classes) == 1 and values.max(initial=0) == 255 and np.isin(values, (0, 255)).all():
        return (values != 0).astype(np.uint8)  # black and white, as a drawing program saves it
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > len(classes):
        return f"has the values {low} to {high}; there are {len(classes)} classes ({', '.join(classes)})"
    return values.astype(np.uint8)


def _positives(item: Any) -> Iterator[int]:
    yield from (item[1] if isinstance(item, tuple) else (int(value) - 1 for value in np.unique(item) if value))


def _check_positives(positives: dict[str, Iterable[int]], classes: list[str], validating: int) -> None:
    seen = {index for some in positives.values() for index in some}
    if missing := [name for index, name in enumerate(classes) if index not in seen] or (
        [] if classes else ["any class"]
    ):
        raise DataError(
            f"no label of {', '.join(missing)} among the {len(positives)} images to train with ({validating} more "
            "validate): save more labels, or name the classes to train as 'classes'."
        )


def _remove_old(folder: Path, wanted: Iterable[str]) -> None:
    """Masks of labels that are no more."""
    keep = {f"{name}.png" for name in wanted}
    for path in folder.glob("*.png"):
        if path.name not in keep:
            path.unlink()


def _entry(item: Any, path: Path, base: Path) -> dict[str, Any]:
    if isinstance(item, tuple):
        return {"boxes": item[0].tolist(), "box_labels": item[1]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        Image.fromarray(item).save(temporary, format="PNG")
    return {"mask": os.path.relpath(os.path.realpath(path), base)}
