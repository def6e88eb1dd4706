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
from monai.utils import ensure_tuple_rep
from torch import nn

from monai_mgca.networks.detection.pyramid import create_pyramid
from monai_mgca.networks.detection.retinanet import ExactAnchors, FocalLossPerBox, RadiographDetector, VolumeDetector
from monai_mgca.networks.encoder_sizes import create_image_encoder, size_advice

__all__ = ["DetectorMaps", "create_detector"]

# of the image's side; two at each of three levels
_ANCHORS = ((1 / 16, 1 / 10), (1 / 6, 1 / 4), (2 / 5, 3 / 5))
# of images and volumes
_RATIOS: dict[int, Any] = {2: (0.5, 1.0, 2.0), 3: ((1.0, 1.0),)}
# channels of the pyramid and the heads, by whether the encoder is a small one
_WIDTHS = {2: (256, 64), 3: (128, 32)}
# as in MONAI's tutorial of LUNA16: anchors that a step takes of each volume
_SAMPLER: dict[str, Any] = {"batch_size_per_image": 64, "positive_fraction": 0.3, "min_neg": 16, "pool_size": 20}


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
            images: (B, in_channels, H, W[, D]).

        Returns:
            (B, classes + 4, N), of volumes (B, classes + 6, N), for N anchors, in MONAI's order: level by level of the
            pyramid, row by row, and at each place anchor by anchor. First the logits, then the shifts of center and
            size as ``BoxCoder`` reads them.
        """
        features = list(self.network.feature_extractor(images).values())
        logits: list[torch.Tensor] = self.network.classification_head(features)
        shifts: list[torch.Tensor] = self.network.regression_head(features)
        levels: list[torch.Tensor] = []
        for pair in zip(logits, shifts):  # noqa: B905 - TorchScript's zip knows no strict
            both = torch.cat([maps.unflatten(1, (self.anchors, -1)) for maps in pair], 2)
            levels.append(both.movedim(1, -1).flatten(2))
        return torch.cat(levels, 2)


def create_detector(
    encoder: str,
    num_classes: int,
    image_size: Sequence[int] | int,
    in_channels: int = 1,
    anchor_sizes: Sequence[Sequence[float]] | None = None,
    anchor_ratios: Sequence[Any] | None = None,
    strides: Sequence[int] = (8, 16, 32),
    channels: int | None = None,
    score_threshold: float = 0.02,
    nms_threshold: float = 0.4,
    detections_per_image: int = 100,
    spatial_dims: int = 2,
    patch_size: int = 16,
    overlap: float = 0.25,
) -> RadiographDetector:
    """MONAI's RetinaNet on an image encoder: a ResNet with a feature pyramid network, a ViT with a simple pyramid.

    Boxes are [x0, y0, x1, y1] in pixels of the network's square images, x to the right, both in training and in what
    it finds: the anchors are laid out for this order. Those of volumes are [x0, y0, z0, x1, y1, z1] in voxels along the
    volume's axes. Anchors are matched by ATSS (Zhang et al. 2020), the losses are the focal loss and smooth L1; as in
    MONAI's tutorial of LUNA16, cross-entropy over hard negatives and smooth L1 of volumes, which have windows.

    Args:
        encoder: "resnet50", "vit_base", or any other name of :func:`create_image_encoder`.
        num_classes: number of classes of boxes.
        image_size: pixels along each axis, multiples of the largest stride; of volumes of the patches and windows.
        in_channels: 1 for radiographs and CT.
        anchor_sizes: for each stride the sides of its anchors in pixels, as many at each. Defaults to parts of the
            image; ``mgca anchors`` finds those of a data set.
        anchor_ratios: height / width of the anchors, 0.5, 1 and 2 by default; of volumes the pairs y / x and z / x,
            by default the cube's alone.
        strides: pixels between neighbors of each level of the pyramid; start with 4 for the smallest findings.
        channels: of the pyramid and the heads, a multiple of 8. Defaults to 256, and 64 for the compact encoders; of
            volumes 128, and 32 for the compact and tiny ones.
        score_threshold: boxes with a smaller score are dropped.
        nms_threshold: of two boxes of a class that overlap more, the worse is dropped.
        detections_per_image: number of boxes to keep at most.
        spatial_dims: 2, or 3 for volumes.
        patch_size: of a vision transformer for volumes, voxels of the edge of its patches.
        overlap: of volumes, at least this part of a window is seen by the next one too.

    Raises:
        ValueError: when the image size is no multiple of the largest stride, or the anchors do not fit.

    Example::

        detector = create_detector("resnet_compact", num_classes=2, image_size=64)
        print(detector.eval()(torch.rand(1, 1, 64, 64))[0].keys())
    """
    anchors = _create_anchors(ensure_tuple_rep(image_size, spatial_dims), anchor_sizes, anchor_ratios, strides)
    of_volumes: dict[str, Any] = {} if spatial_dims == 2 else {"spatial_dims": spatial_dims, "patch_size": patch_size}
    width = channels or _WIDTHS[spatial_dims][encoder.endswith(("compact", "tiny")[: spatial_dims - 1])]
    made = create_image_encoder(encoder, image_size, in_channels=in_channels, **of_volumes)
    features = create_pyramid(made, strides, width, spatial_dims)
    detector = _create_retinanet(features, anchors, num_classes, spatial_dims, max(strides))
    if spatial_dims == 3:
        _set_volumes(detector, ensure_tuple_rep(image_size, 3), max(strides), overlap)
    detector.set_box_selector_parameters(score_threshold, 1000, nms_threshold, detections_per_image)
    return detector


def _create_anchors(
    window: Sequence[int], sizes: Sequence[Sequence[float]] | None, ratios: Sequence[Any] | None, strides: Sequence[int]
) -> AnchorGenerator:
    for side in window:
        if side % max(strides):
            raise ValueError(
                f"image_size must be a multiple of the largest stride, {max(strides)}, got {side}: "
                f"{size_advice(side, max(strides))}, or give smaller strides, as [4, 8, 16]."
            )
    pixels: Any = [[side * max(window) for side in level] for level in _ANCHORS] if sizes is None else sizes
    if len(pixels) != len(strides) or len({len(level) for level in pixels}) != 1:
        raise ValueError(
            f"anchor_sizes must have as many sizes for each of the strides {tuple(strides)}, got {pixels}."
        )
    shapes = list(_RATIOS[len(window)] if ratios is None else ratios)
    if len(window) == 2:
        return AnchorGenerator(pixels, [shapes] * len(pixels), indexing="xy")
    if not all(isinstance(shape, Sequence) and len(shape) == 2 for shape in shapes):
        raise ValueError(f"anchor_ratios of volumes are pairs, y / x and z / x, got {shapes}.")
    return ExactAnchors(pixels, [shapes] * len(pixels))


def _create_retinanet(
    features: nn.Module, anchors: AnchorGenerator, num_classes: int, spatial_dims: int, divisible: int
) -> RadiographDetector:
    # a list, because exporters cannot follow a dictionary of lists
    listed: dict[str, Any] = {"size_divisible": divisible, "use_list_output": True}
    number = anchors.num_anchors_per_location()[0]
    network = RetinaNet(spatial_dims, num_classes, number, features, **listed)
    kind = RadiographDetector if spatial_dims == 2 else VolumeDetector
    # named again for a wrapped network, which would hide them
    named: dict[str, Any] = {"spatial_dims": spatial_dims, "num_classes": num_classes, "size_divisible": divisible}
    detector = kind(network, anchors, **named)
    detector.set_atss_matcher(num_candidates=4, center_in_gt=False)
    detector.set_cls_loss(FocalLossPerBox())
    return detector


def _set_volumes(detector: RadiographDetector, window: Sequence[int], divisible: int, overlap: float) -> None:
    """Hard negatives in place of the focal loss, and windows whose steps are whole cells of every level."""
    detector.set_cls_loss(nn.BCEWithLogitsLoss())
    detector.set_hard_negative_sampler(**_SAMPLER)
    steps = [max(int(side * (1 - overlap)) // divisible, 1) * divisible for side in window]
    overlaps: Any = [1 - step / side for step, side in zip(steps, window, strict=True)]
    detector.set_sliding_window_inferer(window, overlap=overlaps, mode="gaussian")
