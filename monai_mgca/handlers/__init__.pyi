# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .alignment_loss import AlignmentLossHandler, loss_terms
from .best_model import BestModelSaver
from .classification import ClassificationHandler
from .curve_writer import CurveWriter
from .data_wait import DataWaitWarning
from .detection import DetectionHandler
from .detection_saver import DetectionSaver
from .early_stop import EarlyStopOnKeyMetric
from .freeze_prototypes import FreezePrototypes
from .non_finite import SkipNonFiniteSteps
from .outlier_saver import OutlierSaver
from .overlay_saver import OverlaySaver
from .resume.resume_training import TrainingCheckpoint
from .retrieval import RetrievalHandler
from .run_summary import RunSummary
from .segmentation import SegmentationHandler
from .table_saver import FigureSaver, RowSaver, TableSaver
from .training_progress import TrainingProgress
from .weight_average import WeightAverage
from .whole_batch import WholeBatchOutput
from .zero_shot import ZeroShotHandler

__all__ = [
    "AlignmentLossHandler",
    "BestModelSaver",
    "ClassificationHandler",
    "CurveWriter",
    "DataWaitWarning",
    "DetectionHandler",
    "DetectionSaver",
    "EarlyStopOnKeyMetric",
    "FigureSaver",
    "FreezePrototypes",
    "OutlierSaver",
    "OverlaySaver",
    "RetrievalHandler",
    "RowSaver",
    "RunSummary",
    "SegmentationHandler",
    "SkipNonFiniteSteps",
    "TableSaver",
    "TrainingCheckpoint",
    "TrainingProgress",
    "WeightAverage",
    "WholeBatchOutput",
    "ZeroShotHandler",
    "loss_terms",
]
