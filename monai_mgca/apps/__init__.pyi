# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .ground.grounding_reference import read_reference, write_reference
from .ground.phrase_grounder import PhraseGrounder
from .image_text_model import PretrainedModel, load_pretrained
from .load_model import load
from .outliers.outlier_detector import OutlierDetector, fit_outliers, write_outliers
from .probe.features import compute_features
from .probe.linear_probe import LinearProbe, fit_linear_probe
from .retrieve.embedding_index import EmbeddingIndex
from .zero_shot.prompts import Prompts, prompted_classes, read_prompts
from .zero_shot.zero_shot_classifier import ZeroShotClassifier

__all__ = [
    "EmbeddingIndex",
    "LinearProbe",
    "OutlierDetector",
    "PhraseGrounder",
    "PretrainedModel",
    "Prompts",
    "ZeroShotClassifier",
    "compute_features",
    "fit_linear_probe",
    "fit_outliers",
    "load",
    "load_pretrained",
    "prompted_classes",
    "read_prompts",
    "read_reference",
    "write_outliers",
    "write_reference",
]
