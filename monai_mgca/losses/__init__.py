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

from .classification import MaskedBCEWithLogitsLoss
from .detection import DetectionLoss
from .instance import InstanceAlignmentLoss
from .matched import MatchedTokenLoss
from .mgca import MGCALoss
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
