# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .selection import k_center, mix_scores, novelty

__all__ = [
    "k_center",
    "mix_scores",
    "novelty",
]
