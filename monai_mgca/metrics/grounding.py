# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""How well heat maps hit regions: pointing game, contrast to noise, overlap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.metrics import CumulativeIterationMetric

__all__ = ["GroundingMetric", "compute_grounding"]

FIGURES = ("pointing_game", "contrast_to_noise", "mean_iou", "area")
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class GroundingMetric(CumulativeIterationMetric):
    """How well heat maps lie on the regions that they should show.

    - "pointing_game": the part of the maps whose highest pixel is in the region, or nearer to it than a tolerance.
      Zhang et al. "Top-down Neural Attention by Excitation Backprop", ECCV 2016, https://arxiv.org/abs/1608.00507.
    - "contrast_to_noise": the difference of the means inside and outside the region, divided by the root of the sum of
      both variances; negative where the map is lower inside. Boecking et al. "Making the Most of Text Semantics to
      Improve Biomedical Vision-Language Processing", ECCV 2022, https://arxiv.org/abs/2204.09817 (without their
      absolute value, which would reward the opposite of the region).
    - "mean_iou": intersection over union of the region and the map above a threshold, mean over the thresholds; each
      map is first scaled from its own lowest to its highest value.
    - "area": the part of the image that the regions cover, which is the pointing game of chance.

    Args:
        tolerance: distance for the pointing game, as a part of the image's longer side; the paper's 15 pixels are
            about 0.03 of its images. 0 counts hits inside the region alone.
        thresholds: for the intersection over union, between 0 and 1.

    Example::

        metric = GroundingMetric()
        region = torch.zeros(1, 1, 64, 64)
        region[..., 20:40, 20:40] = 1
        metric(region + 0.1 * torch.rand_like(region), region)
        print(metric.aggregate()["pointing_game"])  # 1.0
    """

    def __init__(self, tolerance: float = 0.0, thresholds: Sequence[float] = THRESHOLDS) -> None:
        super().__init__()
        self.tolerance = tolerance
        self.thresholds = tuple(thresholds)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            y_pred: (B, 1, H, W) heat maps.
            y: (B, 1, H, W) regions, 0 or 1.

        Raises:
            ValueError: when they are not both (B, 1, H, W), a map is not a number, or a region is empty.
        """
        if y is None or y_pred.ndim != 4 or y_pred.shape[1] != 1 or y_pred.shape != y.shape:
            got = None if y is None else tuple(y.shape)
            raise ValueError(f"Heat maps and regions must both be (B, 1, H, W), got {tuple(y_pred.shape)}, {got}.")
        return compute_grounding(y_pred[:, 0], y[:, 0], self.tolerance, self.thresholds)

    def aggregate(self) -> dict[str, float]:
        """
        Returns:
            the mean of each figure over all maps.

        Raises:
            ValueError: when the metric has seen no data.
        """
        buffer = self.get_buffer()
        if buffer is None:
            raise ValueError("The metric has seen no data: call it before aggregate().")
        return dict(zip(FIGURES, buffer.double().mean(0).tolist(), strict=True))


def compute_grounding(
    heat: torch.Tensor, region: torch.Tensor, tolerance: float = 0.0, thresholds: Sequence[float] = THRESHOLDS
) -> torch.Tensor:
    """The figures of :class:`GroundingMetric` for each map.

    Args:
        heat: (B, H, W).
        region: (B, H, W) of 0 and 1.
        tolerance: as a part of the longer side.
        thresholds: between 0 and 1.

    Returns:
        (B, 4), float32 at least: pointing game (0 or 1), contrast to noise, mean IoU, area.

    Raises:
        ValueError: when a map is not a number, or a region is empty.

    Example::

        print(compute_grounding(torch.rand(2, 64, 64), torch.ones(2, 64, 64)).shape)
    """
    heat = heat.to(torch.promote_types(heat.dtype, torch.float32)).flatten(1)
    inside = region.flatten(1) > 0.5
    if not torch.isfinite(heat).all():
        raise ValueError("A heat map has values that are not finite numbers.")
    if not inside.any(1).all():
        raise ValueError("A region is empty: leave out findings that are not in the image.")
    share = inside.to(heat.dtype)
    count, others = share.sum(1), (1 - share).sum(1).clamp_min(1)
    # the figures do not change with a map's scale, and a map without any difference has no contrast
    low, high = heat.amin(1, keepdim=True), heat.amax(1, keepdim=True)
    scaled = (heat - low) / (high - low).clamp_min(torch.finfo(heat.dtype).eps)
    mean_in, mean_out = (scaled * share).sum(1) / count, (scaled * (1 - share)).sum(1) / others
    var_in = ((scaled - mean_in[:, None]).square() * share).sum(1) / count
    var_out = ((scaled - mean_out[:, None]).square() * (1 - share)).sum(1) / others
    contrast = (mean_in - mean_out) / (var_in + var_out).sqrt().clamp_min(torch.finfo(heat.dtype).eps)
    ious = []
    for threshold in thresholds:
        above = scaled > threshold
        ious.append((above & inside).sum(1) / (above | inside).sum(1))
    near = _grow(region > 0.5, tolerance).flatten(1)
    hit = near.gather(1, heat.argmax(1, keepdim=True))[:, 0]
    return torch.stack([hit.to(heat.dtype), contrast, torch.stack(ious).mean(0), share.mean(1)], dim=1)


def _grow(region: torch.Tensor, tolerance: float) -> torch.Tensor:
    """The pixels of a region, and those within a distance of it."""
    reach = round(tolerance * max(region.shape[1:]))
    if reach == 0:
        return region
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1, device=region.device)] * 2, indexing="ij")
    disk = (y.square() + x.square() <= reach**2).float()[None, None]
    return F.conv2d(region.float()[:, None], disk, padding=reach)[:, 0] > 0.5
