# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The saved labels of the studies as a datalist for finetuning."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from PIL import Image

from monai_mgca.data.datalist import write_datalist
from monai_mgca.data.entry import as_entry
from monai_mgca.io.volumes.volume_geometry import read_volume_geometry, write_volume
from monai_mgca.io.volumes.volume_labels import present_labels
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
    indices = {name: _by_class(item, names) for name, item in found.items()}
    problems += [(name, reason) for name, reason in indices.items() if isinstance(reason, str)]
    if problems:
        title = f"{len(problems)} of {len(wanted)} saved labels cannot be used for {task}"
        raise DataError(list_problems(title, problems, "Save these labels again, or delete them."))
    parts = split_ids(list(indices), val_split)
    kept: dict[str, Any] = indices
    positives = {name: list(kept[name].values()) for name in parts["training"]}
    _check_positives(positives, names, len(parts["validation"]))
    base = Path(datastore.work_dir).parent  # of real folders; to follow it again would follow who replaced it since
    images = {name: os.path.relpath(os.path.realpath(image), base) for name, image, _ in wanted}
    if task == "detection":
        annotations = _boxes(found, names)
    else:
        annotations = _write_masks(wanted, indices, base, task, datastore.spatial_dims)
    entries = {
        name: as_entry({"id": name, "image": images[name], "patient": name, **annotations[name]}) for name in indices
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
) -> tuple[dict[str, tuple[Any, Any]], list[tuple[str, str]]]:
    """What each label holds, and what cannot be read.

    Of a label map these are the values in it, for of volumes not all fit into memory, and {value: name}; else boxes and
    the list of their names.
    """
    found, problems = {}, []
    for name, image, label in wanted:
        try:
            info = datastore.get_label_info(name, DefaultLabelTag.FINAL) or {}
            values, names = read_label(image, label, info.get("label_info"), datastore.spatial_dims)
            found[name] = (present_labels(values) if isinstance(names, dict) else values), names
        except DataError as error:
            problems.append((name, str(error)))
    return found, problems


def _names_of(items: Iterable[tuple[Any, Any]]) -> list[str]:
    """The classes that the labels name; label maps without names have numbers."""
    items = list(items)
    named = {name for _, names in items for name in (names.values() if isinstance(names, dict) else names)}
    if named or not items or not isinstance(items[0][1], dict):
        return sorted(named)
    return [f"class {value}" for value in range(1, max(max(present, default=0) for present, _ in items) + 1)]


def _by_class(item: tuple[Any, Any], classes: list[str]) -> dict[Any, int] | str:
    """The class of each value of a label map, or of each name of a box, by its index; or what is wrong with it."""
    present, names = item
    used = set(names.values() if isinstance(names, dict) else names)
    if unknown := sorted(used - set(classes)):
        return f"has {', '.join(map(repr, unknown))}; the classes are {', '.join(classes)}"
    if not isinstance(names, dict):
        return {name: classes.index(name) for name in names}
    if names:
        return {value: classes.index(name) for value, name in names.items()}
    if len(classes) == 1 and present == [255]:
        return {255: 0}  # black and white, as a drawing program saves it
    if max(present, default=0) > len(classes):
        return f"has the values 0 to {max(present)}; there are {len(classes)} classes ({', '.join(classes)})"
    return {value: value - 1 for value in present}


def _check_positives(positives: dict[str, list[int]], classes: list[str], validating: int) -> None:
    seen = {index for some in positives.values() for index in some}
    if missing := [name for index, name in enumerate(classes) if index not in seen] or (
        [] if classes else ["any class"]
    ):
        raise DataError(
            f"no label of {', '.join(missing)} among the {len(positives)} images to train with ({validating} more "
            "validate): save more labels, or name the classes to train as 'classes'."
        )


def _boxes(found: dict[str, tuple[Any, Any]], classes: list[str]) -> dict[str, dict[str, Any]]:
    return {
        name: {"boxes": boxes.tolist(), "box_labels": [classes.index(one) for one in names]}
        for name, (boxes, names) in found.items()
    }


def _write_masks(
    wanted: list[tuple[str, str, str]], indices: dict[str, Any], base: Path, task: str, spatial_dims: int
) -> dict[str, dict[str, Any]]:
    """Masks below the studies, as PNG or, of volumes, NIfTI; those of labels that are no more go."""
    ending = ".nii.gz" if spatial_dims == 3 else ".png"
    with HeldFolder(base, OURS, task, "masks") as folder:
        for name, image, label in wanted:
            places = np.zeros(256, np.uint8)
            for value, index in indices[name].items():
                places[value] = index + 1
            mask = places[read_label(image, label, None, spatial_dims)[0]]
            if spatial_dims == 3:
                _put_volume(mask, image, folder, f"{name}{ending}")
            else:
                folder.write(f"{name}{ending}", functools.partial(Image.fromarray(mask).save, format="PNG"))
        for name in set(folder.names()) - {f"{name}{ending}" for name in indices}:
            folder.remove(name)
        return {name: {"mask": os.path.join(*folder.parts, f"{name}{ending}")} for name in indices}


def _put_volume(mask: np.ndarray, image: str, folder: HeldFolder, name: str) -> None:
    with tempfile.TemporaryDirectory() as own:
        path = Path(own, "mask.nii.gz")
        write_volume(np.asfortranarray(mask), read_volume_geometry(image), path)
        folder.put(path, name)
