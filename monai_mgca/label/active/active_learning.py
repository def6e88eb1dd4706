# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The strategies of active learning: which image to annotate next."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from monai_mgca.label.active.selection import k_center, mix_scores, novelty
from monai_mgca.label.active.study_embeddings import Studies, StudyEmbeddings
from monai_mgca.label.active.uncertainty import entropies_of
from monai_mgca.label.infers.task_infers import BundleInfer
from monai_mgca.label.request_values import number

__all__ = ["Disagreement", "Diversity", "MeaningStrategy", "TextQuery", "UncertaintyDiversity"]

# for new entropies in one request: MONAI Label answers no other request in the meantime
SECONDS = 10


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
        readable = set(studies.ids)
        unlabeled = [name for name in datastore.get_unlabeled_images() if name in readable]
        lent = {name for name in unlabeled if _was_lent(datastore.get_image_info(name), minutes)}
        free = [name for name in unlabeled if name not in lent]
        if not unlabeled:
            return None
        if not free:  # all that is left was handed out: it is given again
            free, lent = unlabeled, set()
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
        """As :meth:`MeaningStrategy.choose`."""
        labeled = studies.rows_of(taken)
        row = k_center(studies.images, labeled, 1, studies.rows_of(free))[0]
        return {"id": studies.ids[row], "novelty": round(float(novelty(studies.images, labeled)[row]), 4)}


class TextQuery(MeaningStrategy):
    """``mgca_text``: the image nearest to a text, such as "left pleural effusion"."""

    def __init__(self, embeddings: StudyEmbeddings) -> None:
        super().__init__(embeddings, "The image nearest to a finding in the words of reports", {"text": ""})

    def choose(
        self, values: Mapping[str, Any], studies: Studies, free: list[str], taken: list[str], datastore: Datastore
    ) -> dict[str, Any]:
        """As :meth:`MeaningStrategy.choose`."""
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
        """As :meth:`MeaningStrategy.choose`; None where no image to choose from has a report."""
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

    The uncertainty is the mean entropy of the probabilities: of all classes, and for segmentation of all pixels. It is
    computed of what is farthest from the labeled images first, for ten seconds in a request; the next one goes on.

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
        """As :meth:`MeaningStrategy.choose`."""
        weight = number(values, "weight", 0, 1)
        infer = self._infer(values["model"])
        distance = novelty(studies.images, studies.rows_of(taken))
        order = sorted(zip((-distance[studies.rows_of(free)]).tolist(), free, strict=True))
        entropies = entropies_of(infer, [name for _, name in order], datastore, SECONDS)
        known = [name for name in free if name in entropies]
        if not known:
            raise HTTPException(400, f"{infer.task} can read none of the images that are left, see the server's log.")
        uncertainty, far = torch.tensor([entropies[name] for name in known]), distance[studies.rows_of(known)]
        best = int(mix_scores(uncertainty, far, weight).argmax())
        return {
            "id": known[best],
            "uncertainty": round(float(uncertainty[best]), 4),
            "novelty": round(float(far[best]), 4),
            "compared": len(known),
        }

    def _infer(self, model: Any) -> BundleInfer:
        ready = [name for name, infer in self.infers.items() if infer.is_valid()]
        name = model if isinstance(model, str) and model else next(iter(ready), None)
        if name is not None and name not in self.infers:
            known = " or ".join(self.infers) or "none"
            raise HTTPException(400, f"model: {known} can say how sure it is, not '{name}'.")
        if name not in ready:
            wanted = name or " and ".join(self.infers) or "a classification"
            raise HTTPException(409, f"There are no weights yet of {wanted}: train first.")
        return self.infers[name]


def _was_lent(info: Mapping[str, Any], minutes: float) -> bool:
    times = [given.get("ts", 0) for given in info.get("strategy", {}).values()]
    return bool(times) and time.time() - max(times) < 60 * minutes
