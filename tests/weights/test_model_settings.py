# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import zipfile

import pytest
import torch

from monai_mgca.utils import CheckpointError, DataError, write_settings
from monai_mgca.weights import read_model_settings, refuse_sample
from monai_mgca.weights.model_settings import LONGEST, RECORD, add_settings


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "models" / "model.pt"
    path.parent.mkdir()
    torch.save({"a": torch.arange(5.0), "b": torch.zeros(2, 3)}, path)
    return path


def test_the_file_stays_a_plain_state_dict(weights):
    before = torch.load(weights, weights_only=True)
    add_settings(weights, {"image_size": 32, "classes": ["é", "b"]})
    for mapped in (False, True):
        after = torch.load(weights, weights_only=True, mmap=mapped)
        assert list(after) == list(before)
        assert all(torch.equal(after[name], before[name]) for name in before)
    assert read_model_settings(weights) == {"image_size": 32, "classes": ["é", "b"]}


def test_the_same_is_the_same_bytes(weights, tmp_path):
    other = tmp_path / "models" / "other.pt"
    other.write_bytes(weights.read_bytes())
    for path in (weights, other):
        add_settings(path, {"image_size": 32})
    assert weights.read_bytes() == other.read_bytes()


def test_old_weights_have_the_file_beside_them(weights):
    assert read_model_settings(weights) == {}
    with pytest.raises(CheckpointError, match="train first"):
        read_model_settings(weights, required=True)
    write_settings(weights.with_name("model.json"), {"image_size": 32})
    assert read_model_settings(weights, required=True) == {"image_size": 32}
    assert read_model_settings(weights, "model_segmentation.json") == {}
    with pytest.raises(CheckpointError, match=r"There is no checkpoint file 'nowhere/model.pt'"):
        read_model_settings("nowhere/model.pt", required=True)
    assert read_model_settings(weights.with_suffix(".safetensors")) == {"image_size": 32}  # converted: no archive


@pytest.mark.parametrize("text", ['{"image_size": 64, "pool": "cls"}', "{", "[]"])
def test_settings_of_other_weights_are_reported_and_not_used(weights, text, caplog):
    """As a killed training may leave them, or a user who changed them."""
    add_settings(weights, {"image_size": 32})
    weights.with_name("model.json").write_text(text)
    if text == "[]":  # of old weights it would be all there is
        weights.with_name("old.pt").write_bytes(b"")
        with pytest.raises(CheckpointError, match="no settings by name"):
            read_model_settings(weights.with_name("old.pt"))
    assert read_model_settings(weights) == {"image_size": 32}
    assert "model.json" in caplog.text
    assert "are used" in caplog.text


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\udcff".encode("utf-8", "surrogatepass"), "x" * (LONGEST + 1)])
def test_a_record_of_anything_is_refused_or_left_alone(weights, text):
    with zipfile.ZipFile(weights, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"model/{RECORD}", text)
    try:
        assert read_model_settings(weights) == {}
    except CheckpointError as error:
        assert "not JSON" in str(error)  # noqa: PT017
    assert len(torch.load(weights, weights_only=True)) == 2


def test_the_report_encoder_is_found_from_anywhere(weights, tmp_path, monkeypatch):
    """Beside the weights, wherever they are moved; by paths of older versions from any folder, too."""
    (weights.parent / "report_encoder-1").mkdir()
    (tmp_path / "bundle" / "data" / "bert").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    cases = {
        "report_encoder-1": weights.parent / "report_encoder-1",
        "bundle/data/bert": tmp_path / "bundle" / "data" / "bert",
        str(tmp_path / "bundle"): tmp_path / "bundle",
        "someone/bert": "someone/bert",
    }
    for place in (tmp_path, tmp_path / "elsewhere", weights.parent):
        monkeypatch.chdir(place)
        for named, found in cases.items():
            write_settings(weights.with_name("model.json"), {"report_encoder": named})
            for path in (weights, os.path.relpath(weights)):
                assert read_model_settings(path)["report_encoder"] == str(found)
    moved = weights.parent.rename(tmp_path / "moved")
    (moved / "model.json").write_text(json.dumps({"report_encoder": "report_encoder-1"}))
    assert read_model_settings(moved / "model.pt")["report_encoder"] == str(moved / "report_encoder-1")


def test_weights_of_own_data_are_not_measured_on_the_sample():
    for settings, folder in (({}, None), ({"use_sample": True}, None), ({"use_sample": False}, "dicom")):
        refuse_sample(settings, folder)
    with pytest.raises(DataError, match="--dataset_dir"):
        refuse_sample({"use_sample": False}, None)
