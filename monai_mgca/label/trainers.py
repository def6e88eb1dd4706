# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai
import torch
from fastapi import HTTPException
from monai.bundle import ConfigWorkflow
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import device_list, name_to_device

from monai_mgca.data.datalist import read_datalist
from monai_mgca.label.labels import labels_to_datalist
from monai_mgca.label.settings import LabelSettings
from monai_mgca.label.strategies import number
from monai_mgca.networks import load_network
from monai_mgca.utils import read_settings, write_settings

__all__ = ["BundleTrain"]

logger = logging.getLogger(__name__)

# what makes the network that weights fit into
NETWORK = ("encoder", "decoder", "in_channels", "image_size", "anchor_sizes", "anchor_ratios", "strides")


class BundleTrain(TrainTask):
    """Trains on what annotators saved, by the bundle's own ``train_<task>.json``, for the model of the same name.

    It goes on from the weights that are served now, or begins from the pretrained encoder where there are none. New
    weights go to the app's folder and are served from then on; the bundle's stay as they are. The weights of the best
    epoch are kept, and those that it began with are one of these: what is served gets no worse on the images that
    validate. A training that fails changes nothing.

    Args:
        settings: of the app.
        task: "segmentation" or "detection".
    """

    def __init__(self, settings: LabelSettings, task: str) -> None:
        super().__init__(f"Trains the model '{task}' on the labels that were saved as final")
        self.settings, self.task = settings, task

    def config(self) -> dict[str, Any]:
        return {
            "device": device_list(),
            "pretrained": True,
            "max_epochs": 20,
            "val_split": 0.2,
            "batch_size": 8,
            "learning_rate": 0.0005,
            "freeze_encoder": True,
            "classes": "",
        }

    def stats(self) -> dict[str, Any]:
        return read_settings(self._stats_path)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """
        Args:
            request: values for the keys of the configuration. "pretrained": go on from the weights now served;
                "classes": names of the classes, separated by commas, where they are not those of these weights.
            datastore: of the studies and labels.

        Returns:
            what :meth:`stats` gives from then on.

        Raises:
            DataError: when the labels cannot be used, naming their images.
            HTTPException: when a value of the request is none that can be used, or there is no pretrained encoder.
        """
        start = time.time()
        values = {**self.config(), **request}
        served = self.settings.weights(self.task) if values["pretrained"] else None
        known = read_settings(served.with_suffix(".json")) if served else {}
        classes = [name.strip() for name in str(values["classes"] or "").split(",") if name.strip()]
        split = number(values, "val_split", 0.01, 0.99)
        datalist = labels_to_datalist(datastore, self.task, classes or known.get("classes"), split)
        content = read_datalist(datalist)
        classes = content["box_classes" if self.task == "detection" else "mask_classes"]
        if classes != known.get("classes"):
            served, known = None, {}
        partial = self.settings.trained_dir / f".{self.task}.{os.getpid()}"
        try:
            overrides = self._overrides(values, known, classes, datalist, partial, len(content["training"]))
            stats = self._run(overrides, served)
            for ending in (".json", ".pt"):
                name = f"model_{self.task}{ending}"
                os.replace(partial / name, self.settings.trained_dir / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        counts = {"images": len(content["training"]), "validation_images": len(content["validation"])}
        stats |= {**counts, "total_time": f"{time.time() - start:.0f} s"}
        write_settings(self._stats_path, stats)
        logger.info(f"Served from now on: {self.settings.weights(self.task)}; {json.dumps(stats)}")
        return stats

    @property
    def _stats_path(self) -> Path:
        return self.settings.trained_dir / f"train_{self.task}.json"

    def _overrides(
        self,
        values: Mapping[str, Any],
        known: Mapping[str, Any],
        classes: list[str],
        datalist: Path,
        partial: Path,
        images: int,
    ) -> dict[str, Any]:
        """What is set in the bundle's configuration."""
        encoder = self.settings.bundle / "models" / "model.pt"
        if not encoder.is_file():
            raise HTTPException(409, f"There is no {encoder.name} in the bundle: pretrain first.")
        device = name_to_device(values["device"] if isinstance(values["device"], str) else self.settings.device)
        network = {key: known["image_encoder" if key == "encoder" else key] for key in NETWORK if _knows(known, key)}
        return {
            "bundle_root": str(self.settings.bundle),
            "dataset_dir": str(datalist.parents[2]),
            "data_list_file_path": str(datalist),
            "ckpt_dir": str(partial),
            "output_dir": str(self.settings.app_dir / "eval"),
            "pretrained_path": str(encoder),
            "device": f"$torch.device('{device}')",
            "classes": classes,
            "epochs": int(number(values, "max_epochs", 1, 100000)),
            "batch_size": min(int(number(values, "batch_size", 1, 100000)), images),
            "learning_rate": number(values, "learning_rate", 0, 1),
            "freeze_encoder": bool(values["freeze_encoder"]),
            "cache": "memory" if images < 2000 else "none",
            "num_workers": 0,
            **({"label_key": "mask"} if self.task == "segmentation" else {}),
            **network,
        }

    def _run(self, overrides: Mapping[str, Any], served: Path | None) -> dict[str, Any]:
        """Run the bundle's training; gives its key metric, before and at its best."""
        hook = sys.excepthook
        config = self.settings.bundle / "configs" / f"train_{self.task}.json"
        workflow = ConfigWorkflow(str(config), workflow_type="train", logging_file=False, **overrides)
        try:
            workflow.initialize()
            evaluator, before = workflow.evaluator, None
            if served is not None:
                load_network(workflow.network_def, served)
                evaluator.run()  # so that an epoch has to be better than these
                before = float(evaluator.state.best_metric)
            workflow.run()
            workflow.finalize()
        finally:
            sys.excepthook = hook
            monai.utils.set_determinism(seed=None)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        state = evaluator.state
        best = float(state.best_metric)
        return {
            "key_metric": state.key_metric_name,
            "before": before,
            "best_metric": best,
            "epoch": overrides["epochs"],
        }


def _knows(known: Mapping[str, Any], key: str) -> bool:
    return known.get("image_encoder" if key == "encoder" else key) is not None
