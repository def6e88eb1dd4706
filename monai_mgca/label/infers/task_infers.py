# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Segmentation, detection and classification as models of MONAI Label."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import HTTPException
from monai.bundle import ConfigParser
from monai.transforms import AsDiscreted, Compose, Invertd
from monai.utils import CommonKeys
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from monai_mgca.handlers.detection_saver import as_coco
from monai_mgca.io.geometry import read_geometry
from monai_mgca.io.volumes.volume_geometry import read_volume_geometry
from monai_mgca.label.infers.outlier_check import OutlierCheck
from monai_mgca.label.infers.results import extensions, temporary_name, write_result, write_volume_result
from monai_mgca.label.infers.volume_slabs import restored_slabs
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.label.request_values import number
from monai_mgca.label.store.markups import boxes_to_markups
from monai_mgca.label.store.volume_markups import volume_boxes_to_markups
from monai_mgca.transforms import SaveMaskd, decision_thresholds
from monai_mgca.utils.errors import first_cause
from monai_mgca.weights import load_network
from monai_mgca.weights.calibration_file import calibration_path
from monai_mgca.weights.model_settings import naming_settings

__all__ = ["BundleInfer", "ClassificationInfer", "DetectionInfer", "SegmentationInfer"]

logger = logging.getLogger(__name__)

IMAGE, PRED = CommonKeys.IMAGE, CommonKeys.PRED


class BundleInfer(InferTask):
    """A finetuned network on MONAI Label's server: the bundle's ``inference_<task>.json`` for one image at a time.

    The configuration defines the network, the transforms before and after it and the inferer. The weights are the
    task's own, loaded strictly and as tensors alone, and read again when their file has changed; until there are some
    the model is not listed.

    Args:
        settings: of the app.
        task: "segmentation", "detection" or "classification".
        description: for clients.
        config: what a request may hold, with its default; Slicer shows it among its options.
        outliers: which other models may share.
    """

    def __init__(
        self,
        settings: LabelSettings,
        task: str,
        description: str,
        config: dict[str, Any],
        outliers: OutlierCheck | None = None,
    ) -> None:
        self.settings, self.task = settings, task
        self.outliers = outliers or OutlierCheck(settings)
        self._loaded: tuple[tuple, ConfigParser, torch.nn.Module] | None = None
        self._failed: tuple[tuple, Exception] | None = None
        self._lock = threading.Lock()
        super().__init__(InferType(task), None, settings.spatial_dims, description, config)

    def is_valid(self) -> bool:
        return self.problem() is None

    def problem(self) -> str | None:
        """Why no image can be answered, None where one can: what the server says at its start, and leaves out after."""
        return cause_of(self._load)

    def get_path(self, validate: bool = True) -> str | None:
        return str(self.settings.weights(self.task)) if self.is_valid() else None

    def info(self) -> dict[str, Any]:
        classes = [] if self.problem() else self.classes
        return {**super().info(), "labels": {name: index for index, name in enumerate(classes, self.first_index)}}

    @property
    def first_index(self) -> int:
        """The value of the first class in a result."""
        return 0

    @property
    def classes(self) -> list[str]:
        """Names of the classes of the weights now in use."""
        return list(self._load()[0].get_parsed_content("classes"))

    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """
        Args:
            request: "image", the path of a file, and values for the keys of the configuration.

        Returns:
            The path of a temporary file with the result, or None where it is all in the dict; and that dict, with what
            :class:`OutlierCheck` gives.
        """
        start, image = time.time(), os.fspath(request[IMAGE])
        values = {**self.config(), **request}
        self._load()  # without weights nothing of the image is of interest
        with torch.no_grad():
            outlier = self.outliers(image)
            file, result = self.predict(image, values)
        seconds = round(time.time() - start, 3)
        logger.info(f"{self.task}: {seconds} s")
        return file, {**result, **outlier, "label_names": self.info()["labels"], "latencies": {"total": seconds}}

    @abstractmethod
    def predict(self, image: str, values: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """One image's result, as a call gives it."""

    def run_network(self, image: str) -> tuple[dict[str, Any], Compose]:
        """The item of an image with the network's output as "pred", and the transforms that come after it."""
        parser, network = self._load()
        item = parser.get_parsed_content("preprocessing")({IMAGE: image})
        batch = item[IMAGE].as_tensor()[None].to(self.settings.device)
        item[PRED] = parser.get_parsed_content("inferer")(batch, network)[0]
        after = parser.get_parsed_content("postprocessing")
        after = after.transform if hasattr(after, "transform") else after
        # the bundle's transform that writes files writes into the bundle
        return item, Compose([step for step in after.transforms if not isinstance(step, SaveMaskd)])

    def _load(self) -> tuple[ConfigParser, torch.nn.Module]:
        path = self.settings.weights(self.task)
        if path is None:
            raise HTTPException(
                409, f"There are no weights of {self.task} yet: POST /train/{self.task}, or train_{self.task}.json."
            )
        fitted = calibration_path(path)
        version = (str(path), path.stat().st_mtime_ns, fitted.stat().st_mtime_ns if fitted.is_file() else None)
        with self._lock:
            if self._failed and self._failed[0] == version:
                raise self._failed[1]
            if self._loaded is None or self._loaded[0] != version:
                try:
                    self._loaded = version, *self._read(path)
                except Exception as error:  # every request begins with all infos: once is enough
                    self._failed = version, error
                    raise
            return self._loaded[1:]

    def _read(self, path: Path) -> tuple[ConfigParser, torch.nn.Module]:
        self.settings.check_dims(path, f"{path.stem}.json")
        parser = ConfigParser()
        parser.read_config(self.settings.bundle / "configs" / f"inference_{self.task}.json")
        parser["bundle_root"], parser["pretrained_path"] = str(self.settings.bundle), str(path)
        with naming_settings(path, f"{path.stem}.json"):
            network = parser.get_parsed_content("network_def")
            parser.get_parsed_content("classes")
        load_network(network, path)
        parser.get_parsed_content("postprocessing")
        parser.get_parsed_content("preprocessing")  # what cannot be done to an image is known before there is one
        return parser, network.to(self.settings.device).eval()


class SegmentationInfer(BundleInfer):
    """Segmentation: a label map of the image's own size and geometry, uint8, 0 for nothing, then 1 for the first class.

    Where classes overlap, the more probable one is written.
    """

    def __init__(self, settings: LabelSettings, outliers: OutlierCheck | None = None) -> None:
        config = {"result_extension": extensions(settings.spatial_dims)}
        super().__init__(settings, "segmentation", "Segments every class of the finetuned network", config, outliers)

    @property
    def first_index(self) -> int:
        return 1

    def predict(self, image: str, values: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        item, after = self.run_network(image)
        steps = after.transforms
        split = next(index for index, step in enumerate(steps) if isinstance(step, AsDiscreted))
        before, after = list(steps[:split]), Compose(steps[split:])
        if self.settings.spatial_dims == 2:
            return write_result(_most_probable(Compose(before)(item)[PRED], after), image, values), {}
        item = Compose([step for step in before if not isinstance(step, Invertd)])(item)
        geometry = read_volume_geometry(image)
        labels = np.zeros(geometry.size, np.uint8, order="F")
        probabilities = torch.as_tensor(item[PRED]).float().cpu()
        for place, slab in restored_slabs(probabilities, item[IMAGE].affine, geometry):
            labels[..., place] = _most_probable(slab, after)
        return write_volume_result(labels, geometry, values), {}

    def probabilities(self, image: str) -> torch.Tensor:
        """(C, h, w) of an image at the network's size, or (C, x, y, z) of a volume, on the CPU."""
        with torch.no_grad():
            return self.run_network(image)[0][PRED].float().sigmoid().cpu()


def _most_probable(probabilities: torch.Tensor, discrete: Compose) -> np.ndarray:
    """Of (C, ...) probabilities the number of the most probable class that is inside, from 1 on, or 0."""
    inside = discrete({PRED: probabilities})[PRED].bool()
    best = torch.where(inside, probabilities, 0).argmax(0) + 1
    return torch.where(inside.any(0), best, 0).cpu().numpy().astype(np.uint8)


class DetectionInfer(BundleInfer):
    """Detection: boxes as Slicer's markups, and in the result with class and score, the best first.

    Of radiographs they are in pixels, of volumes in RAS and mm.
    """

    def __init__(self, settings: LabelSettings, outliers: OutlierCheck | None = None) -> None:
        config = {"score_threshold": 0.3}
        super().__init__(settings, "detection", "Finds the findings that the finetuned network knows", config, outliers)

    def predict(self, image: str, values: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        threshold, axes = number(values, "score_threshold", 0, 1), self.settings.spatial_dims
        item, after = self.run_network(image)
        found = after({IMAGE: item[IMAGE], **item[PRED]})
        found = [entry for entry in as_coco(found, self.classes, "", 0) if entry["score"] >= threshold]
        boxes = np.array([entry["bbox"] for entry in found], dtype=float).reshape(-1, 2 * axes)
        boxes[:, axes:] += boxes[:, :axes]
        names, scores = [entry["category_name"] for entry in found], [entry["score"] for entry in found]
        if axes == 3:
            content = volume_boxes_to_markups(boxes, names, scores, read_volume_geometry(image))
        else:
            content = boxes_to_markups(boxes, names, scores, read_geometry(image))
        path = temporary_name(".json")
        path.write_text(json.dumps(content), encoding="utf-8")
        places = {"box_mm" if axes == 3 else "box_pixels": boxes.round(2).tolist()}
        result = {**places, "label": [entry["category_id"] for entry in found]}
        return str(path), {**result, "label_name": names, "label_scores": scores}


class ClassificationInfer(BundleInfer):
    """Classification: the probability of every class, the highest first; no file.

    Where ``mgca calibrate`` has fitted the weights, the probabilities are calibrated, and "present" is the decision at
    the chosen operating point.
    """

    def __init__(self, settings: LabelSettings, outliers: OutlierCheck | None = None) -> None:
        description = "Probability of every class of the finetuned network"
        super().__init__(settings, "classification", description, {}, outliers)

    def predict(self, image: str, values: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        scores = self.probabilities(image).tolist()
        lowest = decision_thresholds(self._load()[0].get_parsed_content("calibration"))
        rows = [
            {"idx": index, "label": name, "score": round(score, 6)}
            | ({"present": score >= lowest[name]} if name in lowest else {})
            for index, (name, score) in enumerate(zip(self.classes, scores, strict=True))
        ]
        return None, {"prediction": sorted(rows, key=lambda row: -row["score"])}

    def probabilities(self, image: str) -> torch.Tensor:
        """(C,) of an image, on the CPU."""
        with torch.no_grad():
            item, after = self.run_network(image)
            return after(item)[PRED].cpu()


def cause_of(load: Callable[[], Any]) -> str | None:
    """Why a model cannot be loaded, in the words of the error; None when it can.

    Args:
        load: of a task.
    """
    try:
        load()
    except HTTPException as error:
        return str(error.detail)
    except Exception as error:  # a model that fails in any way leaves the others
        return str(first_cause(error))
    return None
