# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The settings of the app, as MONAI Label hands them over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_mgca.utils import CheckpointError, DataError, read_settings, write_settings
from monai_mgca.weights import read_model_settings

__all__ = ["MODELS", "LabelSettings"]

TASKS = ("segmentation", "detection", "classification")
MODELS = (*TASKS, "grounding")
FILE = "mgca.json"


@dataclass(frozen=True)
class LabelSettings:
    """What the app on MONAI Label's server was started with.

    Args:
        app_dir: the writable folder of the app. It holds ``mgca.json``, ``models/`` with the weights that this server
            trained, and ``logs/``.
        bundle: the bundle's folder, with ``configs/`` and ``models/``; nothing is written there.
        models: of :data:`MODELS`, those to serve.
        reports: folder of the studies' reports, ``<image id>.txt``; None for the folder of the studies.
        device: where to compute.
    """

    app_dir: Path
    bundle: Path
    models: tuple[str, ...] = MODELS
    reports: Path | None = None
    device: str = "cpu"

    @classmethod
    def load(cls, app_dir: str | Path, conf: Mapping[str, str] | None = None) -> LabelSettings:
        """Read the folder's ``mgca.json``; what MONAI Label's ``--conf KEY VALUE`` gives comes before it.

        Args:
            app_dir: the folder of the app.
            conf: of "bundle", "models" (separated by commas), "reports" and "device"; other keys are MONAI Label's.

        Raises:
            DataError: when the bundle, the reports or a model does not exist.
        """
        app_dir = Path(app_dir).resolve()
        given: dict[str, Any] = {**read_settings(app_dir / FILE), **(conf or {})}
        if "bundle" not in given:
            raise DataError(f"{app_dir} holds no {FILE}: make an app folder with mgca label.")
        bundle, reports = Path(given["bundle"]).resolve(), given.get("reports")
        if not (bundle / "configs" / "metadata.json").is_file():
            raise DataError(f"bundle: {bundle} holds no configs/metadata.json. Name the folder of the MGCA bundle.")
        if reports and not Path(reports).is_dir():
            raise DataError(f"reports: there is no folder {reports}.")
        models = given.get("models") or MODELS
        models = tuple(name.strip() for name in models.split(",")) if isinstance(models, str) else tuple(models)
        if unknown := [name for name in models if name not in MODELS]:
            raise DataError(f"models: there is no {', '.join(unknown)}; there are {', '.join(MODELS)}.")
        import torch  # here: ``mgca label --help`` need not wait for it

        device = given.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(app_dir, bundle, models, Path(reports).resolve() if reports else None, device)

    def save(self) -> None:
        """Write ``mgca.json`` of the app's folder."""
        values = {"bundle": str(self.bundle), "models": list(self.models), "device": self.device}
        values |= {"reports": str(self.reports)} if self.reports else {}
        write_settings(self.app_dir / FILE, values)

    @property
    def pretrained(self) -> Path:
        """Both encoders of the pretraining: ``model_pretrain.pt`` of the bundle, ``model.json`` beside it."""
        return self.bundle / "models" / "model_pretrain.pt"

    @property
    def trained_dir(self) -> Path:
        """Where this server puts the weights that it trains."""
        return self.app_dir / "models"

    def weights(self, task: str) -> Path | None:
        """The newest weights of a task: those that this server trained, else the bundle's, never another task's.

        Args:
            task: "segmentation", "detection" or "classification".

        Returns:
            ``model_<task>.pt`` with its settings, in it or in ``model_<task>.json`` beside it; None when there is
            none yet.
        """
        for folder in (self.trained_dir, self.bundle / "models"):
            path = folder / f"model_{task}.pt"
            if path.is_file() and _has_settings(path):
                return path
        return None


def _has_settings(weights: Path) -> bool:
    try:
        return weights.with_suffix(".json").is_file() or bool(read_model_settings(weights, f"{weights.stem}.json"))
    except CheckpointError:  # who loads them says what is wrong with them
        return True
