# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The boxes and masks of a data set as regions with a phrase, and how well heat maps hit them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_mgca.apps.ground.phrase_grounder import PhraseGrounder
from monai_mgca.apps.ground.region import AnyRegion, Region, VolumeRegion
from monai_mgca.data.annotations import annotation_problems, image_size
from monai_mgca.data.datalist import load_datalist, read_datalist
from monai_mgca.data.entry import Entry
from monai_mgca.data.image_item import image_of, path_of
from monai_mgca.data.paths import find_dataset_dir
from monai_mgca.io.csv_file import write_csv
from monai_mgca.metrics.grounding import compute_grounding, is_near
from monai_mgca.transforms import BoxesToMask, LoadMask
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import list_problems, progress_bar

__all__ = ["GroundingFigures", "Region", "load_regions", "measure_regions"]

COLUMNS = ("pointing_game", "pointing_game_near", "contrast_to_noise", "mean_iou", "area")
MEAN = "mean"


def load_regions(
    datalist: str | os.PathLike,
    section: str,
    dataset_dir: str | os.PathLike | None = None,
    phrases: Mapping[str, str] | None = None,
    mask_key: str | None = None,
    spatial_dims: int = 2,
) -> list[AnyRegion]:
    """The annotated findings of a section: for each image and phrase the pixels of all its boxes.

    Args:
        datalist: with "boxes" and "box_labels" in its entries, and "box_classes".
        section: "training", "validation" or "test".
        dataset_dir: folder of the images; the datalist's own by default.
        phrases: what to look for of each class; classes that are not named are left out. Without any it is each
            box's own of "box_phrases" where entries have that, else the classes' names.
        mask_key: key of a mask that the boxes are cut to.
        spatial_dims: 3 of volumes, whose boxes are in millimeters.

    Raises:
        DataError: when the datalist has no boxes, a class is unknown, or an annotation does not fit its image.

    Example::

        regions = load_regions("dataset.json", "validation", phrases={"opacity": "focal opacity"})
    """
    classes = read_datalist(datalist).get("box_classes") or []
    if unknown := [name for name in phrases or () if name not in classes]:
        raise DataError(f"{datalist} has no box class {', '.join(unknown)}; it has: {', '.join(classes) or 'none'}.")
    keys = ("image", *([mask_key] if mask_key else []))
    entries = [
        entry for entry in load_datalist(datalist, section, dataset_dir, keys, report=False) if entry.get("boxes")
    ]
    if not entries:
        raise DataError(f"{datalist} has no boxes in '{section}': `mgca data csv --boxes` brings them.")
    base = find_dataset_dir(datalist, dataset_dir)
    problems = [
        problem
        for entry in entries
        for problem in annotation_problems(entry, base, box_classes=classes, spatial_dims=spatial_dims)
    ]
    if problems:
        raise DataError(list_problems(f"{datalist}: bad annotations", problems, "Mend or leave out these entries."))
    make = _region_of_volume if spatial_dims == 3 else _region_of_radiograph
    found = (make(entry, *rest, mask_key) for entry in entries for rest in _boxes_by_phrase(entry, classes, phrases))
    return [region for region in found if region is not None]


def _boxes_by_phrase(
    entry: Entry, classes: Sequence[str], phrases: Mapping[str, str] | None
) -> Iterator[tuple[str, str, list[list[float]]]]:
    """The boxes of an image, those of the same class and phrase together."""
    names = [classes[label] for label in entry["box_labels"]]
    texts = [phrases.get(name) for name in names] if phrases else entry.get("box_phrases", names)
    for name, phrase in dict.fromkeys(zip(names, texts, strict=True)):
        if phrase is None:
            continue
        boxes = [b for b, n, t in zip(entry["boxes"], names, texts, strict=True) if (n, t) == (name, phrase)]
        yield name, phrase, boxes


def _region_of_radiograph(
    entry: Entry, name: str, phrase: str, boxes: list[list[float]], mask_key: str | None
) -> Region | None:
    mask = BoxesToMask()(boxes, [0] * len(boxes), image_size(entry["image"]))[0]
    if mask_key:
        within: Any = entry.get(mask_key)
        mask = mask * LoadMask()(within).as_tensor()[0]
    return Region(entry["image"], name, phrase, mask) if mask.any() else None


def _region_of_volume(
    entry: Entry, name: str, phrase: str, boxes: list[list[float]], mask_key: str | None
) -> VolumeRegion:
    within: Any = entry.get(mask_key) if mask_key else None
    return VolumeRegion(image_of(entry), name, phrase, boxes, within)


def measure_regions(
    ground: PhraseGrounder, regions: Sequence[AnyRegion], figures: GroundingFigures, encoder: str
) -> Iterator[tuple[Region, torch.Tensor]]:
    """Ground every region's phrase in its image, add the figures, and give the maps one by one.

    Args:
        ground: makes the maps.
        regions: of :func:`load_regions`.
        figures: to add to.
        encoder: name of the network in the table.

    Yields:
        each region with its (H, W[, D]) map; of volumes none that the mask leaves nothing of.
    """
    by_image: dict[str, list[AnyRegion]] = {}
    for region in regions:
        by_image.setdefault(path_of(region.image), []).append(region)
    for image, own in progress_bar(by_image.items(), f"grounding, {Path(encoder).name}", len(by_image)):
        try:
            texts = ground.encode([region.phrase for region in own], private=True)
        except DataError as error:
            raise DataError(f"{image}: {error}") from None
        for one, heat in zip(own, ground.ground_texts(own[0].image, texts), strict=True):
            filled = one.filled()
            if filled.mask.any():
                figures.add(encoder, filled, heat)
                yield filled, heat


class GroundingFigures:
    """Collects the figures of :func:`monai_mgca.metrics.compute_grounding` by network and class.

    Args:
        tolerance: of "pointing_game_near", as a part of the longer side, of volumes in millimeters; "pointing_game" has
            none.

    Example::

        figures = GroundingFigures()
        region = Region("1.png", "opacity", "focal opacity", torch.ones(8, 8))
        figures.add("model.pt", region, torch.rand(8, 8))
        print(figures.table())
    """

    def __init__(self, tolerance: float = 0.03) -> None:
        self.tolerance = tolerance
        self.rows: list[dict[str, Any]] = []

    def add(self, encoder: str, region: Region, heat: torch.Tensor) -> None:
        """
        Args:
            encoder: name of the network.
            region: where the finding is.
            heat: (H, W[, D]) map of its phrase.
        """
        inside = compute_grounding(heat[None], region.mask[None])[0].tolist()
        near = bool(inside[0]) or is_near(region.mask > 0.5, int(heat.argmax()), self.tolerance, region.spacing)
        values = dict(zip(COLUMNS, (inside[0], float(near), *inside[1:]), strict=True))
        self.rows.append({"encoder": encoder, "image": path_of(region.image), "class": region.name, **values})

    def summarize(self) -> list[dict[str, Any]]:
        """The mean of every network over all findings, and of every class."""
        lines = []
        for encoder in dict.fromkeys(row["encoder"] for row in self.rows):
            own = [row for row in self.rows if row["encoder"] == encoder]
            for name in (MEAN, *dict.fromkeys(sorted(row["class"] for row in own))):
                rows = [row for row in own if name in (MEAN, row["class"])]
                means = {key: float(np.mean([row[key] for row in rows])) for key in COLUMNS}
                lines.append({"encoder": encoder, "class": name, "findings": len(rows), **means})
        return lines

    def table(self) -> str:
        """The means, a line for each network and class; "area" is the pointing game of chance."""
        head = f"{'encoder':28s} {'class':16s} {'findings':>8s}  " + "  ".join(f"{name:>18s}" for name in COLUMNS)
        lines = [
            f"{line['encoder'][-28:]:28s} {line['class'][:16]:16s} {line['findings']:8d}  "
            + "  ".join(f"{line[name]:18.3f}" for name in COLUMNS)
            for line in self.summarize()
        ]
        return "\n".join([head, *lines])

    def write(self, path: str | os.PathLike) -> None:
        """Write the figures of every finding as CSV; the file appears whole or not at all."""
        names = ("encoder", "image", "class")
        figures = ([f"{row[key]:.6f}" for key in COLUMNS] for row in self.rows)
        rows = ([*(row[name] for name in names), *own] for row, own in zip(self.rows, figures, strict=True))
        write_csv(path, [(*names, *COLUMNS), *rows])
