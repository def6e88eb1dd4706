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

from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from monai_mgca.inferers import novelty
from monai_mgca.label.embeddings import StudyEmbeddings

__all__ = ["EmbeddingScoring"]


class EmbeddingScoring(ScoringMethod):
    """``mgca_embeddings``: computes what is missing of the studies' embeddings, and tells how far the labels reach.

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
