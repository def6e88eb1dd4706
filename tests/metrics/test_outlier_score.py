# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The distance from a training's features: by hand, against scikit-learn, and what has no distance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from monai_mgca.metrics import OutlierScore, fit_outlier_score, shrunk_covariance


def squares(values):
    """Features whose roots are these."""
    values = torch.as_tensor(values)
    return values.sign() * values**2


def gaussian(number, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(number, size, generator=generator) @ torch.randn(size, size, generator=generator)
    return squares(mixed + 3)


class TestByHand:
    def test_along_and_beside_the_axes(self):
        """Of three directions one is an axis, of variance 4; the others have a variance of 0.25."""
        axis = torch.tensor([[0.6], [0.8], [0.0]])
        score = OutlierScore(torch.tensor([1.0, 0.0, 0.0]), axis, torch.tensor([4.0]), 0.25, threshold=2.0)
        # 5 along the axis; 1 beside it; both
        points = torch.tensor([[1 + 3.0, 4.0, 0.0], [1.0, 0.0, -1.0], [1 + 3.0, 4.0, 1.0]])
        distances = score.distances(squares(points))
        torch.testing.assert_close(distances, torch.tensor([2.5, 2.0, math.sqrt(10.25)]).double(), atol=1e-6, rtol=0)
        assert score.flags(torch.tensor([2.5, 2.0, math.nan])).tolist() == [True, False, True]

    def test_known_covariance(self):
        """Many points of a Gaussian whose distances are known."""
        generator = torch.Generator().manual_seed(0)
        points = torch.randn(200_000, 2, generator=generator).double() * torch.tensor([1.0, 3.0]) + 20
        score = fit_outlier_score(squares(points), squares(points))
        found = score.distances(squares(torch.tensor([[20.0, 20.0], [22.0, 20.0], [20.0, 26.0], [21.0, 23.0]])))
        torch.testing.assert_close(found, torch.tensor([0, 2, 2, math.sqrt(2)]).double(), atol=0.02, rtol=0)
        # 95 % of two normal squares are below -2 log 0.05
        assert score.threshold == pytest.approx(math.sqrt(-2 * math.log(0.05)), abs=0.02)

    def test_covariance_of_a_square(self):
        corners = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0], [2.0, 3.0]])
        assert torch.equal(shrunk_covariance(corners), torch.eye(2).double())


@pytest.mark.parametrize(("number", "size"), [(200, 8), (60, 30), (20, 50)])  # the last has fewer images than features
def test_equals_scikit_learn(number, size):
    covariance = pytest.importorskip("sklearn.covariance")
    features, others = gaussian(number, size), gaussian(15, size, seed=1)
    roots = [np.sign(x) * np.sqrt(np.abs(x)) for x in (features.double().numpy(), others.double().numpy())]
    reference = covariance.LedoitWolf().fit(roots[0])
    np.testing.assert_allclose(shrunk_covariance(torch.tensor(roots[0])), reference.covariance_, rtol=1e-9, atol=1e-9)
    score = fit_outlier_score(features)
    np.testing.assert_allclose(score.distances(others), np.sqrt(reference.mahalanobis(roots[1])), rtol=1e-4)


class TestAxes:
    def test_few_axes_are_near_all_of_them(self):
        """Where the directions that are left out vary alike."""
        generator = torch.Generator().manual_seed(0)
        spread = torch.cat([torch.full((4,), 5.0), torch.ones(60)])
        features = torch.randn(3000, 64, generator=generator) * spread
        all_, few = (fit_outlier_score(squares(features), axes=axes) for axes in (64, 4))
        assert few.axes.shape == (64, 4)
        torch.testing.assert_close(
            few.distances(squares(features)), all_.distances(squares(features)), rtol=0.05, atol=0.1
        )

    def test_1024_features_take_a_megabyte(self):
        score = fit_outlier_score(torch.rand(30, 1024))
        assert sum(x.nbytes for x in (score.mean, score.axes, score.variances)) < 1.1 * 10**6
        assert score.distances(torch.rand(3, 1024)).isfinite().all()


class TestThreshold:
    def test_is_of_what_was_held_out(self):
        features, held_out = gaussian(500, 6), gaussian(400, 6, seed=0)
        distances = fit_outlier_score(features).distances(held_out)
        for percentile in (50, 95, 99):
            threshold = fit_outlier_score(features, held_out, percentile).threshold
            assert (distances > threshold).float().mean() == pytest.approx(1 - percentile / 100, abs=0.003)

    def test_without_it_is_of_parts_that_were_left_out(self):
        """Of forty images with twenty features their own distances are far too small."""
        features = squares(torch.randn(40, 20, generator=torch.Generator().manual_seed(0)))
        others = squares(torch.randn(4000, 20, generator=torch.Generator().manual_seed(1)))
        score = fit_outlier_score(features)
        own = fit_outlier_score(features, features)
        rate = score.flags(score.distances(others)).float().mean()
        assert own.threshold < score.threshold
        assert 0.01 < rate < 0.12

    def test_is_the_same_again(self):
        first, second = (fit_outlier_score(gaussian(100, 12)) for _ in range(2))
        assert first.threshold == second.threshold
        assert torch.equal(first.axes, second.axes)


class TestRefused:
    def test_too_few(self):
        with pytest.raises(ValueError, match="two images or more"):
            fit_outlier_score(torch.rand(1, 4))

    def test_not_finite(self):
        with pytest.raises(ValueError, match="not finite"):
            fit_outlier_score(torch.tensor([[1.0, math.nan], [0.0, 1.0]]))

    def test_all_the_same(self):
        with pytest.raises(ValueError, match="the same"):
            fit_outlier_score(torch.ones(10, 4))

    def test_another_number_of_features(self):
        with pytest.raises(ValueError, match=r"\(N, 4\)"):
            fit_outlier_score(torch.rand(10, 4)).distances(torch.rand(3, 5))

    def test_dead_features_are_taken(self):
        """A channel that is always 0, and then is not, is as unlike as can be."""
        features = torch.cat([torch.rand(100, 3), torch.zeros(100, 1)], 1)
        score = fit_outlier_score(features)
        assert score.flags(score.distances(torch.tensor([[0.5, 0.5, 0.5, 9.0]]))).all()
