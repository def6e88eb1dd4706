# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .calibration import calibration_error, fit_calibration, fit_temperature
from .classification import ClassificationMetric, compute_classification
from .detection import DetectionMetric, compute_detection
from .grounding import GroundingMetric, compute_grounding
from .operating_points import choose_threshold, measure_decisions
from .retrieval import RetrievalMetric, chance_retrieval, compute_retrieval
from .zero_shot import ZeroShotMetric, compute_zero_shot

__all__ = [
    "ClassificationMetric",
    "DetectionMetric",
    "GroundingMetric",
    "RetrievalMetric",
    "ZeroShotMetric",
    "calibration_error",
    "chance_retrieval",
    "choose_threshold",
    "compute_classification",
    "compute_detection",
    "compute_grounding",
    "compute_retrieval",
    "compute_zero_shot",
    "fit_calibration",
    "fit_temperature",
    "measure_decisions",
]
