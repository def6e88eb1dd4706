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

from .curves import draw_curves, mean_interval, summarize_curves
from .embedding import compute_features
from .grounding import PhraseGrounder
from .grounding_reference import read_reference, write_reference
from .linear_probe import LinearProbe, fit_linear_probe
from .pretrained import PretrainedModel, load_pretrained
from .retrieval import EmbeddingIndex
from .selection import k_center, mix_scores, novelty
from .zero_shot import Prompts, ZeroShotClassifier, prompted_classes, read_prompts

__all__ = [
    "EmbeddingIndex",
    "LinearProbe",
    "PhraseGrounder",
    "PretrainedModel",
    "Prompts",
    "ZeroShotClassifier",
    "compute_features",
    "draw_curves",
    "fit_linear_probe",
    "k_center",
    "load_pretrained",
    "mean_interval",
    "mix_scores",
    "novelty",
    "prompted_classes",
    "read_prompts",
    "read_reference",
    "summarize_curves",
    "write_reference",
]
