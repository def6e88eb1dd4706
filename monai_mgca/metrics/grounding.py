# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""How well heat maps hit regions: pointing game, contrast to noise, overlap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.metrics import CumulativeIterationMetric

__all__ = ["GroundingMetric", "compute_grounding", "is_near"]

FIGURES = ("pointing_game", "contrast_to_noise", "mean_iou", "area")
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class GroundingMetric(CumulativeIterationMetric):
    """How well heat maps lie on the regions that they should show.

    Of images and of volumes, whose voxels are the pixels here.

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
        spacing: the sizes of a pixel or voxel in millimeters, in which distances and sides are then measured.

    Example::

        metric = GroundingMetric()
        region = torch.zeros(1, 1, 64, 64)
        region[..., 20:40, 20:40] = 1
        metric(region + 0.1 * torch.rand_like(region), region)
        print(metric.aggregate()["pointing_game"])  # 1.0
    """

    def __init__(
        self,
        tolerance: float = 0.0,
        thresholds: Sequence[float] = THRESHOLDS,
        spacing: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.tolerance, self.spacing = tolerance, spacing
        self.thresholds = tuple(thresholds)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            y_pred: (B, 1, H, W[, D]) heat maps.
            y: (B, 1, H, W[, D]) regions, 0 or 1.

        Raises:
            ValueError: when they are not both (B, 1, H, W[, D]), a map is not a number, or a region is empty.
        """
        if y is None or y_pred.ndim not in (4, 5) or y_pred.shape[1] != 1 or y_pred.shape != y.shape:
            got = None if y is None else tuple(y.shape)
            raise ValueError(f"Heat maps and regions must both be (B, 1, H, W[, D]), got {tuple(y_pred.shape)}, {got}.")
        return compute_grounding(y_pred[:, 0], y[:, 0], self.tolerance, self.thresholds, self.spacing)

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
    heat: torch.Tensor,
    region: torch.Tensor,
    tolerance: float = 0.0,
    thresholds: Sequence[float] = THRESHOLDS,
    spacing: Sequence[float] | None = None,
) -> torch.Tensor:
    """The figures of :class:`GroundingMetric` for each map.

    Args:
        heat: (B, H, W[, D]).
        region: (B, H, W[, D]) of 0 and 1.
        tolerance: as a part of the longer side.
        thresholds: between 0 and 1.
        spacing: millimeters of a pixel or voxel along each axis; without it distances are in pixels.

    Returns:
        (B, 4), float32 at least: pointing game (0 or 1), contrast to noise, mean IoU, area.

    Raises:
        ValueError: when a map is not a number, or a region is empty.

    Example::

        print(compute_grounding(torch.rand(2, 64, 64), torch.ones(2, 64, 64)).shape)
    """
    shape = region.shape[1:]
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
    hits = [
        is_near(own.unflatten(0, shape), int(peak), tolerance, spacing)
        for own, peak in zip(inside, heat.argmax(1), strict=True)
    ]
    hit = torch.tensor(hits, dtype=heat.dtype, device=heat.device)
    return torch.stack([hit, contrast, torch.stack(ious).mean(0), share.mean(1)], dim=1)


def is_near(region: torch.Tensor, peak: int, tolerance: float, spacing: Sequence[float] | None = None) -> bool:
    """Whether a pixel is in a region, or no farther from it than a tolerance.

    Args:
        region: (H, W[, D]) of bool.
        peak: the pixel's index in the flattened map.
        tolerance: as a part of the longer side.
        spacing: as for :func:`compute_grounding`.

    Example::

        print(is_near(torch.eye(10) > 0, peak=3, tolerance=0.3))  # True: the pixel (0, 3), and (1, 1) in the region
    """
    place = [int(index) for index in torch.unravel_index(torch.tensor(peak), region.shape)]
    sizes = [1.0] * region.ndim if spacing is None else [float(size) for size in spacing]
    sides = [count * size for count, size in zip(region.shape, sizes, strict=True)]
    # in pixels the reach is a whole number of them
    reach = round(tolerance * max(sides)) if spacing is None else tolerance * max(sides)
    spans = [int(reach / size) for size in sizes]
    starts = [max(0, at - span) for at, span in zip(place, spans, strict=True)]
    part = region[tuple(slice(start, at + span + 1) for start, at, span in zip(starts, place, spans, strict=True))]
    axes = zip(part.shape, starts, place, sizes, strict=True)
    far = [(size * (torch.arange(n, device=region.device) + start - at)).square() for n, start, at, size in axes]
    distance: torch.Tensor = sum(torch.meshgrid(*far, indexing="ij"))  # type: ignore[assignment]
    return bool((part & (distance <= reach**2)).any())
