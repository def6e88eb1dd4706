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

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from monai_mgca.inferers import k_center, mix_scores, novelty
from monai_mgca.inferers.embedding_file import fingerprint_of
from monai_mgca.label.embeddings import Studies, StudyEmbeddings, file_state
from monai_mgca.label.infers import BundleInfer
from monai_mgca.label.row_store import refresh_rows

__all__ = ["Disagreement", "Diversity", "MeaningStrategy", "TextQuery", "UncertaintyDiversity"]


class MeaningStrategy(Strategy):
    """Chooses the next image to annotate by what the representation knows of it.

    An image that was handed out lately is not given again as long as there are others: several annotators get different
    images, and who asks again gets another one.

    Args:
        embeddings: of the studies.
        description: for clients.
        config: what a request may hold, with its default.
    """

    def __init__(self, embeddings: StudyEmbeddings, description: str, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(description)
        self.embeddings = embeddings
        self.config = {**(config or {}), "reserve_minutes": 10}

    def info(self) -> dict[str, Any]:
        return {**super().info(), "config": self.config}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """
        Args:
            request: values for the keys of the configuration.
            datastore: of the studies.

        Returns:
            "id" of the image and why it was chosen; None when no image is left.
        """
        values = {**self.config, **request}
        minutes = number(values, "reserve_minutes", 0, np.inf)
        studies = self.embeddings(datastore)
        unlabeled = [name for name in datastore.get_unlabeled_images() if name in set(studies.ids)]
        lent = [name for name in unlabeled if _was_lent(datastore.get_image_info(name), minutes)]
        free = [name for name in unlabeled if name not in set(lent)] or unlabeled
        if not free:
            return None
        return self.choose(values, studies, sorted(free), [*datastore.get_labeled_images(), *lent], datastore)

    @abstractmethod
    def choose(
        self, values: Mapping[str, Any], studies: Studies, free: list[str], taken: list[str], datastore: Datastore
    ) -> dict[str, Any] | None:
        """
        Args:
            values: of the request.
            studies: all that can be read.
            free: ids to choose from, at least one.
            taken: ids that are labeled, or were handed out lately.
            datastore: of the studies.
        """


class Diversity(MeaningStrategy):
    """``mgca_diversity``: the image that is farthest from all that is labeled (k-center greedy)."""

    def __init__(self, embeddings: StudyEmbeddings) -> None:
        super().__init__(embeddings, "The image that is least like all labeled ones; the most usual one to begin with")

    def choose(
        self, values: Mapping[str, Any], studies: Studies, free: list[str], taken: list[str], datastore: Datastore
    ) -> dict[str, Any]:
        # where all that is left was handed out, one of it is given again
        labeled = studies.rows_of([name for name in taken if name not in set(free)])
        row = k_center(studies.images, labeled, 1, studies.rows_of(free))[0]
        return {"id": studies.ids[row], "novelty": round(float(novelty(studies.images, labeled)[row]), 4)}


class TextQuery(MeaningStrategy):
    """``mgca_text``: the image nearest to a text, such as "left pleural effusion"."""

    def __init__(self, embeddings: StudyEmbeddings) -> None:
        super().__init__(embeddings, "The image nearest to a finding in the words of reports", {"text": ""})

    def choose(
        self, values: Mapping[str, Any], studies: Studies, free: list[str], taken: list[str], datastore: Datastore
    ) -> dict[str, Any]:
        rows = studies.rows_of(free)
        similarity = studies.images[rows] @ self.embeddings.embed_text(str(values["text"] or ""))
        best = int(similarity.argmax())
        return {"id": studies.ids[rows[best]], "similarity": round(float(similarity[best]), 4)}


class Disagreement(MeaningStrategy):
    """``mgca_disagreement``: the image that its own report fits least: a missed finding, or a mixed-up study."""

    def __init__(self, embeddings: StudyEmbeddings) -> None:
        super().__init__(embeddings, "The image that its own report fits least")

    def choose(
        self, values: Mapping[str, Any], studies: Studies, free: list[str], taken: list[str], datastore: Datastore
    ) -> dict[str, Any] | None:
        if not studies.agreement:
            folder = self.embeddings.settings.reports or "the folder of the studies"
            raise HTTPException(
                409, f"No study has a report: put <image id>.txt into {folder}, or start with --reports."
            )
        known = [name for name in free if name in studies.agreement]
        if not known:
            return None
        name = min(known, key=lambda name: studies.agreement[name])
        return {"id": name, "similarity": round(studies.agreement[name], 4)}


class UncertaintyDiversity(MeaningStrategy):
    """``mgca_uncertainty``: the image of which the finetuned network is least sure, mixed with its novelty.

    The uncertainty is the mean entropy of the probabilities: of all classes, and for segmentation of all pixels.

    Args:
        embeddings: of the studies.
        infers: the models to ask, by their names; the first that has weights is asked where a request names none.
    """

    def __init__(self, embeddings: StudyEmbeddings, infers: Mapping[str, BundleInfer]) -> None:
        super().__init__(
            embeddings,
            "The image of which the finetuned network is least sure, mixed with what is least like the labeled ones",
            {"model": list(infers), "weight": 0.5},
        )
        self.infers = infers

    def choose(
        self, values: Mapping[str, Any], studies: Studies, free: list[str], taken: list[str], datastore: Datastore
    ) -> dict[str, Any]:
        weight = number(values, "weight", 0, 1)
        entropies = self._entropies(self._infer(values["model"]), free, datastore)
        known = [name for name in free if name in entropies]
        if not known:
            raise HTTPException(400, "None of the studies that are left can be read.")
        uncertainty = torch.tensor([entropies[name] for name in known])
        far = novelty(studies.images, studies.rows_of(taken))[studies.rows_of(known)]
        best = int(mix_scores(uncertainty, far, weight).argmax())
        return {
            "id": known[best],
            "uncertainty": round(float(uncertainty[best]), 4),
            "novelty": round(float(far[best]), 4),
        }

    def _infer(self, model: Any) -> BundleInfer:
        ready = [name for name, infer in self.infers.items() if infer.is_valid()]
        name = model if isinstance(model, str) and model else next(iter(ready), None)
        if name is None:
            raise HTTPException(409, f"There are no weights yet of {', '.join(self.infers) or 'a model'}: train first.")
        if name not in ready:
            raise HTTPException(400, f"model: {', '.join(ready) or 'none'} can tell how sure it is, not '{name}'.")
        return self.infers[name]

    def _entropies(self, infer: BundleInfer, names: Sequence[str], datastore: Datastore) -> dict[str, float]:
        weights = infer.settings.weights(infer.task)
        paths = {name: datastore.get_image_uri(name) for name in names}

        def compute(some: Sequence[str]) -> dict[str, np.ndarray]:
            return {name: np.array([entropy(infer.probabilities(paths[name]))], np.float32) for name in some}

        fingerprint = fingerprint_of([weights, weights.with_suffix(".json")], None)
        states = {name: file_state(path) for name, path in paths.items()}
        rows = refresh_rows(datastore.work_dir / f"uncertainty_{infer.task}.npz", fingerprint, states, compute)
        return dict(zip(rows.ids, rows.values[:, 0].tolist(), strict=True))


def entropy(probabilities: torch.Tensor) -> float:
    """Mean binary entropy in bits: 0 for sure, 1 for not at all."""
    p = probabilities.double().clamp(1e-7, 1 - 1e-7)
    return float(-(p * p.log2() + (1 - p) * (1 - p).log2()).mean())


def number(values: Mapping[str, Any], key: str, low: float, high: float) -> float:
    """A number of a request.

    Raises:
        HTTPException: when it is none, or out of bounds; 400.
    """
    try:
        value = float(values[key])
    except (TypeError, ValueError):
        value = np.nan
    if not low <= value <= high:
        raise HTTPException(400, f"{key} is a number from {low} to {high}, not {values[key]!r}.")
    return value


def _was_lent(info: Mapping[str, Any], minutes: float) -> bool:
    times = [given.get("ts", 0) for given in info.get("strategy", {}).values()]
    return bool(times) and time.time() - max(times) < 60 * minutes
