# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .prepare_batch import PrepareBatchReport
from .prepare_boxes import PerImage, PrepareBatchBoxes

__all__ = [
    "PerImage",
    "PrepareBatchBoxes",
    "PrepareBatchReport",
]
