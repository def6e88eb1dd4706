# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Binary cross-entropy of several labels, of which some are unknown."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.nn.modules.loss import _Loss

from monai_mgca.utils.precision import full_precision

__all__ = ["MaskedBCEWithLogitsLoss"]


class MaskedBCEWithLogitsLoss(_Loss):
    """Binary cross-entropy over the labels that are known: the mean over them, and 0 for a batch without any.

    Example::

        logits, labels = torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [float("nan"), 1.0]])
        print(MaskedBCEWithLogitsLoss()(logits, labels))  # 0.6931, the mean of three
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """
        Args:
            input: (B, C) logits.
            target: (B, C) labels from 0 to 1, NaN where unknown.

        Raises:
            ValueError: when the shapes differ.
        """
        if input.shape != target.shape:
            raise ValueError(f"Logits and labels differ in shape: {tuple(input.shape)}, {tuple(target.shape)}.")
        with full_precision(input, target) as (logits, labels):
            known = ~labels.isnan()
            losses = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
            losses = torch.where(known, losses, losses.new_zeros(()))
            loss: torch.Tensor = losses.sum() / known.sum().clamp(min=1)
        return loss
