# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What MONAI's RetinaNet lacks for radiographs and volumes: batches without a box, windows, small anchors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.utils.anchor_utils import AnchorGenerator
from monai.losses import FocalLoss
from torch import nn

__all__ = ["ExactAnchors", "FocalLossPerBox", "RadiographDetector", "VolumeDetector"]


class FocalLossPerBox(nn.Module):
    """Focal loss over all anchors and classes, divided by the number of anchors that have a box, as RetinaNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.focal = FocalLoss(gamma=2.0, alpha=0.25, reduction="none")

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """
        Args:
            logits: (N, C) of all anchors.
            targets: (N, C) of 0 and 1.
        """
        loss: torch.Tensor = self.focal(logits, targets).sum() / targets.sum().clamp(min=1)
        return loss


class RadiographDetector(RetinaNetDetector):
    """MONAI's ``RetinaNetDetector`` for the batches of images that have no box at all.

    MONAI then leaves the regression head without a gradient, which stops distributed training. The meta data of the
    images are left aside, which would slow every operation down. It takes the arguments of ``RetinaNetDetector``.
    """

    def forward(
        self,
        input_images: list[torch.Tensor] | torch.Tensor,
        targets: list[dict[str, torch.Tensor]] | None = None,
        use_inferer: bool = False,
    ) -> dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]:
        """
        Args:
            input_images: (B, C, H, W[, D]), or B images (C, H, W[, D]).
            targets: in training, for each image "boxes" (N, 4) [x0, y0, x1, y1] in pixels and "labels" (N,); of volumes
                "boxes" (N, 6) [x0, y0, z0, x1, y1, z1] in voxels.
            use_inferer: use the sliding window that was set.

        Returns:
            In training the losses "classification" and "box_regression", else for each image "boxes", "labels" and
            "labels_scores".
        """
        images = [torch.Tensor(image.as_tensor()) if hasattr(image, "as_tensor") else image for image in input_images]
        result: dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]
        result = super().forward(torch.stack(images), targets, use_inferer)
        return result

    def compute_box_loss(
        self,
        box_regression: torch.Tensor,
        targets: list[dict[str, torch.Tensor]],
        anchors: list[torch.Tensor],
        matched_idxs: list[torch.Tensor],
    ) -> torch.Tensor:
        """As MONAI's; nothing to regress is a zero that has a gradient."""
        if not any((matched >= 0).any() for matched in matched_idxs):
            return 0 * box_regression.sum()
        loss: torch.Tensor = super().compute_box_loss(box_regression, targets, anchors, matched_idxs)
        return loss


class VolumeDetector(RadiographDetector):
    """A :class:`RadiographDetector` that goes through what is larger than its window in overlapping windows.

    It takes the arguments of ``RetinaNetDetector``; the window is that of ``set_sliding_window_inferer``.
    """

    def forward(
        self,
        input_images: list[torch.Tensor] | torch.Tensor,
        targets: list[dict[str, torch.Tensor]] | None = None,
        use_inferer: bool | None = None,
    ) -> dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]:
        """
        Args:
            input_images: (B, C, X, Y, Z), or B volumes (C, X, Y, Z), in evaluation of any sizes.
            targets: in training, see :meth:`RadiographDetector.forward`.
            use_inferer: use the sliding window; None: where a volume is larger than it.

        Returns:
            As :meth:`RadiographDetector.forward`.
        """
        if self.training:
            return super().forward(input_images, targets)
        found: list[Any] = []
        for image in input_images:  # one by one, for they have sizes of their own
            window: Any = getattr(self.inferer, "roi_size", image.shape[1:])
            larger = any(side > own for side, own in zip(image.shape[1:], window, strict=True))
            found += super().forward([image], None, larger if use_inferer is None else use_inferer)
        return found


class ExactAnchors(AnchorGenerator):
    """MONAI's anchors without its rounding to even sides, which findings of a few voxels do not bear."""

    def generate_anchors(self, scales: Sequence, *args: Any, **kwargs: Any) -> torch.Tensor:
        fine = 2**10
        anchors: torch.Tensor = super().generate_anchors([scale * fine for scale in scales], *args, **kwargs)
        return anchors / fine
