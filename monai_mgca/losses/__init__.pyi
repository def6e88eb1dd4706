# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .classification import MaskedBCEWithLogitsLoss
from .detection import DetectionLoss
from .instance import InstanceAlignmentLoss
from .matched_token import MatchedTokenLoss
from .mgca_loss import MGCALoss
from .prototype import PrototypeAlignmentLoss, sinkhorn
from .segmentation import LogDiceFocalLoss
from .token import TokenAlignmentLoss

__all__ = [
    "DetectionLoss",
    "InstanceAlignmentLoss",
    "LogDiceFocalLoss",
    "MGCALoss",
    "MaskedBCEWithLogitsLoss",
    "MatchedTokenLoss",
    "PrototypeAlignmentLoss",
    "TokenAlignmentLoss",
    "sinkhorn",
]
