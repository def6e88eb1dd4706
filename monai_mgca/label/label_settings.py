# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The settings of the app, as MONAI Label hands them over."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_mgca.utils import CheckpointError, DataError, read_settings, write_settings
from monai_mgca.weights import read_model_settings

__all__ = ["MODELS", "LabelSettings"]

TASKS = ("segmentation", "detection", "classification")
MODELS = (*TASKS, "grounding")
FILE = "mgca.json"
# what studies are, by the weights' spatial_dims
NAMES = {2: "radiographs", 3: "volumes"}


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
        ckpt_dir: folder of the pretraining's and the finetuned weights; None for the bundle's ``models/``.
        spatial_dims: 3 where these weights are of volumes, so that the studies are volumes; else 2.
    """

    app_dir: Path
    bundle: Path
    models: tuple[str, ...] = MODELS
    reports: Path | None = None
    device: str = "cpu"
    ckpt_dir: Path | None = None
    spatial_dims: int = 2

    @classmethod
    def load(cls, app_dir: str | Path, conf: Mapping[str, str] | None = None) -> LabelSettings:
        """Read the folder's ``mgca.json``; what MONAI Label's ``--conf KEY VALUE`` gives comes before it.

        Args:
            app_dir: the folder of the app.
            conf: of "bundle", "models" (separated by commas), "reports", "device" and "ckpt_dir"; other keys are MONAI
                Label's. Where no "ckpt_dir" is given and the bundle holds a pretraining on volumes alone, it is that
                one's folder, ``models/volume``.

        Raises:
            DataError: when the bundle, the reports or a model does not exist, or some of the weights are of radiographs
                and others of volumes.
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
        ckpt_dir = _ckpt_dir(given.get("ckpt_dir"), bundle)
        settings = cls(app_dir, bundle, models, Path(reports).resolve() if reports else None, device, ckpt_dir)
        return replace(settings, spatial_dims=_common_dims(settings))

    def save(self) -> None:
        """Write ``mgca.json`` of the app's folder."""
        values = {"bundle": str(self.bundle), "models": list(self.models), "device": self.device}
        values |= {name: str(path) for name in ("reports", "ckpt_dir") if (path := getattr(self, name))}
        write_settings(self.app_dir / FILE, values)

    @property
    def weights_dir(self) -> Path:
        """Where the pretraining's and the finetuned weights are; nothing is written there."""
        return self.ckpt_dir or self.bundle / "models"

    @property
    def pretrained(self) -> Path:
        """Both encoders of the pretraining: ``model_pretrain.pt``, ``model.json`` beside it."""
        return self.weights_dir / "model_pretrain.pt"

    @property
    def trained_dir(self) -> Path:
        """Where this server puts the weights that it trains."""
        return self.app_dir / "models"

    def weights(self, task: str) -> Path | None:
        """The newest weights of a task: those that this server trained, else those given, never another task's.

        Args:
            task: "segmentation", "detection" or "classification".

        Returns:
            ``model_<task>.pt`` with its settings, in it or in ``model_<task>.json`` beside it; None when there is
            none yet.
        """
        for folder in (self.trained_dir, self.weights_dir):
            path = folder / f"model_{task}.pt"
            if path.is_file() and _has_settings(path):
                return path
        return None

    def check_dims(self, weights: Path, name: str) -> None:
        """Refuse weights of radiographs where the studies are volumes, and the other way round.

        Args:
            weights: that are about to be served.
            name: of the JSON file beside them.

        Raises:
            CheckpointError: saying what they are of.
        """
        dims = read_model_settings(weights, name).get("spatial_dims", 2)
        if dims != self.spatial_dims:
            raise CheckpointError(
                f"{weights} was trained on {NAMES.get(dims, dims)}, and the studies here are "
                f"{NAMES[self.spatial_dims]}: start a server of its own for it, with --ckpt-dir and --app-dir."
            )


def _ckpt_dir(given: Any, bundle: Path) -> Path | None:
    if given:
        if not Path(given).is_dir():
            raise DataError(f"ckpt_dir: there is no folder {given}.")
        return Path(given).resolve()
    volume = bundle / "models" / "volume"
    others = [bundle / "models" / f"model_{name}.pt" for name in ("pretrain", *TASKS)]
    return volume if (volume / others[0].name).is_file() and not any(path.is_file() for path in others) else None


def _common_dims(settings: LabelSettings) -> int:
    """What all weights that are there say of the studies; radiographs, where there are none yet."""
    files = {settings.pretrained: "model.json"} if settings.pretrained.is_file() else {}
    for name in TASKS:
        if name in settings.models and (path := settings.weights(name)):
            files[path] = f"{path.stem}.json"
    found: dict[int, Path] = {}
    for path, name in files.items():
        with suppress(CheckpointError):  # who loads them says what is wrong with them
            found.setdefault(read_model_settings(path, name).get("spatial_dims", 2), path)
    if len(found) > 1:
        sides = " and ".join(f"{path} is of {NAMES.get(dims, dims)}" for dims, path in found.items())
        raise DataError(
            f"{sides}: a server has one kind of studies. Name the folder of the weights that belong together by "
            "--ckpt-dir, and an --app-dir of its own, or leave models out by --models."
        )
    return next(iter(found), 2)


def _has_settings(weights: Path) -> bool:
    try:
        return weights.with_suffix(".json").is_file() or bool(read_model_settings(weights, f"{weights.stem}.json"))
    except CheckpointError:  # who loads them says what is wrong with them
        return True
