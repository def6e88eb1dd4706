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
from monai.utils import CommonKeys
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from monai_mgca.apps import PhraseGrounder, PretrainedModel, read_reference
from monai_mgca.io.volumes.volume_geometry import read_volume_geometry
from monai_mgca.label.infers.outlier_check import OutlierCheck
from monai_mgca.label.infers.results import write_result, write_volume_result
from monai_mgca.label.infers.task_infers import cause_of
from monai_mgca.label.infers.volume_slabs import restored_slabs
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.label.request_values import number
from monai_mgca.label.served_model import load_served_model
from monai_mgca.utils import DataError
from monai_mgca.utils.errors import first_cause

__all__ = ["PhraseInfer"]

logger = logging.getLogger(__name__)

METHODS = ["attribution", "token"]
# images to learn from what is usual, by their dimensions: of a volume each takes seconds to read
REFERENCE = {2: 32, 3: 8}


class PhraseInfer(InferTask):
    """Grounding on MONAI Label's server: a phrase becomes a heat map, or a mask of its hottest part.

    No weights but those of the pretraining are needed. What is usual at each place is what its training kept, or is
    learned from some of the studies, the same ones each time.

    Args:
        settings: of the app.
        studies: gives the paths of the datastore's images, one after the other, in an order of its own.
        outliers: which other models may share.
    """

    def __init__(
        self, settings: LabelSettings, studies: Callable[[], Iterable[str]], outliers: OutlierCheck | None = None
    ) -> None:
        self.settings, self.studies = settings, studies
        self.outliers = outliers or OutlierCheck(settings)
        self._grounders: dict[tuple[str, int], PhraseGrounder] = {}
        self._loaded: tuple[int, PretrainedModel | Exception] | None = None
        self._lock = threading.Lock()
        config = {"text": "", "result": ["mask", "heat"], "threshold": 0.5, "method": METHODS}
        description = "Where the image shows what a phrase says, by the pretraining alone: put the phrase into 'text'"
        # as a segmentation, so that Slicer and OHIF list it
        super().__init__(InferType.SEGMENTATION, {"finding": 1}, settings.spatial_dims, description, config)

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
            geometry; and the text, the similarity of image and phrase, the map's peak [x, y] in pixels, of a volume
            [x, y, z] in voxels of its file, and what :class:`OutlierCheck` gives.
        """
        text, image = str(request.get("text") or ""), str(request["image"])
        kind, method = (self._choice(request, key) for key in ("result", "method"))
        threshold = number({**self.config(), **request}, "threshold", 0.01, 1)
        grounder = self._grounder(method)
        grounder.model.read_text(text)  # an empty or unknown phrase is refused before the work
        draw, write = (_volume, _write_volume) if self.settings.spatial_dims == 3 else (_radiograph, write_result)
        heat, similarity = draw(grounder, image, text)
        rows = heat.T if heat.ndim == 3 else heat  # as it lies in memory: a volume is not copied
        peak = np.unravel_index(int(rows.argmax()), rows.shape)[::-1]
        greatest = float(heat.max())
        values = ((heat >= threshold * greatest) & (heat > 0)).astype(np.uint8) if kind == "mask" else heat
        result: dict[str, Any] = {
            "text": text,
            "similarity": round(similarity, 4),
            "peak": [int(place) for place in peak],
            "maximum": greatest,
        }
        result |= self.outliers(image)
        return write(values, image, request), {**result, "label_names": self.labels}

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
        return kept if method in kept else list(islice(_readable(self.studies(), model), REFERENCE[model.spatial_dims]))

    def _load(self) -> tuple[int, PretrainedModel]:
        """The pretraining's model, with the time of its file; what cannot be loaded waits for another file."""
        path = self.settings.pretrained
        if not path.is_file():
            raise HTTPException(409, f"There is no {path.name} in the bundle: pretrain first.")
        time = path.stat().st_mtime_ns
        with self._lock:
            if self._loaded is None or self._loaded[0] != time:
                try:
                    self._loaded = time, load_served_model(self.settings)
                except DataError:  # what the weights need beside them may be put there
                    raise
                except Exception as error:
                    self._loaded = time, error
            time, found = self._loaded
        if isinstance(found, Exception):
            raise found
        return time, found


def _radiograph(grounder: PhraseGrounder, image: str, text: str) -> tuple[np.ndarray, float]:
    """A phrase's heat map, (H, W) as displayed, and the similarity of both."""
    heat = grounder(image, [text])[0].numpy().astype(np.float32)
    return heat, float(grounder.model.embed_images([image]) @ grounder.model.embed_texts([text])[0])


@torch.no_grad()
def _volume(grounder: PhraseGrounder, image: str, text: str) -> tuple[np.ndarray, float]:
    """A phrase's heat map, (X, Y, Z) as stored, and the similarity of both; the volume is read once."""
    model = grounder.model
    item = model.image_transform({CommonKeys.IMAGE: image})[CommonKeys.IMAGE]
    batch = item.as_tensor()[None].to(model.device)
    similarity = float(model.network.image_embedder()(batch).cpu()[0] @ model.embed_texts([text])[0].cpu())
    seen = grounder.heat_maps(batch, grounder.encode([text]))[0].clamp_min(0).float().cpu()
    geometry = read_volume_geometry(image)
    heat = np.zeros(geometry.size, np.float32, order="F")
    for place, slab in restored_slabs(seen, item.affine, geometry):
        heat[..., place] = slab[0]
    return heat, similarity


def _write_volume(values: np.ndarray, image: str, request: dict[str, Any]) -> str:
    return write_volume_result(values, read_volume_geometry(image), request)


def _readable(paths: Iterable[str], model: PretrainedModel) -> Iterator[str]:
    for path in paths:
        try:
            model.image_transform({"image": path})
        except RuntimeError as error:
            logger.warning(f"left out of what is usual: {first_cause(error)}")
        else:
            yield path
