# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A sheet of the sample's images with their masks and boxes, to see at a glance what it holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from monai_mgca.data.datalist import read_datalist
from monai_mgca.data.entry import Entry, places_of
from monai_mgca.utils.files import replacing

__all__ = ["draw_sheet"]

_COLUMNS, _ROWS, _TILE, _CAPTION = 6, 4, 160, 26
_COLORS = ((255, 190, 60), (80, 170, 255), (110, 230, 120), (255, 100, 100), (240, 120, 255), (90, 240, 240))


def draw_sheet(output_dir: str | os.PathLike, file: str | os.PathLike) -> Path:
    """Draw 24 studies of a sample, one kind of finding after another: finding masks outlined, boxes, captions.

    Args:
        output_dir: the folder of the sample, see :func:`monai_mgca.data.sample.radiographs.make_sample`.
        file: the PNG to write.

    Returns:
        The path of the PNG.

    Raises:
        DataError: when the folder holds no datalist.

    Example::

        make_sample("sample")
        draw_sheet("sample", "sheet.png")
    """
    folder, file = Path(output_dir), Path(file)
    document = read_datalist(folder / "datalist.json")
    entries = _choose([entry for *_, entry in places_of(document)], len(document["box_classes"]))
    sheet = Image.new("RGB", (_COLUMNS * _TILE, _ROWS * (_TILE + _CAPTION)))
    for i, entry in enumerate(entries):
        sheet.paste(_draw_tile(folder, entry), (i % _COLUMNS * _TILE, i // _COLUMNS * (_TILE + _CAPTION)))
    file.parent.mkdir(parents=True, exist_ok=True)
    colors = sheet.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with replacing(file) as temporary:
        colors.save(temporary, format="PNG", optimize=True)
    return file


def _choose(entries: list[Entry], num_classes: int) -> list[Entry]:
    """Take entries class by class in turn, the last turn being that of the normal ones."""
    queues = [[e for e in entries if e["box_labels"][:1] == [k]] for k in range(num_classes)]
    queues.append([e for e in entries if not e["box_labels"]])
    turns = max(map(len, queues), default=0)
    return [queue[i] for i in range(turns) for queue in queues if i < len(queue)][: _COLUMNS * _ROWS]


def _draw_tile(folder: Path, entry: Mapping[str, Any]) -> Image.Image:
    with Image.open(folder / entry["image"]) as image, Image.open(folder / entry["finding_mask"]) as mask:
        scale = _TILE / image.width
        tile = image.convert("RGB").resize((_TILE, _TILE), Image.Resampling.BICUBIC)
        inside = mask.convert("L").resize((_TILE, _TILE), Image.Resampling.NEAREST)
    outline = ImageChops.subtract(inside, inside.filter(ImageFilter.MinFilter(3)))
    tile.paste((255, 255, 0), mask=outline.point(lambda value: value // 2))
    canvas = Image.new("RGB", (_TILE, _TILE + _CAPTION))
    canvas.paste(tile)
    draw = ImageDraw.Draw(canvas)
    for box, label in zip(entry["boxes"], entry["box_labels"], strict=True):
        x0, y0, x1, y1 = (value * scale for value in box)
        draw.rectangle((x0 - 1, y0 - 1, x1, min(y1, _TILE - 1)), outline=_COLORS[label % len(_COLORS)])
    for line, phrase in enumerate(entry["box_phrases"] or ["normal"]):
        while draw.textlength(phrase) > _TILE - 4:
            phrase = phrase.rsplit(" ", 2)[0] + " ..."
        draw.text((2, _TILE + 1 + 12 * line), phrase, fill=(230, 230, 230))
    return canvas
