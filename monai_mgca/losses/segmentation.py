# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Dice on a logarithmic scale with focal loss, as the paper finetunes segmentation."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss, FocalLoss
from torch.nn.modules.loss import _Loss

from monai_mgca.utils.precision import full_precision

__all__ = ["LogDiceFocalLoss"]


class LogDiceFocalLoss(_Loss):
    """Focal loss and the negative logarithm of the soft Dice, weighted as by the authors of MGCA.

    MONAI's ``DiceFocalLoss`` has 1 - Dice in place of -log(Dice), which pulls less where little overlaps.

    Args:
        lambda_focal: weight of the focal loss, the mean over all pixels.
        gamma: exponent of the focal loss.
        smooth: added to the numerator and denominator of the Dice, which is taken over the whole batch.

    Example::

        logits, masks = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
        print(LogDiceFocalLoss()(logits, masks))
    """

    def __init__(self, lambda_focal: float = 10.0, gamma: float = 2.0, smooth: float = 1.0) -> None:
        super().__init__()
        self.lambda_focal = lambda_focal
        self.focal = FocalLoss(gamma=gamma)
        self.dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=smooth, smooth_dr=smooth)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """
        Args:
            input: (B, C, H, W) logits.
            target: (B, C, H, W) masks of 0 and 1.
        """
        with full_precision(input, target) as (logits, masks):
            # of many pixels and no overlap 1 - Dice rounds to 1
            overlap = torch.log1p(-self.dice(logits, masks).clamp(max=1 - 1e-6))
            loss: torch.Tensor = self.lambda_focal * self.focal(logits, masks) - overlap
        return loss
