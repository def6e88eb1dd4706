# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from monai_mgca.label.active import k_center, mix_scores, novelty


def slow_k_center(vectors, labeled, count, allowed):
    """One pair at a time, in plain Python."""

    def distance(a, b):
        return 1 - sum(x * y for x, y in zip(vectors[a], vectors[b], strict=True))

    known, chosen = list(labeled), []
    for _ in range(count):
        free = [row for row in allowed if row not in known]
        if not free:
            break
        if known:
            best = max(free, key=lambda row: (min(distance(row, other) for other in known), -row))
        else:
            best = min(free, key=lambda row: (sum(distance(row, other) for other in free), row))
        known.append(best)
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("labeled", [[], [3], [0, 7, 19]])
@pytest.mark.parametrize("allowed", [range(20), range(4, 12)])
def test_chooses_as_the_slow_way(labeled, allowed):
    vectors = normalize(torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), dim=1)
    for count in (1, 5, 99):
        wanted = slow_k_center(vectors.tolist(), labeled, count, allowed)
        assert k_center(vectors, labeled, count, allowed) == wanted
    for row, value in enumerate(novelty(vectors, labeled).tolist()):
        wanted = min((1 - math.fsum((vectors[row] * vectors[other]).tolist()) for other in labeled), default=1)
        assert value == pytest.approx(max(wanted, 0), abs=1e-12)


def test_every_cluster_comes_before_any_comes_twice():
    centers = torch.eye(6)
    vectors = normalize(
        centers.repeat(9, 1) + 0.05 * torch.randn(54, 6, generator=torch.Generator().manual_seed(0)), dim=1
    )
    assert sorted(row % 6 for row in k_center(vectors, [], 6)) == list(range(6))


def test_many_labels_and_few_images_left():
    vectors = normalize(torch.randn(3000, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    assert k_center(vectors, range(2999), 5) == [2999]
    assert k_center(vectors, range(3000), 5) == []
    assert novelty(vectors, range(3000)).max() < 1e-5


def test_mix_is_between_both():
    uncertain, new = torch.tensor([0.0, 2.0, 1.0]), torch.tensor([0.5, 0.1, 0.3])
    torch.testing.assert_close(mix_scores(uncertain, new, 1), torch.tensor([0.0, 1.0, 0.5]))
    torch.testing.assert_close(mix_scores(uncertain, new, 0), torch.tensor([1.0, 0.0, 0.5]))
    torch.testing.assert_close(mix_scores(uncertain, torch.ones(3), 0.5), torch.tensor([0.0, 0.5, 0.25]))
