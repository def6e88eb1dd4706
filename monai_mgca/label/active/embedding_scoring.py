# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Scores the studies for active learning by their embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from monai_mgca.label.active.selection import novelty
from monai_mgca.label.active.study_embeddings import StudyEmbeddings

__all__ = ["EmbeddingScoring"]


class EmbeddingScoring(ScoringMethod):
    """``mgca_embeddings``: computes what is missing of the studies' embeddings, and reports how far the labels reach.

    The server runs it in a process of its own when it starts, so that strategies need not wait for them.

    Args:
        embeddings: of the studies.
    """

    def __init__(self, embeddings: StudyEmbeddings) -> None:
        super().__init__("Embeddings of all studies, by which the strategies choose")
        self.embeddings = embeddings

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """
        Returns:
            Numbers of "images" and "reports", those "computed" now and "removed", "unreadable" images with the reason,
            and "farthest" and "mean" cosine distance of the unlabeled images to the nearest labeled one, None without.
        """
        studies = self.embeddings(datastore)
        labeled = studies.rows_of(datastore.get_labeled_images())
        unlabeled = studies.rows_of(datastore.get_unlabeled_images())
        far = novelty(studies.images, labeled)[unlabeled] if labeled and unlabeled else None
        return {
            "images": len(studies.ids),
            "reports": len(studies.agreement),
            "computed": studies.computed,
            "removed": studies.removed,
            "unreadable": studies.unreadable,
            "farthest": None if far is None else round(float(far.max()), 4),
            "mean": None if far is None else round(float(far.mean()), 4),
        }
