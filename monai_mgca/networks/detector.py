# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""RetinaNet-like detection on an image encoder's pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet
from monai.apps.detection.utils.anchor_utils import AnchorGenerator
from monai.losses import FocalLoss
from torch import nn

from monai_mgca.networks.encoder_sizes import create_image_encoder, size_advice
from monai_mgca.networks.pyramid import create_pyramid

__all__ = ["DetectorMaps", "RadiographDetector", "create_detector"]

# of the image's side; two at each of three levels
_ANCHORS = ((1 / 16, 1 / 10), (1 / 6, 1 / 4), (2 / 5, 3 / 5))


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
    """MONAI's ``RetinaNetDetector`` for the batches of radiographs that have no box at all.

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
            input_images: (B, C, H, W), or B images (C, H, W).
            targets: in training, for each image "boxes" (N, 4) [x0, y0, x1, y1] in pixels and "labels" (N,).
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


class DetectorMaps(nn.Module):
    """The part of a detector that can be exported: all its convolutions, without the choice of boxes behind them.

    The choice depends on what is found, which a traced network cannot follow. Its weights have the detector's names,
    and it gives one tensor, as MONAI's own checks and exporters want it.

    Args:
        detector: what :func:`create_detector` gives.

    Example::

        maps = DetectorMaps(create_detector("resnet_compact", num_classes=2, image_size=64)).eval()
        print(maps(torch.rand(1, 1, 64, 64)).shape)  # (1, 6, 504): 64 + 16 + 4 places with 6 anchors each
    """

    def __init__(self, detector: RetinaNetDetector) -> None:
        super().__init__()
        self.network: Any = detector.network  # MONAI does not declare its parts
        self.anchors: int = detector.num_anchors_per_loc

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """
        Args:
            images: (B, in_channels, H, W).

        Returns:
            (B, classes + 4, N) for N anchors, in MONAI's order: level by level of the pyramid, row by row, and at each
            place anchor by anchor. First the logits, then the shifts of center and size as ``BoxCoder`` reads them.
        """
        features = list(self.network.feature_extractor(images).values())
        logits: list[torch.Tensor] = self.network.classification_head(features)
        shifts: list[torch.Tensor] = self.network.regression_head(features)
        levels: list[torch.Tensor] = []
        for pair in zip(logits, shifts):  # noqa: B905 - TorchScript's zip knows no strict
            both = torch.cat([maps.unflatten(1, (self.anchors, -1)) for maps in pair], 2)
            levels.append(both.permute(0, 2, 3, 4, 1).flatten(2))
        return torch.cat(levels, 2)


def create_detector(
    encoder: str,
    num_classes: int,
    image_size: int,
    in_channels: int = 1,
    anchor_sizes: Sequence[Sequence[float]] | None = None,
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    strides: Sequence[int] = (8, 16, 32),
    channels: int | None = None,
    score_threshold: float = 0.02,
    nms_threshold: float = 0.4,
    detections_per_image: int = 100,
) -> RadiographDetector:
    """MONAI's RetinaNet on an image encoder: a ResNet with a feature pyramid network, a ViT with a simple pyramid.

    Boxes are [x0, y0, x1, y1] in pixels of the network's square images, x to the right, both in training and in what
    it finds: the anchors are laid out for this order, so nothing is swapped anywhere. Anchors are matched by ATSS
    (Zhang et al. 2020), the losses are the focal loss and smooth L1.

    Args:
        encoder: "resnet50", "vit_base", or any other name of :func:`create_image_encoder`.
        num_classes: number of classes of boxes.
        image_size: height and width of the images in pixels, a multiple of the largest stride.
        in_channels: 1 for radiographs.
        anchor_sizes: for each stride the sides of its anchors in pixels, as many at each. Defaults to parts of the
            image, from a sixteenth to three fifths; ``mgca anchors`` finds those of a data set.
        anchor_ratios: height / width of the anchors.
        strides: pixels between neighbors of each level of the pyramid; start with 4 for the smallest findings.
        channels: of the pyramid and the heads, a multiple of 8. Defaults to 256, and 64 for the compact encoders.
        score_threshold: boxes with a smaller score are dropped.
        nms_threshold: of two boxes of a class that overlap more, the one with the smaller score is dropped.
        detections_per_image: number of boxes to keep at most.

    Raises:
        ValueError: when the image size is not a multiple of the largest stride, or the anchors do not fit the strides.

    Example::

        detector = create_detector("resnet_compact", num_classes=2, image_size=64)
        print(detector.eval()(torch.rand(1, 1, 64, 64))[0].keys())
    """
    if image_size % max(strides):
        raise ValueError(
            f"image_size must be a multiple of the largest stride, {max(strides)}, got {image_size}: "
            f"{size_advice(image_size, max(strides))}, or give smaller strides, as [4, 8, 16]."
        )
    sizes = [[side * image_size for side in level] for level in _ANCHORS] if anchor_sizes is None else anchor_sizes
    anchors = _anchors(sizes, anchor_ratios, strides)
    width = channels or (64 if encoder.endswith("compact") else 256)
    features = create_pyramid(create_image_encoder(encoder, image_size, in_channels=in_channels), strides, width)
    num_anchors, divisible = anchors.num_anchors_per_location()[0], max(strides)
    # a list, because exporters cannot follow a dictionary of lists
    network = RetinaNet(2, num_classes, num_anchors, features, size_divisible=divisible, use_list_output=True)
    # named again for a wrapped network, which would hide them
    detector = RadiographDetector(network, anchors, spatial_dims=2, num_classes=num_classes, size_divisible=divisible)
    detector.set_atss_matcher(num_candidates=4, center_in_gt=False)
    detector.set_cls_loss(FocalLossPerBox())
    detector.set_box_selector_parameters(score_threshold, 1000, nms_threshold, detections_per_image)
    return detector


def _anchors(sizes: Sequence[Sequence[float]], ratios: Sequence[float], strides: Sequence[int]) -> AnchorGenerator:
    if len(sizes) != len(strides) or len({len(level) for level in sizes}) != 1:
        raise ValueError(f"anchor_sizes must have as many sizes for each of the strides {tuple(strides)}, got {sizes}.")
    pixels: Any = sizes  # MONAI declares whole ones, and takes others too
    return AnchorGenerator(pixels, [ratios] * len(sizes), indexing="xy")
