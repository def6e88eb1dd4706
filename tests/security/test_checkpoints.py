# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A checkpoint, cache, index, encoder or tokenizer that would run code when loaded is refused, and runs nothing."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from ignite.engine import Engine

import monai_mgca.apps.card.card_command
import monai_mgca.apps.ground.ground_command
import monai_mgca.apps.probe.probe_command
import monai_mgca.apps.retrieve.retrieve_command
import monai_mgca.apps.weights_command
from monai_mgca.apps import load_pretrained
from monai_mgca.handlers.resume.resume_training import TrainingCheckpoint
from monai_mgca.io.embedding_file import read_embeddings, write_embeddings
from monai_mgca.networks import ReportEncoder, create_image_encoder, create_segmenter
from monai_mgca.transforms import TokenizeReport
from monai_mgca.utils import CheckpointError
from monai_mgca.weights import (
    convert_official_checkpoint,
    load_encoder,
    load_image_weights,
    load_network,
    load_timm_vit,
    load_torchvision_resnet,
    start_encoder,
)
from monai_mgca.weights.weight_file import read_checkpoint


class Payload:
    """What makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return (os.mkdir, (self.folder,))


def weights():
    return {"conv1.weight": torch.zeros(1)}


# how a file may be made that runs something in a loader that is not careful
HARMS = {
    "saved alone": lambda path, evil: torch.save(evil, path),
    "beside tensors": lambda path, evil: torch.save({"state_dict": weights(), "hyper_parameters": evil}, path),
    "in a list": lambda path, evil: torch.save({**weights(), "x": [1, (evil,)]}, path),
    "in the old format": lambda path, evil: torch.save(
        {**weights(), "x": evil}, path, _use_new_zipfile_serialization=False
    ),
    "pickled": lambda path, evil: path.write_bytes(pickle.dumps(evil)),
    "pickled, protocol 0": lambda path, evil: path.write_bytes(pickle.dumps(evil, protocol=0)),
}


@pytest.fixture
def harm(tmp_path):
    """The folder that a payload makes; none may."""
    path = tmp_path / "harm"
    yield path
    assert not path.exists()


@pytest.mark.parametrize("kind", HARMS)
@pytest.mark.parametrize("name", ["x.pt", "x.pth", "x.ckpt", "x.safetensors", "x"])
def test_the_one_reader_of_checkpoints(tmp_path, harm, kind, name):
    HARMS[kind](tmp_path / name, Payload(harm))
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("kind", HARMS)
def test_the_payloads_are_real(tmp_path, kind):
    """Loaded without care each makes the folder."""
    HARMS[kind](tmp_path / "x.pt", Payload(tmp_path / "harm"))
    if kind.startswith("pickled"):
        pickle.loads((tmp_path / "x.pt").read_bytes())
    else:
        torch.load(tmp_path / "x.pt", weights_only=False)
    assert (tmp_path / "harm").is_dir()


LOADERS = {
    "load_network": lambda path: load_network(create_image_encoder("resnet_tiny"), path),
    "load_encoder": lambda path: load_encoder(create_segmenter("resnet_tiny", num_classes=1, image_size=64), path),
    "start_encoder": lambda path: start_encoder(create_segmenter("resnet_tiny", 1, 64), path),
    "load_timm_vit": lambda path: load_timm_vit(create_image_encoder("resnet_tiny"), path),
    "load_torchvision_resnet": lambda path: load_torchvision_resnet(create_image_encoder("resnet_tiny"), path),
    "load_image_weights": lambda path: load_image_weights(create_image_encoder("resnet_tiny"), path),
    "convert_official": lambda path: convert_official_checkpoint(path, path.with_name("out.pt")),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", ["beside tensors", "in the old format", "pickled"])
def test_every_function_that_loads_weights(tmp_path, harm, loader, kind):
    HARMS[kind](tmp_path / "x.pt", Payload(harm))
    with pytest.raises(CheckpointError, match=r"x.pt"):
        LOADERS[loader](tmp_path / "x.pt")
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize("kind", ["beside tensors", "pickled"])
def test_going_on_with_a_training(tmp_path, harm, kind):
    path = tmp_path / "models" / "checkpoint_iteration=1.pt"
    path.parent.mkdir()
    HARMS[kind](path, Payload(harm))
    network, trainer = torch.nn.Linear(1, 1), Engine(lambda engine, batch: None)
    TrainingCheckpoint(path.parent, {"network": network}, resume=True).attach(trainer)
    with pytest.raises(CheckpointError, match=r"checkpoint_iteration=1.pt"):
        trainer.run([0], max_epochs=2)


class TestCommands:
    @pytest.fixture
    def place(self, made, tmp_path, harm):
        """The sample and a model with a payload in its weights."""
        shutil.copytree(made / "models", tmp_path / "models")
        HARMS["beside tensors"](tmp_path / "models" / "model_pretrain.pt", Payload(harm))
        shutil.copy(tmp_path / "models" / "model_pretrain.pt", tmp_path / "models" / "model.pt")
        return tmp_path

    def refused(self, capsys, code, name="model_pretrain.pt"):
        captured = capsys.readouterr()
        assert code in (1, 2)
        assert f"{name}' holds pickled objects" in captured.err
        assert "Traceback" not in captured.err

    @pytest.mark.parametrize("command", ["retrieve", "ground", "report", "probe", "weights"])
    def test_each(self, made, place, capsys, command):
        data = ["--dataset-dir", str(made / "data"), "--output", str(place / "out")]
        model = ["--checkpoint", str(place / "models" / "model_pretrain.pt")]
        image = next((made / "data" / "images").iterdir())
        if command == "retrieve":
            code = monai_mgca.apps.retrieve.retrieve_command.main([*model, *data, "--text", "left pleural effusion"])
        elif command == "ground":
            code = monai_mgca.apps.ground.ground_command.main(
                [*model, *data, "--image", str(image), "--text", "left effusion"]
            )
        elif command == "report":
            code = monai_mgca.apps.card.card_command.main([*model, *data, "--logdir", str(place)])
        elif command == "probe":
            model[1] = str(place / "models" / "model.pt")
            code = monai_mgca.apps.probe.probe_command.main([*model, *data, "--classes", "opacity"])
        else:
            code = monai_mgca.apps.weights_command.main(["convert", model[1], str(place / "out.pt")])
        self.refused(capsys, code, "model.pt" if command == "probe" else "model_pretrain.pt")
        assert not (place / "out.pt").exists()

    def test_settings_beside_the_weights_are_values_alone(self, made, place):
        """What stands in model.json is never taken for an expression."""
        settings = json.loads((place / "models" / "model.json").read_text())
        settings["report_encoder"] = "$__import__('os').mkdir('harm')"
        (place / "models" / "model.json").write_text(json.dumps(settings))
        shutil.copy(made / "models" / "model_pretrain.pt", place / "models" / "model_pretrain.pt")
        with pytest.raises(ValueError, match="report encoder"):
            load_pretrained(place / "models" / "model_pretrain.pt")


class TestReportEncoder:
    @pytest.fixture
    def folder(self, made, tmp_path):
        return shutil.copytree(made / "data" / "report_encoder", tmp_path / "report_encoder")

    @pytest.mark.parametrize("kind", ["saved alone", "beside tensors", "in the old format", "pickled"])
    def test_weights_that_are_pickled(self, folder, harm, kind):
        for path in folder.glob("*.safetensors"):
            path.unlink()
        HARMS[kind](folder / "pytorch_model.bin", Payload(harm))
        with pytest.raises((CheckpointError, ValueError), match="report encoder"):
            ReportEncoder(folder)

    def test_weights_of_a_folder_in_torchs_format(self, folder):
        """Without a payload they are read, so that the refusal above is for the payload."""
        sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        encoder = ReportEncoder({**sizes, "intermediate_size": 8})
        encoder.model.config.save_pretrained(folder)
        for path in folder.glob("*.safetensors"):
            path.unlink()
        torch.save(encoder.model.state_dict(), folder / "pytorch_model.bin")
        found = ReportEncoder(folder).model.state_dict()
        assert all(torch.equal(value, found[key]) for key, value in encoder.model.state_dict().items())

    def test_code_in_the_folder_is_not_run(self, folder, harm):
        """Neither a configuration's nor a tokenizer's own classes, and nobody is asked at the terminal."""
        (folder / "evil.py").write_text(f"import os\nos.mkdir({str(harm)!r})\nclass Evil: pass\n")
        auto = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
        for name in ("config.json", "tokenizer_config.json"):
            path = folder / name
            content = json.loads(path.read_text()) if path.is_file() else {}
            path.write_text(json.dumps({**content, "auto_map": auto}))
        ReportEncoder(folder, pretrained=False)
        TokenizeReport(str(folder))("no effusion")
        for name in ("config.json", "tokenizer_config.json"):
            content = json.loads((folder / name).read_text())
            content |= {"model_type": "evil"} if name == "config.json" else {"tokenizer_class": "Evil"}
            (folder / name).write_text(json.dumps(content))
        with pytest.raises(ValueError, match="report encoder"):
            ReportEncoder(folder, pretrained=False)

    def test_a_broken_vocabulary_is_refused(self, folder):
        for path in folder.iterdir():
            if path.name.startswith(("vocab", "tokenizer")):
                path.write_bytes(pickle.dumps(Payload("never")))
        with pytest.raises(Exception) as error:  # noqa: PT011
            TokenizeReport(str(folder))("no effusion")
        assert isinstance(error.value, ValueError)
        assert str(folder) in str(error.value)


def test_an_index_of_embeddings(tmp_path, harm, caplog):
    """Python objects in it are never read; it is computed again."""
    path = tmp_path / "index.npz"
    evil = np.array([Payload(harm)], dtype=object)
    np.savez(path, fingerprint=np.array("sha256:0"), image=evil)
    assert read_embeddings(path, "sha256:0") is None
    np.savez(path, fingerprint=evil, image=np.ones(2))
    assert read_embeddings(path, "sha256:0") is None
    path.write_bytes(pickle.dumps(Payload(harm)))
    assert read_embeddings(path, "sha256:0") is None
    write_embeddings(path, {"image": np.ones((2, 2), np.float32)}, "sha256:0")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("evil.npy", pickle.dumps(Payload(harm)))
    assert read_embeddings(path, "sha256:0") is None
    assert caplog.text.count("damaged") == 4
