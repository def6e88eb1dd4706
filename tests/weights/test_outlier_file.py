# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The file of an outlier score: it comes back as it was, is of its weights alone, and damage is named."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from monai_mgca.metrics import fit_outlier_score
from monai_mgca.networks import create_image_encoder
from monai_mgca.utils import DataError
from monai_mgca.weights import outlier_path, read_outlier_score, write_outlier_score


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return create_image_encoder("resnet_tiny")


@pytest.fixture
def written(encoder, tmp_path):
    """The path of weights with a score beside them, and the score."""
    score = fit_outlier_score(torch.rand(40, 300, generator=torch.Generator().manual_seed(0)))
    write_outlier_score(tmp_path / "model_pretrain.pt", score, encoder)
    return tmp_path / "model_pretrain.pt", score


def test_round_trip(written, encoder):
    checkpoint, score = written
    found = read_outlier_score(checkpoint, encoder)
    for name in ("mean", "axes", "variances"):
        assert torch.equal(getattr(found, name), getattr(score, name))
    assert (found.residual, found.threshold) == (score.residual, score.threshold)
    features = torch.rand(5, 300)
    assert torch.equal(found.distances(features), score.distances(features))


def test_same_score_is_the_same_bytes(written, encoder):
    checkpoint, score = written
    before = outlier_path(checkpoint).read_bytes()
    write_outlier_score(checkpoint, score, encoder)
    assert outlier_path(checkpoint).read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == ["model_outliers.safetensors"]


def test_is_found_from_both_files_of_a_training(written, encoder):
    checkpoint, _ = written
    assert read_outlier_score(checkpoint.with_name("model.pt"), encoder) is not None
    assert outlier_path("a/official.pt").name == "official_outliers.safetensors"


def test_none_where_there_is_none(encoder, tmp_path):
    assert read_outlier_score(tmp_path / "model.pt", encoder) is None


def test_of_other_weights_is_not_used(written, encoder, caplog):
    checkpoint, _ = written
    other = create_image_encoder("resnet_tiny")
    assert read_outlier_score(checkpoint, other) is None
    assert "other weights than model_pretrain.pt" in caplog.text
    other.load_state_dict(encoder.state_dict())
    assert read_outlier_score(checkpoint, other) is not None


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path):
    path.write_bytes(b"no tensors at all")


def lacking(path):
    tensors = load_file(path)
    del tensors["variances"]
    save_file(tensors, path)


def of_other_sizes(path):
    save_file({**load_file(path), "variances": torch.ones(3)}, path)


def not_finite(path):
    tensors = load_file(path)
    tensors["mean"][0] = float("nan")
    save_file(tensors, path)


def without_variance(path):
    tensors = load_file(path)
    tensors["variances"][-1] = 0
    save_file(tensors, path)


@pytest.mark.parametrize("damage", [cut, foreign, lacking, of_other_sizes, not_finite, without_variance])
def test_damage_is_named(written, encoder, damage):
    checkpoint, _ = written
    damage(outlier_path(checkpoint))
    with pytest.raises(DataError, match=r"model_outliers\.safetensors is damaged .*mgca outliers --fit"):
        read_outlier_score(checkpoint, encoder)
