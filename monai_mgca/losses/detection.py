# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The sum of the losses that a detector returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.modules.loss import _Loss

__all__ = ["DetectionLoss"]


class DetectionLoss(_Loss):
    """The weighted sum of the losses that MONAI's ``RetinaNetDetector`` returns in training.

    Args:
        classification: weight of the classification loss.
        box_regression: weight of the loss of the boxes' edges.

    Example::

        losses = {"classification": torch.tensor(1.0), "box_regression": torch.tensor(0.5)}
        print(DetectionLoss()(losses))
    """

    def __init__(self, classification: float = 1.0, box_regression: float = 1.0) -> None:
        super().__init__()
        self.weights = {"classification": classification, "box_regression": box_regression}

    def forward(self, losses: Mapping[str, torch.Tensor], targets: Any = None) -> torch.Tensor:
        """
        Args:
            losses: "classification" and "box_regression".
            targets: not needed: the detector has compared its predictions with them.

        Raises:
            ValueError: when there are no losses: the detector is in evaluation mode.
        """
        if not isinstance(losses, Mapping):
            raise ValueError("The detector gives losses in training mode alone: call detector.train() first.")
        return torch.stack([weight * losses[name] for name, weight in self.weights.items()]).sum()
