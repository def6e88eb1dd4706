# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from monai_mgca.metrics import calibration_error, compute_zero_shot, fit_calibration, fit_temperature
from monai_mgca.transforms import calibrate


def true_frequencies(*parts):
    """Log-odds and labels of images whose frequency is exactly what the log-odds say, of (present, absent) counts."""
    odds = np.concatenate([np.full(sum(part), np.log(part[0] / part[1])) for part in parts])
    label = np.concatenate([np.repeat([1, 0], part) for part in parts])
    return odds, label


ODDS, LABEL = true_frequencies((1, 3), (3, 1), (1, 9), (2, 3))


@pytest.fixture
def noisy():
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 300)
    return expit(generator.normal(1.5 * label - 2, 1.0)), label


class TestTemperature:
    def test_scores_twice_the_log_odds_have_2(self):
        assert fit_calibration(expit(2 * ODDS), LABEL, "temperature")["temperature"] == pytest.approx(2, abs=1e-5)

    def test_what_is_right_stays(self):
        numbers = fit_calibration(expit(ODDS), LABEL, "temperature")
        assert calibrate(expit(ODDS), numbers) == pytest.approx(expit(ODDS), abs=1e-5)

    def test_of_three_classes(self):
        # frequencies 1/2, 1/4, 1/4; scores are of twice the logits
        right = np.array([0.5, 0.25, 0.25])
        sharp = right**2 / (right**2).sum()
        assert fit_temperature(np.tile(sharp, (4, 1)), np.array([0, 0, 1, 2])) == pytest.approx(2, abs=1e-5)

    def test_scores_that_say_nothing(self):
        with pytest.raises(ValueError, match="do not rise with the finding"):
            fit_calibration(np.array([0.9, 0.1]), np.array([0, 1]), "temperature")
        with pytest.raises(ValueError, match="part the labels without an error"):
            fit_calibration(np.array([0.2, 0.8]), np.array([0, 1]), "temperature")


class TestPlatt:
    def test_is_a_line_of_the_log_odds(self):
        # many images: Platt's targets are 0 and 1 then
        odds, label = true_frequencies((10_000, 30_000), (30_000, 10_000), (5_000, 45_000))
        numbers = fit_calibration(expit((odds + 1) / 0.5), label)
        assert numbers["slope"] == pytest.approx(0.5, abs=1e-3)
        assert numbers["intercept"] == pytest.approx(-1, abs=1e-3)

    def test_equals_a_slow_fit_of_platts_targets(self, noisy):
        probability, label = noisy
        odds, positives = np.log(probability / (1 - probability)), label.sum()
        target = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (len(label) - positives + 2))

        def loss(line):
            found = expit(line[0] * odds + line[1])
            return -(target * np.log(found) + (1 - target) * np.log(1 - found)).sum()

        wanted = minimize(loss, [1, 0], tol=1e-12).x
        numbers = fit_calibration(probability, label)
        assert [numbers["slope"], numbers["intercept"]] == pytest.approx(wanted, abs=1e-3)

    def test_is_finite_where_the_scores_part_the_labels(self):
        numbers = fit_calibration(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]))
        assert 0 < numbers["slope"] < 10
        assert calibrate(np.array([0.9]), numbers)[0] < 0.9

    def test_refuses_scores_that_fall(self):
        with pytest.raises(ValueError, match="do not rise"):
            fit_calibration(np.array([0.9, 0.8, 0.2, 0.1]), np.array([0, 0, 1, 1]))


class TestIsotonic:
    def test_equals_scikit_learns(self, noisy):
        probability, label = noisy
        numbers = json.loads(json.dumps(fit_calibration(probability, label, "isotonic")))
        curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probability, label)
        others = np.linspace(0, 1, 501)
        assert calibrate(others, numbers) == pytest.approx(curve.predict(others), abs=1e-12)

    def test_by_hand(self):
        # 0.2 and 0.3 are in the wrong order, so both have the mean of their labels
        numbers = fit_calibration(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 1]), "isotonic")
        assert calibrate(np.array([0.0, 0.1, 0.2, 0.3, 0.35, 0.4, 1.0]), numbers) == pytest.approx(
            [0, 0, 0.5, 0.5, 0.75, 1, 1]
        )

    def test_refuses_scores_that_fall(self):
        with pytest.raises(ValueError, match="do not rise"):
            fit_calibration(np.array([0.9, 0.8, 0.2, 0.1]), np.array([0, 0, 1, 1]), "isotonic")


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_mends_what_it_was_fitted_to(noisy, method):
    probability, label = noisy
    numbers = fit_calibration(probability, label, method)
    assert calibration_error(calibrate(probability, numbers), label) < calibration_error(probability, label) / 3


def test_error_is_that_of_the_zero_shot_metric(noisy):
    probability, label = noisy
    wanted = compute_zero_shot(probability[:, None], label[:, None].astype(float), ["x"])["ece_x"]
    assert calibration_error(probability, label) == pytest.approx(wanted, abs=1e-6)
    assert calibration_error(np.array([0.9, 0.2, 0.6, 0.4]), np.array([1, 0, 0, 1])) == pytest.approx(0.375)


@pytest.mark.parametrize(
    ("label", "method", "words"), [([1, 1], "platt", "with the finding and without it"), ([0, 1], "plat", "plat")]
)
def test_refused(label, method, words):
    with pytest.raises(ValueError, match=words):
        fit_calibration(np.array([0.1, 0.2]), np.array(label), method)
