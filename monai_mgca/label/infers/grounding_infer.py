# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Grounding as a model of MONAI Label: a phrase gives a mask."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from monai_mgca.apps import PhraseGrounder, PretrainedModel, read_reference
from monai_mgca.label.infers.task_infers import cause_of, write_result
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.label.radiograph_model import load_radiograph_model
from monai_mgca.label.request_values import number
from monai_mgca.utils import DataError
from monai_mgca.utils.errors import first_cause

__all__ = ["PhraseInfer"]

logger = logging.getLogger(__name__)

METHODS = ["attribution", "token"]
REFERENCE = 32


class PhraseInfer(InferTask):
    """Grounding on MONAI Label's server: a phrase becomes a heat map, or a mask of its hottest part.

    No weights but those of the pretraining are needed. What is usual at each place is what its training kept, or is
    learned from some of the studies, the same ones each time.

    Args:
        settings: of the app.
        studies: gives the paths of the datastore's images, one after the other, in an order of its own.
    """

    def __init__(self, settings: LabelSettings, studies: Callable[[], Iterable[str]]) -> None:
        self.settings, self.studies = settings, studies
        self._grounders: dict[tuple[str, int], PhraseGrounder] = {}
        self._loaded: tuple[int, PretrainedModel | Exception] | None = None
        self._lock = threading.Lock()
        config = {"text": "", "result": ["mask", "heat"], "threshold": 0.5, "method": METHODS}
        description = "Where the image shows what a phrase says, by the pretraining alone: put the phrase into 'text'"
        # as a segmentation, so that Slicer and OHIF list it
        super().__init__(InferType.SEGMENTATION, {"finding": 1}, 2, description, config)

    def is_valid(self) -> bool:
        return self.problem() is None

    def problem(self) -> str | None:
        """Why no phrase can be grounded, None where some can; that some study can be read is seen at a request."""
        return cause_of(self._load)

    def get_path(self, validate: bool = True) -> str | None:
        return str(self.settings.pretrained) if self.is_valid() else None

    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """
        Args:
            request: "image", the path of a file; "text", a finding in the words of reports; "result", "mask" or "heat";
                "threshold", the part of the map's maximum from which on the mask is 1; "method", see
                :class:`monai_mgca.apps.PhraseGrounder`.

        Returns:
            Path of a temporary file, a mask (uint8, 0 and 1) or a heat map (float32) of the image's own size and
            geometry; and the text, the similarity of image and phrase, and the map's peak [x, y] in pixels.
        """
        text, image = str(request.get("text") or ""), str(request["image"])
        kind, method = (self._choice(request, key) for key in ("result", "method"))
        threshold = number({**self.config(), **request}, "threshold", 0.01, 1)
        grounder = self._grounder(method)
        grounder.model.read_text(text)  # an empty or unknown phrase is refused before the work
        heat = grounder(image, [text])[0].numpy()
        similarity = float(grounder.model.embed_images([image]) @ grounder.model.embed_texts([text])[0])
        y, x = np.unravel_index(int(heat.argmax()), heat.shape)
        values = heat.astype(np.float32)
        if kind == "mask":
            values = ((heat >= threshold * heat.max()) & (heat > 0)).astype(np.uint8)
        result = {
            "text": text,
            "similarity": round(similarity, 4),
            "peak": [int(x), int(y)],
            "maximum": float(heat.max()),
        }
        return write_result(values, image, request), {**result, "label_names": self.labels}

    def _choice(self, request: dict[str, Any], key: str) -> str:
        allowed = self.config()[key]
        value = request.get(key) or allowed[0]
        value = value[0] if isinstance(value, list) else value  # a client may send the choices themselves
        if value not in allowed:
            raise HTTPException(400, f"{key} is one of {', '.join(allowed)}, not '{value}'.")
        return str(value)

    def _grounder(self, method: str) -> PhraseGrounder:
        time, model = self._load()
        version = (method, time)
        with self._lock:
            if version not in self._grounders:
                self._grounders = {key: value for key, value in self._grounders.items() if key[1] == time}
                reference = self._reference(model, method)
                if not reference:
                    raise HTTPException(409, "No study can be read: grounding needs some to know what is usual.")
                self._grounders[version] = PhraseGrounder(model, reference, method)
            return self._grounders[version]

    def _reference(self, model: PretrainedModel, method: str) -> Any:
        """What the training kept of its own images, as elsewhere; of other weights some studies."""
        kept = read_reference(self.settings.pretrained) or {}
        return kept if method in kept else list(islice(_readable(self.studies(), model), REFERENCE))

    def _load(self) -> tuple[int, PretrainedModel]:
        """The pretraining's model, with the time of its file; what cannot be loaded waits for another file."""
        path = self.settings.pretrained
        if not path.is_file():
            raise HTTPException(409, f"There is no {path.name} in the bundle: pretrain first.")
        time = path.stat().st_mtime_ns
        with self._lock:
            if self._loaded is None or self._loaded[0] != time:
                try:
                    self._loaded = time, load_radiograph_model(path, torch.device(self.settings.device))
                except DataError:  # what the weights need beside them may be put there
                    raise
                except Exception as error:
                    self._loaded = time, error
            time, found = self._loaded
        if isinstance(found, Exception):
            raise found
        return time, found


def _readable(paths: Iterable[str], model: PretrainedModel) -> Iterator[str]:
    for path in paths:
        try:
            model.image_transform({"image": path})
        except RuntimeError as error:
            logger.warning(f"left out of what is usual: {first_cause(error)}")
        else:
            yield path
