# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .calibration import calibration_error, fit_calibration, fit_temperature
from .classification import ClassificationMetric, compute_classification
from .detection import DetectionMetric, compute_detection
from .grounding import GroundingMetric, compute_grounding
from .negation import NegationMetric, compute_negation, compute_queries
from .operating_points import choose_threshold, measure_decisions
from .outlier_score import OutlierScore, fit_outlier_score, shrunk_covariance
from .retrieval import RetrievalMetric, chance_retrieval, compute_retrieval
from .subgroups import age_bands, compute_subgroups
from .zero_shot import ZeroShotMetric, compute_zero_shot

__all__ = [
    "ClassificationMetric",
    "DetectionMetric",
    "GroundingMetric",
    "NegationMetric",
    "OutlierScore",
    "RetrievalMetric",
    "ZeroShotMetric",
    "age_bands",
    "calibration_error",
    "chance_retrieval",
    "choose_threshold",
    "compute_classification",
    "compute_detection",
    "compute_grounding",
    "compute_negation",
    "compute_queries",
    "compute_retrieval",
    "compute_subgroups",
    "compute_zero_shot",
    "fit_calibration",
    "fit_outlier_score",
    "fit_temperature",
    "measure_decisions",
    "shrunk_covariance",
]
