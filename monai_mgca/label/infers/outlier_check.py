# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What every answer of the server says of its image: whether it is unlike those of the pretraining."""

from __future__ import annotations

import logging
import threading
from typing import Any

from monai_mgca.apps import OutlierDetector
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.utils import CheckpointError, DataError
from monai_mgca.weights import outlier_path

__all__ = ["OutlierCheck"]

logger = logging.getLogger(__name__)


class OutlierCheck:
    """An image's distance from those of the pretraining, by its own encoder, whatever the finetuned networks became.

    Args:
        settings: of the app.
    """

    def __init__(self, settings: LabelSettings) -> None:
        self.settings = settings
        self._loaded: tuple[tuple[int, int], OutlierDetector | None] | None = None
        self._lock = threading.Lock()

    def __call__(self, image: str) -> dict[str, Any]:
        """
        Args:
            image: the path of a file, or of a series' folder.

        Returns:
            {"outlier": {"distance", "threshold", "flagged"}}; nothing where the weights have no score that can be read.
        """
        detector = self._load()
        if detector is None:
            return {}
        distances = detector([image])
        return {
            "outlier": {
                "distance": round(float(distances[0]), 4),
                "threshold": round(detector.score.threshold, 4),
                "flagged": bool(detector.score.flags(distances)[0]),
            }
        }

    def _load(self) -> OutlierDetector | None:
        """The detector of the files as they are now; what cannot be loaded waits for others, and is logged once."""
        weights = self.settings.pretrained
        weights = weights if weights.is_file() else weights.with_name("model.pt")
        kept = outlier_path(weights)
        if not weights.is_file() or not kept.is_file():
            return None
        version = weights.stat().st_mtime_ns, kept.stat().st_mtime_ns
        with self._lock:
            if self._loaded is None or self._loaded[0] != version:
                found = None
                try:
                    found = OutlierDetector.load(weights, self.settings.device)
                except (DataError, CheckpointError) as error:  # the models can answer without
                    logger.warning(f"No answer says whether its image is unlike those of the training: {error}")
                self._loaded = version, found
            return self._loaded[1]
