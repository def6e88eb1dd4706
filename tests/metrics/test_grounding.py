# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import CumulativeIterationMetric

from monai_mgca.metrics import GroundingMetric, compute_grounding


def slow(heat, region, tolerance, thresholds):
    """One map, pixel by pixel, in numpy."""
    heat, region = heat.double().numpy(), region.numpy() > 0.5
    height, width = heat.shape
    top = max((heat[y, x], -y * width - x) for y in range(height) for x in range(width))
    y0, x0 = divmod(-top[1], width)
    reach = round(tolerance * max(height, width))
    near = [(y - y0) ** 2 + (x - x0) ** 2 for y in range(height) for x in range(width) if region[y, x]]
    hit = min(near) <= reach**2
    inside, outside = heat[region], heat[~region]
    contrast = (inside.mean() - outside.mean()) / np.sqrt(inside.var() + outside.var())
    scaled = (heat - heat.min()) / (heat.max() - heat.min())
    ious = [((scaled > t) & region).sum() / ((scaled > t) | region).sum() for t in thresholds]
    return [float(hit), contrast, float(np.mean(ious)), region.mean()]


def slow_in_space(heat, region, tolerance, thresholds, spacing):
    """One map of a volume, voxel by voxel; distances in millimeters where a voxel has a size."""
    heat, region = heat.double().numpy(), region.numpy() > 0.5
    sizes = np.array(spacing or (1, 1, 1))
    peak = max(np.ndindex(heat.shape), key=lambda at: heat[at])
    reach = tolerance * max(np.array(heat.shape) * sizes)
    reach = reach if spacing else round(reach)
    nearest = min(np.linalg.norm((np.array(at) - peak) * sizes) for at in np.argwhere(region))
    inside, outside = heat[region], heat[~region]
    contrast = (inside.mean() - outside.mean()) / np.sqrt(inside.var() + outside.var())
    scaled = (heat - heat.min()) / (heat.max() - heat.min())
    ious = [((scaled > t) & region).sum() / ((scaled > t) | region).sum() for t in thresholds]
    return [float(nearest <= reach + 1e-9), contrast, float(np.mean(ious)), region.mean()]


@pytest.mark.parametrize(
    ("tolerance", "spacing"), [(0.0, None), (0.2, None), (0.0, (1, 1, 3)), (0.06, (0.7, 0.7, 3.0)), (0.2, (2, 1.5, 1))]
)
def test_volumes_equal_the_slow_computation(tolerance, spacing):
    torch.manual_seed(0)
    heat, region = torch.rand(16, 9, 13, 6), torch.zeros(16, 9, 13, 6)
    for i in range(16):
        region[i, i % 4 : i % 4 + 4, i % 5 : i % 5 + 3 + i % 3, 1 : 3 + i % 3] = 1
        heat[i] += 0.005 * region[i]
    found = compute_grounding(heat, region, tolerance, (0.3, 0.6), spacing)
    wanted = [slow_in_space(h, r, tolerance, (0.3, 0.6), spacing) for h, r in zip(heat, region, strict=True)]
    torch.testing.assert_close(found.double(), torch.tensor(wanted).double(), rtol=1e-4, atol=1e-5)
    assert 0 < found[:, 0].mean() < 1, "both hits and misses"
    metric = GroundingMetric(tolerance, (0.3, 0.6), spacing)
    metric(heat[:, None], region[:, None])
    assert list(metric.aggregate().values()) == pytest.approx(np.mean(wanted, axis=0).tolist(), rel=1e-4)


@pytest.mark.parametrize("tolerance", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("shape", [(30, 30), (21, 34)])
def test_equals_the_slow_computation(tolerance, shape):
    torch.manual_seed(0)
    heat = torch.rand(12, *shape)
    region = torch.zeros(12, *shape)
    for i in range(12):
        region[i, i : i + 7, 2 * i % 9 : 2 * i % 9 + 1 + i] = 1
        heat[i] += 0.02 * region[i]
    found = compute_grounding(heat, region, tolerance, (0.25, 0.5, 0.75))
    wanted = torch.tensor([slow(h, r, tolerance, (0.25, 0.5, 0.75)) for h, r in zip(heat, region, strict=True)])
    torch.testing.assert_close(found.double(), wanted.double(), rtol=1e-4, atol=1e-5)
    assert 0 < wanted[:, 0].mean() < 1, "both hits and misses"


def test_metric_is_the_mean_over_batches():
    torch.manual_seed(1)
    heat, region = torch.rand(7, 1, 16, 16), (torch.rand(7, 1, 16, 16) > 0.6).float()
    metric = GroundingMetric(tolerance=0.1)
    assert isinstance(metric, CumulativeIterationMetric)
    metric(heat[:3], region[:3])
    metric(heat[3:], region[3:])
    wanted = compute_grounding(heat[:, 0], region[:, 0], 0.1).mean(0).tolist()
    assert list(metric.aggregate()) == ["pointing_game", "contrast_to_noise", "mean_iou", "area"]
    assert list(metric.aggregate().values()) == pytest.approx(wanted, rel=1e-5)


def test_perfect_and_opposite_maps():
    region = torch.zeros(1, 20, 20)
    region[:, 5:9, 5:9] = 1
    hit, contrast, iou, area = compute_grounding(region, region)[0].tolist()
    assert (hit, iou, area) == (1, 1, pytest.approx(0.04))
    assert contrast > 1e3
    hit, contrast, iou, _ = compute_grounding(1 - region, region)[0].tolist()
    assert (hit, iou) == (0, 0)
    assert contrast < -1e3


def test_a_constant_map_has_no_contrast():
    region = torch.zeros(1, 8, 8)
    region[:, 4:, 4:] = 1
    assert compute_grounding(torch.full((1, 8, 8), 0.3), region)[0].tolist() == pytest.approx([0, 0, 0, 0.25], abs=1e-5)


def test_half_precision_and_device_follow_the_input():
    region = torch.zeros(2, 8, 8)
    region[:, 2:5, 2:5] = 1
    assert compute_grounding(torch.rand(2, 8, 8).half(), region.half()).dtype == torch.float32
    assert compute_grounding(torch.rand(2, 8, 8).double(), region).dtype == torch.float64


@pytest.mark.parametrize(
    ("heat", "region", "message"),
    [
        (torch.rand(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), "region is empty"),
        (torch.full((1, 1, 8, 8), torch.nan), torch.ones(1, 1, 8, 8), "not finite"),
        (torch.rand(1, 1, 8, 8), torch.ones(1, 1, 8, 9), "must both be"),
        (torch.rand(1, 8, 8), torch.ones(1, 8, 8), "must both be"),
        (torch.rand(1, 1, 8, 8), None, "must both be"),
    ],
)
def test_bad_input(heat, region, message):
    with pytest.raises(ValueError, match=message):
        GroundingMetric()(heat, region)


def test_no_data():
    with pytest.raises(ValueError, match="no data"):
        GroundingMetric().aggregate()
