# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Loads a datalist for finetuning: chooses the classes and checks their annotations."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.utils import look_up_option

from monai_mgca.data.annotations import annotation_problems
from monai_mgca.data.datalist import load_datalist, read_datalist
from monai_mgca.data.entry import BOXES, LABELS, UNITS, Entry, has_value, keep_keys, refuse_repeated
from monai_mgca.data.fraction import take_fraction
from monai_mgca.data.paths import find_dataset_dir
from monai_mgca.data.vanishing_boxes import refuse_vanishing_boxes
from monai_mgca.transforms.load_mask import LoadMask
from monai_mgca.utils import DataError
from monai_mgca.utils.dist import rank
from monai_mgca.utils.progress import list_problems, map_in_threads

__all__ = ["class_names", "load_labeled"]

logger = logging.getLogger(__name__)

TASKS = ("segmentation", "detection", "classification")
_CLASSES = {"segmentation": "mask_classes", "detection": "box_classes", "classification": "classes"}


def class_names(path: str | os.PathLike, task: str, label_key: str | None = None) -> list[str]:
    """The classes of a datalist for a task.

    Args:
        path: the datalist JSON.
        task: "segmentation", "detection" or "classification".
        label_key: key of the masks, whose name without "_mask" is the one class where the datalist names none.

    Raises:
        DataError: when the datalist has no classes for this task, or one twice.

    Example::

        datalist = make_sample("sample", size=16, image_size=64)
        print(class_names(datalist, "classification"))
    """
    key = _CLASSES[look_up_option(task, TASKS)]
    names = read_datalist(path).get(key)
    if names is None and task == "segmentation":
        return [str(label_key).removesuffix("_mask")]
    if not names:
        raise DataError(
            f"{path} names no classes under '{key}', which {task} needs: recreate it with the labels of its source, "
            "see `mgca data --help`."
        )
    refuse_repeated(names := [str(name) for name in names], f"'{key}' of {path}")
    return names


def load_labeled(
    path: str | os.PathLike,
    section: str,
    task: str,
    dataset_dir: str | os.PathLike | None = None,
    classes: Sequence[str] | None = None,
    label_key: str = "mask",
    fraction: float = 1,
    seed: int = 0,
    image_size: int | None = None,
    spatial_dims: int = 2,
) -> list[dict[str, Any]]:
    """Load one section of a datalist for a task, after checking every annotation against its image.

    Args:
        path: the datalist JSON.
        section: "training", "validation" or "test". Of "training" every class must have a positive.
        task: "segmentation", "detection" or "classification".
        dataset_dir: the folder that paths are relative to and may not leave. Defaults to the datalist's own folder.
        classes: choose some of the datalist's classes, in this order; boxes of others are left out. Of masks this needs
            one for each class. Defaults to all.
        label_key: key of the masks.
        fraction: the part of the patients to train on, chosen by :func:`take_fraction` so that classes keep their part.
        seed: of the choice.
        image_size: to which the longer side of an image will be resized; boxes that are narrower than a pixel there,
            which :class:`monai_mgca.transforms.MapBoxesd` drops, are counted in the log. Of volumes it is not asked.
        spatial_dims: 2 of radiographs, 3 of volumes. Of the masks of volumes the headers are looked at.

    Returns:
        Items with "image" (path) and "label" (a mask's path or run lengths; the labels as a list), or for detection
        "boxes" (list of [x0, y0, x1, y1] in pixels, of volumes of [x0, y0, z0, x1, y1, z1] in millimeters to the
        patient's right, front and head) and "box_labels" (list of indices into ``classes``). Of volumes also "rescale"
        and "spacing", where the datalist has them, for :class:`monai_mgca.transforms.LoadVolumed`.

    Raises:
        DataError: listing all files with a bad annotation; when entries have none; when a class does not exist, is
            chosen twice, has no positive to train with, or cannot be chosen from a mask of several; when no box is left
            at `image_size`, or a section has nothing to measure by.

    Example::

        datalist = make_sample("sample", size=16, image_size=64)
        data = load_labeled(datalist, "training", "segmentation", label_key="lung_mask", fraction=0.5)
    """
    known = class_names(path, task, label_key)
    chosen = _choose_classes(path, known, classes)
    entries, base = load_datalist(path, section, dataset_dir, report=False), find_dataset_dir(path, dataset_dir)
    _check(f"{path}: section '{section}'", entries, base, task, known, label_key, spatial_dims)
    items = [_item(entry, base, task, known, chosen, label_key) for entry in entries]
    if task == "detection" and image_size and spatial_dims == 2:
        refuse_vanishing_boxes(f"{path}: section '{section}'", items, image_size)
    if section != "training":
        _check_measurable(f"{path}: section '{section}'", items, task, len(chosen), spatial_dims)
    else:
        items = _take_part(items, fraction, seed, task)
        _check_positives(path, items, task, chosen, spatial_dims)
    keep = {"image", *(BOXES if task == "detection" else ("label",)), *(UNITS if spatial_dims == 3 else ())}
    return [{key: value for key, value in item.items() if key in keep} for item in items]


def _choose_classes(path: str | os.PathLike, known: list[str], classes: Sequence[str] | None) -> list[str]:
    chosen = list(known if classes is None else classes)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise DataError(f"{path} has no class {', '.join(unknown)}; its classes are {', '.join(known)}.")
    refuse_repeated(chosen, "classes")
    return chosen


def _keys(task: str, label_key: str) -> tuple[str, ...]:
    return {"segmentation": (label_key,), "detection": BOXES, "classification": LABELS}[task]


def _check(
    place: str,
    entries: list[Entry],
    base: str,
    task: str,
    known: Sequence[str],
    label_key: str,
    spatial_dims: int,
) -> None:
    """Refuse entries without what the task needs, or whose annotation does not fit the image."""
    classes, keys = {_CLASSES[task]: known}, _keys(task, label_key)
    masks = (label_key,) if task == "segmentation" else ()

    def problems(entry: Entry) -> list[tuple[str, str]]:
        missing = [key for key in keys if not has_value(entry, key)]
        if missing:
            return [(entry["image"], f"has no '{missing[0]}'")]
        of = (classes.get("classes"), classes.get("box_classes"), masks, classes.get("mask_classes"))
        part = keep_keys(entry, (*keys, *UNITS))
        # that of a radiograph takes no time; of thousands of volumes it would be hours
        return list(annotation_problems(part, base, *of, spatial_dims, open_masks=spatial_dims == 2))

    found = [p for some in map_in_threads(problems, entries, "checking annotations") for p in some]
    if found:
        title = f"{place} has {len(found)} problems for {task}"
        mend = "Mend or leave out these entries; `mgca check` lists all problems of a datalist."
        raise DataError(list_problems(title, found, mend))


def _item(
    entry: Entry, base: str, task: str, known: Sequence[str], chosen: Sequence[str], label_key: str
) -> dict[str, Any]:
    item = {"image": entry["image"], "patient": entry.get("patient", entry["image"])}
    item |= {key: entry[key] for key in UNITS if has_value(entry, key)}  # type: ignore[literal-required]
    if task == "detection":
        pairs = zip(entry["boxes"], entry["box_labels"], strict=True)
        kept = [(box, chosen.index(known[label])) for box, label in pairs if known[label] in chosen]
        return {**item, "boxes": [box for box, _ in kept], "box_labels": [label for _, label in kept]}
    if task == "classification":
        return {**item, "label": [entry["labels"][known.index(name)] for name in chosen]}
    return {**item, "label": _absolute(_chosen_masks(entry, known, chosen, label_key), base)}


def _chosen_masks(entry: Entry, known: Sequence[str], chosen: Sequence[str], label_key: str) -> Any:
    mask = entry.get(label_key)
    if list(chosen) == list(known):
        return mask
    if not isinstance(mask, list) or len(mask) != len(known):
        raise DataError(
            f"classes can be chosen where there is a mask for each, but {entry['image']} has one '{label_key}' for "
            f"{', '.join(known)}: leave classes as they are, or make a mask for each."
        )
    return [mask[known.index(name)] for name in chosen]


def _absolute(mask: Any, base: str) -> Any:
    if isinstance(mask, list):
        return [_absolute(one, base) for one in mask]
    return os.path.join(base, mask) if isinstance(mask, str) else mask


def _positives(item: Mapping[str, Any], task: str) -> tuple[int, ...]:
    """The classes that an item has, as far as that is known without opening a file."""
    if task == "detection":
        return tuple(sorted(set(item["box_labels"])))
    if task == "classification":
        return tuple(index for index, value in enumerate(item["label"]) if value == 1)
    return ()


def _take_part(items: list[dict], fraction: float, seed: int, task: str) -> list[dict]:
    taken = take_fraction(items, fraction, seed, strata=lambda item: _positives(item, task))
    if rank() == 0:
        logger.info(f"training: {len(taken)} of {len(items)} images (label_fraction {fraction:g}).")
    return taken


def _check_measurable(place: str, items: list[dict], task: str, num_classes: int, spatial_dims: int) -> None:
    """Refuse a section by which every figure would be nan. Masks are opened until one is not empty."""
    if task == "classification":
        # -1, uncertain, may become either
        known = [{item["label"][index] for item in items} - {None} for index in range(num_classes)]
        if not any(len(values) > 1 for values in known) and rank() == 0:  # the accuracy of exclusive classes is defined
            problem = "no class has both positives and negatives: every AUROC is nan, and no network is the best by it"
            logger.warning(f"{place}: {problem}. Add such images.")
    elif task == "detection":
        if not any(item["boxes"] for item in items):
            raise DataError(f"{place}: no image has a box, so that no precision is defined: add images with boxes.")
    else:
        load = LoadMask(num_classes, spatial_dims)
        if not any(bool(load(item["label"]).any()) for item in items):
            raise DataError(f"{place}: all masks are empty, so that no Dice is defined: add images with masks.")


def _check_positives(
    path: str | os.PathLike, items: list[dict], task: str, classes: Sequence[str], spatial_dims: int
) -> None:
    """Refuse to train a class that no item has. Masks are opened until every class was seen."""
    load: Callable[[Any], Any] = LoadMask(len(classes), spatial_dims)
    seen: set[int] = set()
    for item in items:
        if task == "segmentation":
            seen.update(np.flatnonzero(np.asarray(load(item["label"])).reshape(len(classes), -1).any(axis=1)).tolist())
        else:
            seen.update(_positives(item, task))
        if len(seen) == len(classes):
            return
    missing = [name for index, name in enumerate(classes) if index not in seen]
    raise DataError(
        f"{path}: no positive example of {', '.join(missing)} among the {len(items)} training images: leave the class "
        "out with --classes, take a larger label_fraction, or bring more data."
    )
