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

from .classification import ClassificationMetric, compute_classification
from .detection import DetectionMetric, compute_detection
from .grounding import GroundingMetric, compute_grounding
from .retrieval import RetrievalMetric, chance_retrieval, compute_retrieval
from .zero_shot import ZeroShotMetric, compute_zero_shot

__all__ = [
    "ClassificationMetric",
    "DetectionMetric",
    "GroundingMetric",
    "RetrievalMetric",
    "ZeroShotMetric",
    "chance_retrieval",
    "compute_classification",
    "compute_detection",
    "compute_grounding",
    "compute_retrieval",
    "compute_zero_shot",
]
