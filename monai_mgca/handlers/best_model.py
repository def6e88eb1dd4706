# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Saves the network with the best validation metric, with the settings that it is built of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from ignite.handlers.checkpoint import BaseSaveHandler
from monai.handlers import CheckpointSaver
from torch import nn

from monai_mgca.networks.adaptation.lora import MergedWeights
from monai_mgca.utils.dist import rank
from monai_mgca.utils.files import remove_unfinished, replacing, write_settings
from monai_mgca.weights.adapter_files import write_adapters
from monai_mgca.weights.model_settings import add_settings
from monai_mgca.weights.report_encoder_files import keep_report_encoder

__all__ = ["BestModelSaver"]


class BestModelSaver(CheckpointSaver):
    """Saves the network of the best validation, in a file that is always there and whole once it was written.

    MONAI's handler removes the file of the last best before it writes the new one in place; a training that is killed
    in between has neither. This one writes beside it and renames. And MONAI takes the first validation for the best
    even if its key metric is not finite, and none after it is better than nan; here such a validation never counts.

    What inference must know of the network is written into the same file, so that it always is of these weights: they
    take their place in one step, and a training that ends before its first validation changes neither.

    Of a network with adapters (:func:`monai_mgca.networks.add_adapters`) the file has the weights with these merged in,
    by the names that they have without.

    Args:
        save_dir: folder of the file.
        save_dict: the network, by any name.
        key_metric_filename: name of the file.
        settings: plain values, which :func:`monai_mgca.weights.read_model_settings` reads again. The folder or hub name
            under "report_encoder" is copied beside the file, and named by its place there.
        settings_filename: of a JSON file beside it with the same settings, for people to read.
        adapters: a folder, in which the adapters of each tower are written alone too, if there are any.
        kwargs: see :class:`monai.handlers.CheckpointSaver`.

    Example::

        BestModelSaver("models", {"model": network}, key_metric_filename="model.pt").attach(evaluator)
    """

    def __init__(
        self,
        save_dir: str,
        save_dict: dict,
        key_metric_filename: str,
        settings: Mapping[str, Any] | None = None,
        settings_filename: str | None = None,
        adapters: str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["save_key_metric"] = True
        self.key_metric_filename = key_metric_filename
        merged = {name: MergedWeights(network) for name, network in save_dict.items()}
        super().__init__(save_dir, merged, key_metric_filename=key_metric_filename, **kwargs)
        checkpoint: Any = self._key_metric_checkpoint
        self._file = checkpoint.save_handler = _WholeFile(
            Path(save_dir) / key_metric_filename, settings, settings_filename
        )
        self._file.adapters = [(network, adapters) for network in save_dict.values() if adapters is not None]

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the validation engine.
        """
        super().attach(engine)
        self._file.tidy()

    def metrics_completed(self, engine: Engine) -> None:
        """
        Args:
            engine: of the validation, which has come to its end.
        """
        state: Any = engine.state  # MONAI adds what Ignite does not declare
        value = float(state.metrics[state.key_metric_name])
        if math.isfinite(value):
            super().metrics_completed(engine)
            return
        self.logger.warning(
            f"{state.key_metric_name} is {value} in epoch {state.epoch}: this network is not the best one, whatever "
            f"comes; {self.key_metric_filename} stays as it is."
        )
        if not math.isfinite(state.best_metric):
            # none yet
            state.best_metric, state.best_metric_epoch = -1, -1


class _WholeFile(BaseSaveHandler):
    def __init__(self, path: Path, settings: Mapping[str, Any] | None, settings_filename: str | None) -> None:
        self.path, self.settings, self.settings_filename = path, settings, settings_filename
        self.adapters: list[tuple[nn.Module, str]] = []

    def __call__(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        if rank() > 0:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        settings = self._travelling()
        with replacing(self.path, sync=True) as temporary:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
            if settings is not None:
                add_settings(temporary, settings)
        if settings is not None and self.settings_filename is not None:
            write_settings(self.path.with_name(self.settings_filename), settings)
        for network, folder in self.adapters:
            write_adapters(network, folder)

    def _travelling(self) -> dict[str, Any] | None:
        """The settings, with what they name beside the weights."""
        settings = None if self.settings is None else dict(self.settings)
        if settings and isinstance(source := settings.get("report_encoder"), str):
            settings["report_encoder"] = keep_report_encoder(source, self.path.parent)
            if not settings.get("use_sample"):
                settings["report_encoder_source"] = source
        return settings

    def remove(self, filename: str) -> None:
        """The new file takes the place of the old one."""

    def tidy(self) -> None:
        """Remove what killed trainings left half written."""
        # beside the network its settings, as in model.pt and model.json
        remove_unfinished(self.path.parent, self.path.stem)
