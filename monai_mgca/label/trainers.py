# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Finetuning by the bundle as trainers of MONAI Label."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import monai
import torch
from fastapi import HTTPException
from filelock import FileLock, Timeout
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser, ConfigWorkflow
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import device_list, name_to_device

from monai_mgca.data.datalist import read_datalist
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.label.labels_to_datalist import labels_to_datalist
from monai_mgca.label.request_values import number
from monai_mgca.label.store.saved_label import check_names
from monai_mgca.options import switches
from monai_mgca.utils import CheckpointError, read_settings, release_folders, write_settings
from monai_mgca.utils.run_log import stop_run_log
from monai_mgca.weights import load_network, read_model_settings

__all__ = ["BundleTrain"]

logger = logging.getLogger(__name__)

# what makes the network that weights fit into, by its name in a training's configuration and beside the weights
NETWORK = {"encoder": "image_encoder"} | {
    key: key for key in ("decoder", "in_channels", "image_size", "anchor_sizes", "anchor_ratios", "strides")
}
# and of volumes, also how they are fed
VOLUMES = {key: key for key in ("patch_size", "voxel_size", "hu_min", "hu_max", "intensity")}
# by the studies' dimensions: images at a time, and as many as are kept in memory between epochs
BATCH, CACHED = {2: 8, 3: 2}, {2: 2000, 3: 200}


class BundleTrain(TrainTask):
    """Trains on what annotators saved, by the bundle's own ``train_<task>.json``, for the model of the same name.

    It goes on from the weights that are served now where the classes are the same, else it begins from the pretrained
    encoder. Weights that are better than those it went on from, on the images that validate, go to the app's folder and
    are served from then on; the bundle's stay as they are. A training that fails or is stopped changes nothing.

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
            "batch_size": BATCH[self.settings.spatial_dims],
            "learning_rate": 0.0005,
            "freeze_encoder": True,
            "classes": "",
        }

    def stats(self) -> dict[str, Any]:
        """How far a training is, or how the last one ended; nothing, where the file with these figures is damaged."""
        try:
            return read_settings(self._partial / self._stats.name) or read_settings(self._stats)
        except CheckpointError as error:
            logger.warning(str(error))
            return {}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """
        Args:
            request: values for the keys of the configuration. "pretrained": go on from the weights now served, else
                the new ones take their place however good they are; "classes": names of the classes, separated by
                commas, where they are not those of these weights.
            datastore: of the studies and labels.

        Returns:
            what :meth:`stats` gives from then on.

        Raises:
            DataError: when the labels cannot be used, naming their images.
            HTTPException: when a value of the request cannot be used, there is no pretrained encoder, or the model is
                being trained.
        """
        start = time.time()
        values = self._checked({**self.config(), **request})
        served = self.settings.weights(self.task)
        known = read_model_settings(served, served.with_suffix(".json").name) if served else {}
        with self._alone():
            wanted = values["classes"] or known.get("classes")
            if wanted and set(wanted) == set(known.get("classes") or ()):
                wanted = known["classes"]  # named in another order, they are the same classes, and can be compared
            datalist = labels_to_datalist(datastore, self.task, wanted, values["val_split"])
            content = read_datalist(datalist)
            classes = content["box_classes" if self.task == "detection" else "mask_classes"]
            if not values["pretrained"] or classes != known.get("classes"):
                served = None
            images = len(content["training"])
            stats = self._train(self._overrides(values, known, classes, datalist, images), served)
            if better := stats["before"] is None or stats["best_metric"] > stats["before"]:
                for ending in (".json", ".pt"):  # who serves looks at the time of the second
                    name = f"model_{self.task}{ending}"
                    os.replace(self._partial / name, self.settings.trained_dir / name)
            counts = {"training_images": images, "validation_images": len(content["validation"])}
            stats |= {**counts, "new_weights": better, "total_time": f"{time.time() - start:.0f} s"}
            write_settings(self._stats, stats)
        figure = f"{stats['key_metric']} {stats['best_metric']:.4f}, before {stats['before']}"
        kept = "" if better else "no epoch was better than the weights served before, which stay; "
        logger.info(f"{self.task}: {kept}served: {self.settings.weights(self.task)}; {figure}.")
        return stats

    @property
    def _stats(self) -> Path:
        return self.settings.trained_dir / f"train_{self.task}.json"

    @property
    def _partial(self) -> Path:
        """The folder of a training that is not done."""
        return self.settings.trained_dir / f".{self.task}"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One training of a task at a time, in whichever process; what a stopped one left goes first."""
        self.settings.trained_dir.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.settings.trained_dir / f".{self.task}.lock", timeout=0):
                shutil.rmtree(self._partial, ignore_errors=True)
                try:
                    yield
                finally:
                    shutil.rmtree(self._partial, ignore_errors=True)
        except Timeout:
            raise HTTPException(409, f"{self.task} is being trained: wait, or DELETE /train/.") from None

    def _checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The request's values by their types. No text of a client may reach a configuration, which runs it."""
        names = values["classes"] or []
        names = names.split(",") if isinstance(names, str) else names
        if not isinstance(names, list):
            raise HTTPException(400, f"classes are names separated by commas, not {names!r}.")
        classes = [str(name).strip() for name in names if str(name).strip()]
        check_names(classes)
        device = values["device"]
        device = self.settings.device if isinstance(device, list) or not device else str(device)
        try:
            given = torch.device(name_to_device(device))
            truths = vars(switches(**{key: values[key] for key in ("pretrained", "freeze_encoder")}))
        except (RuntimeError, ValueError) as error:
            raise HTTPException(400, str(error).splitlines()[0]) from None
        return {
            **truths,
            "classes": classes,
            "device": given,
            "val_split": number(values, "val_split", 0.01, 0.99),
            "learning_rate": number(values, "learning_rate", 1e-8, 1),
            **{key: int(number(values, key, 1, 100000)) for key in ("max_epochs", "batch_size")},
        }

    def _overrides(
        self, values: Mapping[str, Any], known: Mapping[str, Any], classes: list[str], datalist: Path, images: int
    ) -> dict[str, Any]:
        """What is set in the bundle's configuration."""
        encoder, dims = self.settings.weights_dir / "model.pt", self.settings.spatial_dims
        if not encoder.is_file():
            raise HTTPException(409, f"There is no {encoder.name} in the bundle: pretrain first.")
        names = NETWORK | (VOLUMES if dims == 3 else {})
        return {
            "bundle_root": str(self.settings.bundle),
            "dataset_dir": str(datalist.parents[2]),
            "data_list_file_path": str(datalist),
            "ckpt_dir": str(self._partial),
            "output_dir": str(self.settings.app_dir / "eval"),
            "pretrained_path": str(encoder),
            "device": values["device"],
            "classes": classes,
            "epochs": values["max_epochs"],
            "batch_size": min(values["batch_size"], images),
            "learning_rate": values["learning_rate"],
            "freeze_encoder": values["freeze_encoder"],
            "cache": "memory" if images < CACHED[dims] else "none",
            "num_workers": 0,
            **({"label_key": "mask"} if self.task == "segmentation" else {}),
            **{key: known[name] for key, name in names.items() if known.get(name) is not None},
        }

    def _train(self, overrides: dict[str, Any], served: Path | None) -> dict[str, Any]:
        """Run the bundle's training; gives its key metric, before and at its best."""
        configs = self.settings.bundle / "configs"
        config = [str(configs / f"train_{self.task}.json")]
        handlers = ConfigParser.load_config_file(config[0])["train"]["main_process_handlers"]
        if self.settings.spatial_dims == 3:
            config.append(str(configs / f"train_{self.task}_volume.json"))
        # the files that the summary names are about to move
        overrides["train#main_process_handlers"] = [h for h in handlers if not h["_target_"].endswith("RunSummary")]
        hook, before = sys.excepthook, None
        workflow = ConfigWorkflow(config, workflow_type="train", logging_file=False, **overrides)
        try:
            workflow.initialize()
            evaluator = workflow.evaluator
            if served is not None:
                load_network(workflow.network_def, served)
                logger.info(f"All weights start from those that are served, {served}; first they are validated.")
                evaluator.run()  # an epoch has to be better than these
                before = float(evaluator.state.best_metric)

            def stats(trainer: Engine | None = None) -> dict[str, Any]:
                state = evaluator.state
                reached = {
                    "key_metric": state.key_metric_name,
                    "before": before,
                    "best_metric": float(state.best_metric),
                }
                epoch = (trainer or workflow.trainer).state.epoch
                reached |= {"epoch": epoch, "total_epochs": overrides["epochs"]}
                write_settings(self._partial / self._stats.name, reached)
                return reached

            workflow.trainer.add_event_handler(Events.EPOCH_COMPLETED, stats)
            workflow.run()
            workflow.finalize()
            return stats()
        finally:
            sys.excepthook = hook
            stop_run_log()
            names = ("ckpt_dir", "output_dir")
            release_folders({name: os.path.join(overrides[name], self.task) for name in names})
            monai.utils.set_determinism(seed=None)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
