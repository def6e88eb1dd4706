# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Mistakes of users: each must end in one message that says what is wrong, where, and how to mend it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from monai_mgca.utils import CheckpointError, DataError
from monai_mgca.utils.errors import first_cause


@pytest.fixture
def data(sample, tmp_path):
    """A small dataset that a test may damage: 16 training entries, 4 to validate."""
    folder = tmp_path / "data"
    shutil.copytree(sample, folder)
    document = json.loads((folder / "datalist.json").read_text())
    for section, count in (("training", 16), ("validation", 4), ("test", 4)):
        document[section] = document[section][:count]
    (folder / "datalist.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def edit(data):
    """Changes the datalist by a function and writes it back."""

    def apply(change):
        path = data / "datalist.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return apply


@pytest.fixture
def fail(new_bundle, data):
    """Runs a config that must fail, and gives the error that a user sees."""

    def run(*names, kind="train", **overrides):
        if kind == "train":
            overrides = {"dataset_dir": str(data), "use_sample": True, "num_workers": 0, **overrides}
        with pytest.raises(Exception) as caught:  # noqa: PT011
            new_bundle().run(*(names or ("train",)), kind=kind, **overrides)
        return first_cause(caught.value)  # what explain_errors() prints

    return run


class TestData:
    def test_no_such_folder(self, fail, tmp_path):
        error = fail(dataset_dir=str(tmp_path / "nowhere"))
        assert isinstance(error, DataError)
        assert str(tmp_path / "nowhere") in str(error)
        assert "dataset_dir" in str(error)

    def test_no_datalist(self, fail, data):
        (data / "datalist.json").rename(data / "datalists.json")
        error = fail()
        assert isinstance(error, DataError)
        assert "datalists.json" in str(error)

    def test_no_validation(self, fail, edit):
        edit(lambda document: document.pop("validation"))
        error = fail()
        assert isinstance(error, DataError)
        assert "'validation'" in str(error)
        assert "training (16)" in str(error)

    def test_empty_file(self, fail, data):
        image = sorted((data / "images").iterdir())[0]
        for path in (data / "images").iterdir():
            path.write_bytes(b"")
        error = fail()
        assert isinstance(error, DataError)
        assert image.parent.name in str(error)
        assert "zero bytes" in str(error)

    @pytest.mark.parametrize("cache", ["none", "memory", "disk"])
    @pytest.mark.parametrize("content", ["truncated", "text"])
    def test_broken_image(self, fail, edit, data, content, cache):
        name = json.loads((data / "datalist.json").read_text())["training"][3]["image"]
        path = data / name
        path.write_bytes(path.read_bytes()[:600] if content == "truncated" else b"not an image, but a text" * 20)
        error = fail(cache=cache)
        assert isinstance(error, DataError), repr(error)
        assert name in str(error)

    def test_broken_image_in_a_worker(self, fail, data):
        name = json.loads((data / "datalist.json").read_text())["training"][3]["image"]
        (data / name).write_bytes(b"not an image, but a text" * 20)
        error = fail(cache="none", num_workers=1)
        assert name in str(error)

    def test_empty_report(self, fail, edit, data):
        edit(lambda document: document["training"][2].update(report="  "))
        error = fail()
        name = json.loads((data / "datalist.json").read_text())["training"][2]["image"]
        assert isinstance(error, DataError)
        assert name in str(error)
        assert "report" in str(error)

    def test_report_that_cleaning_empties(self, fail, edit, data):
        edit(lambda document: document["training"][2].update(report="___ . ___ ."))
        error = fail()
        name = json.loads((data / "datalist.json").read_text())["training"][2]["image"]
        assert isinstance(error, DataError)
        assert name in str(error)
        assert "___" not in str(error)

    def test_path_that_leaves_the_folder(self, fail, edit):
        edit(lambda document: document["training"][0].update(image="../../etc/passwd"))
        error = fail()
        assert isinstance(error, DataError)
        assert "outside" in str(error)

    def test_batch_larger_than_the_data(self, fail):
        error = fail(batch_size=17)
        assert isinstance(error, DataError)
        assert "17" in str(error)
        assert "16" in str(error)
        assert "batch_size" in str(error)

    def test_micro_batches_with_batch_norm(self, fail):
        error = fail(micro_batch_size=4)
        assert isinstance(error, ValueError)
        assert "not exact with ResNetImageEncoder" in str(error)
        assert "set micro_batch_size to 0" in str(error)

    def test_inference_without_images(self, fail, tmp_path):
        (tmp_path / "empty").mkdir()
        error = fail("inference", kind="infer", dataset_dir=str(tmp_path / "empty"), load_pretrain=False)
        assert isinstance(error, DataError)
        assert str(tmp_path / "empty") in str(error)


class TestWeights:
    @pytest.fixture(autouse=True)
    def _offline(self, monkeypatch, tmp_path):
        """No network, whatever the machine has, and no cache of the hub."""
        import huggingface_hub.constants as constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def test_report_encoder(self, fail):
        error = fail(report_encoder="nobody/no-such-bert", cache="none")
        assert "nobody/no-such-bert" in str(error)
        assert "local folder" in str(error)

    def test_image_encoder(self, fail):
        error = fail(image_encoder="vit_tiny", image_encoder_weights="timm/no_such_vit")
        assert isinstance(error, CheckpointError)
        assert "timm/no_such_vit" in str(error)
        assert "local file" in str(error)

    def test_folder_without_weights(self, fail):
        error = fail(report_encoder_pretrained=True)
        assert "holds no weights" in str(error)
        assert "report_encoder" in str(error)

    def test_pretrained_path_of_another_architecture(self, fail, trained):
        path = str(trained.bundle.path("models", "model_pretrain.pt"))
        error = fail(pretrained_path=path, image_encoder="resnet_compact", embed_dim=64)
        assert isinstance(error, CheckpointError)
        assert path in str(error)
        assert "another architecture" in str(error)
        assert "embed_dim" in str(error)

    def test_no_pretrained_path(self, fail, tmp_path):
        error = fail(pretrained_path=str(tmp_path / "none.pt"))
        assert isinstance(error, CheckpointError)
        assert str(tmp_path / "none.pt") in str(error)

    def test_inference_without_a_model(self, fail, sample):
        error = fail("inference", kind="infer", dataset_dir=str(sample / "images"))
        assert isinstance(error, CheckpointError)
        assert "model.pt" in str(error)

    def test_evaluation_without_a_model(self, fail):
        error = fail("train", "evaluate")
        assert isinstance(error, CheckpointError)
        assert "model_pretrain.pt" in str(error)
        assert "train first" in str(error)

    def test_pickled_code(self, fail, tmp_path):
        torch.save({"model": object()}, tmp_path / "pickle.pt")
        error = fail(pretrained_path=str(tmp_path / "pickle.pt"))
        assert isinstance(error, CheckpointError)
        assert "pickle.pt" in str(error)


@pytest.mark.parametrize(
    ("option", "value", "near"),
    [
        ("image_encoder", "resnet51", "resnet50"),
        ("matcher", "similar", "similarity"),
        ("cache", "memry", "memory"),
        ("pool_report", "meen", "mean"),
    ],
)
def test_unknown_value(fail, option, value, near):
    error = fail(**{option: value})
    assert isinstance(error, ValueError)
    assert value in str(error)
    assert near in str(error)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"instance_weight": 0, "token_weight": 0, "prototype_weight": 0}, "not all 0"),
        ({"report_layers": 3}, "num_layers must be 1 to 2, got 3"),
        ({"max_length": 200}, "200"),
        ({"max_length": 1}, "max_length"),
        ({"matcher": "learned", "matcher_heads": 3}, "heads"),
        ({"use_sample": True, "sample_size": 3, "dataset_dir": None}, "size must be at least 8, got 3"),
    ],
)
def test_impossible_value(fail, overrides, message):
    assert message in str(fail(**overrides))


def test_the_command_ends_with_the_cause(new_bundle, command, tmp_path):
    bundle = new_bundle()
    config = str(bundle.path("configs", "train.json"))
    done = command("monai.bundle", "run", "--config_file", config, "--dataset_dir", "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    cause, place = done.stderr.rstrip().splitlines()[-2:]
    assert cause.startswith("error: dataset_dir does not exist: nowhere.")
    log = bundle.path("eval", "run.log")  # and nothing where it was started
    assert place == f"The traceback is at the end of {log}."
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "eval").exists()
    assert "Traceback" in log.read_text()
