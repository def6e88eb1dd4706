# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes radiographs with the predicted masks or boxes drawn over them, and planes of volumes with these."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.utils import CommonKeys, ImageMetaKey

from monai_mgca.io import stem_of
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils.files import replacing
from monai_mgca.visualize.overlay import draw_overlay
from monai_mgca.visualize.volume_view import VolumeView

__all__ = ["OverlaySaver"]


class OverlaySaver:
    """Writes each radiograph as a PNG at its own size, with the masks or boxes that were predicted drawn over it.

    Attach it to an evaluator whose output is a list of dictionaries at the stored image's size, with "image", whose
    meta data name the file. Files take the image's path below ``data_dir``, with "_overlay" behind the name.

    Of a volume its boxes, in millimeters, are drawn over the three planes through the best one, the first; its masks
    over those in which most of them is seen.

    Args:
        output_dir: folder of the overlays.
        data_dir: folder of the images.
        classes: names of the classes of masks or boxes.
        mask_key: key of masks (C, H, W), of volumes (C, X, Y, Z), of 0 and 1; None draws none.
        box_key: key of boxes (N, 4) [x0, y0, x1, y1], of volumes (N, 6), beside "labels" and "labels_scores"; None
            draws none.
        min_score: boxes with a smaller score are not drawn.
        settings: of the model, whose window volumes are shown in.

    Example::

        OverlaySaver("overlays", "radiographs", ["lung"], mask_key="pred").attach(evaluator)
        OverlaySaver("overlays", "radiographs", ["lung", "heart"], box_key="boxes").attach(evaluator)
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        data_dir: str | os.PathLike,
        classes: Sequence[str],
        mask_key: str | None = None,
        box_key: str | None = None,
        min_score: float = 0.3,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.output_dir, self.data_dir = Path(output_dir), data_dir
        self.classes, self.mask_key, self.box_key, self.min_score = list(classes), mask_key, box_key, min_score
        self.load, self.settings = LoadRadiograph(), settings or {}

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's evaluator.
        """
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._save)

    def _save(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output:
            file = Path(item[CommonKeys.IMAGE].meta[ImageMetaKey.FILENAME_OR_OBJ])
            if item[CommonKeys.IMAGE].ndim == 4:
                view = VolumeView(file, self.settings)
                masked = self.mask_key is not None
                picture = view.draw_masks(item[self.mask_key]) if masked else view.draw_boxes(self._boxes(item))
            else:
                masks = () if self.mask_key is None else item[self.mask_key]
                picture = draw_overlay(self.load(file)[0], masks, self._boxes(item))
            path = self.output_dir / Path(os.path.relpath(file, self.data_dir)).parent
            path.mkdir(parents=True, exist_ok=True)
            with replacing(path / f"{stem_of(file.name)}_overlay.png") as temporary:
                picture.save(temporary, format="PNG")

    def _boxes(self, item: Mapping[str, Any]) -> Iterable[tuple[Sequence[float], int, str]]:
        if self.box_key is None:
            return
        columns = (item[key].tolist() for key in (self.box_key, "labels", "labels_scores"))
        for box, label, score in zip(*columns, strict=True):
            if score >= self.min_score:
                yield box, label, f"{self.classes[label]} {score:.2f}"
