# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The bootstrap of detection figures, against the figures of each resampled set."""

import numpy as np
import pytest
import torch

from monai_mgca.metrics import DetectionMetric
from monai_mgca.metrics.bootstrap import resample_counts
from monai_mgca.metrics.detection import compute_detection

CLASSES = ["a", "rare one"]


def images_of(spatial_dims, count=9):
    """Images of true boxes and moved ones, one of them without any box; one of them alone has the rare class."""
    rng = np.random.default_rng(1)
    images = [np.zeros((0, 2 + 2 * spatial_dims))]
    for i in range(count - 1):
        low = rng.integers(0, 50, (3, spatial_dims))
        boxes = np.concatenate((low, low + rng.integers(8, 20, low.shape)), axis=1)
        label = np.array([0, 0, int(i == 0)])
        true = np.column_stack((label, np.full(3, np.inf), boxes))
        found = np.column_stack((label, rng.permutation(30)[:3] / 30, boxes + rng.normal(0, 1.5, boxes.shape)))
        images.append(np.concatenate((true, found)))
    return images


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_bootstrap_equals_a_loop_over_the_same_resamples(spatial_dims):
    images = images_of(spatial_dims)
    found = compute_detection(images, CLASSES, spatial_dims=spatial_dims, bootstrap=60, seed=3)
    plain = compute_detection(images, CLASSES, spatial_dims=spatial_dims)
    each = [
        compute_detection(np.repeat(np.array(images, dtype=object), times).tolist(), CLASSES, spatial_dims=spatial_dims)
        for counts in resample_counts(len(images), 60, 3)
        for times in counts
    ]
    assert {name: found[name] for name in plain} == plain
    for name in plain:
        values = [row[name] for row in each if name in row]  # a resampled set without the rare class
        low, high = np.percentile(values, (2.5, 97.5))
        assert (found[f"{name}_low"], found[f"{name}_high"]) == pytest.approx((low, high), abs=1e-12)
    assert any(len(row) < len(plain) for row in each)


def test_intervals_do_not_depend_on_the_order_of_the_images():
    images = images_of(2)

    def figures(order):
        metric = DetectionMetric(CLASSES, bootstrap=40)
        for i in order:
            rows = torch.as_tensor(images[i])
            true, found = rows[rows[:, 1].isinf()], rows[~rows[:, 1].isinf()]
            metric(
                [{"boxes": found[:, 2:], "labels": found[:, 0].long(), "labels_scores": found[:, 1]}],
                [{"boxes": true[:, 2:], "labels": true[:, 0].long()}],
            )
        return metric.aggregate()

    order = range(len(images))
    assert figures(order) == pytest.approx(figures(order[::-1]), nan_ok=True)


def test_no_box_at_all_has_no_interval():
    figures = compute_detection([np.zeros((0, 6))] * 3, CLASSES, bootstrap=5)
    assert np.isnan([figures[f"{name}{end}"] for name in ("map_50", "froc") for end in ("", "_low", "_high")]).all()
