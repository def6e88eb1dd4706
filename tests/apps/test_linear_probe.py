# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from monai_mgca.apps import compute_features, fit_linear_probe
from monai_mgca.apps.probe.linear_probe import FIXED_PENALTY, PENALTIES
from monai_mgca.networks import create_image_encoder

NAN = float("nan")


@pytest.mark.parametrize("encoder", ["resnet_compact", "vit_compact"])
def test_features_are_the_pooled_ones_in_evaluation(encoder):
    torch.manual_seed(0)
    network = create_image_encoder(encoder, 64).train()
    images = torch.rand(5, 1, 64, 64)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = compute_features(network, [{"image": part} for part in images.split(2)])
    assert network.training, "the mode is as it was"
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    torch.testing.assert_close(found, network.eval()(images).pooled.detach())
    assert not found.requires_grad


def make_set(count, num_features=4, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, (count, 2)).astype(float)
    features = 5 + generator.normal(size=(count, num_features)) * (1, 10, 0.1, 1)
    features[:, 0] += labels[:, 0]
    features[:, 1] -= 20 * labels[:, 1]
    return features, labels


def test_is_a_logistic_regression_of_standardized_features():
    features, labels = make_set(60)
    labels[::7, 1] = NAN
    probe = fit_linear_probe(features, labels, range(60))
    assert set(probe.penalties) <= set(PENALTIES)
    found = probe(features)
    for i, column in enumerate(labels.T):
        known = ~np.isnan(column)
        mean, std = features[known].mean(0), features[known].std(0)
        model = LogisticRegression(C=probe.penalties[i], max_iter=2000)
        model.fit((features[known] - mean) / std, column[known])
        np.testing.assert_allclose(found[:, i], model.predict_proba((features - mean) / std)[:, 1], atol=1e-5)


def test_the_penalty_is_chosen_where_there_is_enough():
    """What nothing explains wants a strong penalty, what is explained well a weak one."""
    features, labels = make_set(200)
    labels[:, 0] = np.random.default_rng(1).integers(0, 2, 200)
    strong, weak = fit_linear_probe(features, labels, range(200)).penalties
    assert strong < weak
    few = fit_linear_probe(features[:12], np.array([[1.0]] * 4 + [[0.0]] * 8), range(12))
    assert few.penalties == [FIXED_PENALTY]
    # twelve images of four patients are four
    labels = np.array([[1.0], [0.0]] * 6)
    assert fit_linear_probe(features[:12], labels, np.arange(12) // 3).penalties == [FIXED_PENALTY]


def test_a_class_that_cannot_be_fitted_has_no_model():
    features, labels = make_set(30)
    labels[:, 0] = 0
    probe = fit_linear_probe(features, labels, range(30))
    assert probe.models[0] is None
    assert probe.models[1] is not None
    found = probe(features)
    assert np.isnan(found[:, 0]).all()
    assert np.isfinite(found[:, 1]).all()


def test_multiclass():
    generator = np.random.default_rng(0)
    index = generator.integers(3, size=90)
    features = 3 * np.eye(3)[index] + generator.normal(size=(90, 3))
    probe = fit_linear_probe(features, np.eye(3)[index], range(90), "multiclass")
    found = probe(features)
    assert found.shape == (90, 3)
    np.testing.assert_allclose(found.sum(1), 1)
    assert (found.argmax(1) == index).mean() > 0.9
    missing = fit_linear_probe(features[index < 2], np.eye(3)[index[index < 2]], range((index < 2).sum()), "multiclass")
    assert missing.models == [None]
    assert np.isnan(missing(features)).all()
