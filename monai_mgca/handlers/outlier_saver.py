# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes which images of an inference are unlike those of the training, where the weights' score is beside them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys, ImageMetaKey

from monai_mgca.io.csv_file import write_csv
from monai_mgca.metrics.outlier_score import OutlierScore
from monai_mgca.networks.image_embedder import ImageEmbedder
from monai_mgca.weights import read_outlier_score

__all__ = ["OutlierSaver", "write_outlier_table"]


def write_outlier_table(path: str | os.PathLike, rows: Iterable[tuple[str, float, bool]]) -> None:
    """Write each image's distance from those of the training.

    Args:
        path: of the CSV table; it appears whole.
        rows: the image's name, its distance, and whether that is above the threshold.

    Example::

        write_outlier_table("outliers.csv", [("1.png", 12.5, False)])
    """
    table = [(name, f"{distance:.4f}", int(flag)) for name, distance, flag in rows]
    write_csv(path, [("image", "distance", "flagged"), *table])


class OutlierSaver:
    """Writes a CSV table of each image's distance from those of the training, and reports how many are unlike them.

    The distance is of the features that the network makes on its way to the embedding: nothing is computed twice, and
    the embeddings stay as they are. Where the weights have no score, nothing is written, and an earlier table goes.

    Args:
        network: the engine's, with the weights loaded before the run.
        checkpoint: the file of the weights, beside which the score is.
        path: of the table; it appears whole, at the end of the run.

    Example::

        OutlierSaver(network, "models/model.pt", "eval/outliers.csv").attach(evaluator)
    """

    def __init__(self, network: ImageEmbedder, checkpoint: str | os.PathLike, path: str | os.PathLike) -> None:
        self.network, self.checkpoint, self.path = network, checkpoint, Path(path)
        self.logger = logging.getLogger(__name__)
        self._score: OutlierScore | None = None
        self._hook: Any = None
        self._features: list[torch.Tensor] = []
        self._rows: list[tuple[str, float, bool]] = []

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's evaluator, with decollated outputs.
        """
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _started(self) -> None:
        self._score = read_outlier_score(self.checkpoint, self.network.image_encoder)
        self._features.clear()
        self._rows = []
        if self._score is None:
            self.path.unlink(missing_ok=True)  # of other weights
        elif self._hook is None:
            # what goes into the projection are the pooled features
            keep = self._features.append
            self._hook = self.network.image_head.register_forward_pre_hook(lambda _, inputs: keep(inputs[0].detach()))

    def _collect(self, engine: Engine) -> None:
        if self._score is None:
            return
        distances = self._score.distances(torch.cat(self._features).float())
        self._features.clear()
        output: Any = engine.state.output
        names = [item[CommonKeys.IMAGE].meta[ImageMetaKey.FILENAME_OR_OBJ] for item in output]
        self._rows += zip(names, distances.tolist(), self._score.flags(distances).tolist(), strict=True)

    def _write(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        if self._score is None:
            return
        write_outlier_table(self.path, self._rows)
        flagged = sum(flag for *_, flag in self._rows)
        self.logger.info(
            f"{flagged} of {len(self._rows)} images are unlike those of the training, at a distance above "
            f"{self._score.threshold:.2f}: {self.path}"
        )
