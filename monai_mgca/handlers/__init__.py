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

from .alignment_loss import AlignmentLossHandler, loss_terms
from .best_model import BestModelSaver
from .checkpoint import TrainingCheckpoint
from .classification import ClassificationHandler
from .curve_writer import CurveWriter
from .data_wait import DataWaitWarning
from .detection import DetectionHandler
from .detection_saver import DetectionSaver
from .early_stop import EarlyStopOnKeyMetric
from .non_finite import SkipNonFiniteSteps
from .overlays import OverlaySaver
from .progress import TrainingProgress
from .prototypes import FreezePrototypes
from .retrieval import RetrievalHandler
from .segmentation import SegmentationHandler
from .summary import RunSummary
from .table import FigureSaver, RowSaver, TableSaver
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
    "OverlaySaver",
    "RetrievalHandler",
    "RowSaver",
    "RunSummary",
    "SegmentationHandler",
    "SkipNonFiniteSteps",
    "TableSaver",
    "TrainingCheckpoint",
    "TrainingProgress",
    "WholeBatchOutput",
    "ZeroShotHandler",
    "loss_terms",
]
