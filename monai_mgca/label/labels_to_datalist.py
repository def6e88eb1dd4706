# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The saved labels of the studies as a datalist for finetuning."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from PIL import Image

from monai_mgca.data.datalist import write_datalist
from monai_mgca.data.entry import as_entry
from monai_mgca.label.store.contained_store import OURS
from monai_mgca.label.store.held_folder import HeldFolder
from monai_mgca.label.store.saved_label import BOXES, check_names, read_label
from monai_mgca.utils import DataError
from monai_mgca.utils.console import name_some
from monai_mgca.utils.progress import list_problems

__all__ = ["labels_to_datalist"]

logger = logging.getLogger(__name__)


def labels_to_datalist(
    datastore: Datastore, task: str, classes: Sequence[str] | None = None, val_split: float = 0.2
) -> Path:
    """Write the datalist of the labels that annotators saved, as the bundle's ``train_<task>.json`` takes it.

    Only labels of the tag "final" count: label maps for segmentation, Slicer's markups for detection. What a value of
    a label map means is defined by the ``label_info`` that Slicer saves with it, else by the order of the classes.
    Which images validate depends on their ids alone: an image stays where it is when labels are added, unless there
    would be none to train or to validate with.

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
    base = Path(datastore.work_dir).parent  # of real folders; to follow it again would follow who replaced it since
    images = {name: os.path.relpath(os.path.realpath(image), base) for name, image, _ in wanted}
    annotations = _boxes(planes) if task == "detection" else _write_masks(planes, base, task)
    entries = {
        name: as_entry({"id": name, "image": images[name], "patient": name, **annotations[name]}) for name in planes
    }
    sections = {part: [entries[name] for name in some] for part, some in parts.items()}
    key = "box_classes" if task == "detection" else "mask_classes"
    with tempfile.TemporaryDirectory() as own, HeldFolder(base, OURS, task) as folder:
        path = Path(own, "datalist.json")
        write_datalist(path, sections, task, "labels of MONAI Label", {}, **{key: names})
        folder.put(path, path.name)
        return Path(folder.path, path.name)


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
    pairs = [(datastore.id_of(d["image"]), d["image"], d["label"]) for d in datastore.datalist()]
    wanted = [pair for pair in sorted(pairs) if (Path(pair[2]).suffix.lower() == BOXES) == (task == "detection")]
    if others := sorted({pair[0] for pair in pairs} - {pair[0] for pair in wanted}):
        logger.info(f"{task}: {len(others)} images have a label of another kind, left out: {name_some(others, 20)}.")
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
            info = datastore.get_label_info(name, DefaultLabelTag.FINAL) or {}
            found[name] = read_label(image, label, info.get("label_info"), datastore.spatial_dims)
        except DataError as error:
            problems.append((name, str(error)))
    return found, problems


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


def _boxes(planes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {"boxes": boxes.tolist(), "box_labels": labels} for name, (boxes, labels) in planes.items()}


def _write_masks(planes: dict[str, np.ndarray], base: Path, task: str) -> dict[str, dict[str, Any]]:
    """Masks as PNG below the studies; those of labels that are no more go."""
    with HeldFolder(base, OURS, task, "masks") as folder:
        for name, mask in planes.items():
            folder.write(f"{name}.png", functools.partial(Image.fromarray(mask).save, format="PNG"))
        for name in set(folder.names()) - {f"{name}.png" for name in planes}:
            folder.remove(name)
        return {name: {"mask": os.path.join(*folder.parts, f"{name}.png")} for name in planes}
