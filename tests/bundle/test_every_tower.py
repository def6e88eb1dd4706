# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A small network of every kind of tower, saved by its own library: it trains, is validated, resumed and rebuilt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from monai_mgca.apps import load_pretrained
from monai_mgca.data import make_volume_sample

from ..networks.test_library_encoders import MONAI
from ..networks.test_report_towers import KINDS
from ..networks.test_timm_encoder import TIMM
from ..networks.test_transformers_encoder import TRANSFORMERS

ARGUMENTS = {"epochs": 1, "num_workers": 0, "batch_size": 6}


@pytest.fixture(scope="module")
def few(sample, tmp_path_factory):
    """The datalist of twelve studies to train with and four to validate."""
    document = json.loads((sample / "datalist.json").read_text())
    for section, count in (("training", 12), ("validation", 4)):
        document[section] = document[section][:count]
    path = tmp_path_factory.mktemp("few") / "datalist.json"
    path.write_text(json.dumps(document))
    return str(path)


def assert_trained(workflow):
    """Two epochs were trained and validated, and every weight that was written is finite: these weights."""
    trainer = workflow.parser.get_parsed_content("train#trainer")
    assert trainer.state.epoch == 2
    assert len(workflow.parser.get_parsed_content("validate#evaluator").state.metrics) > 5
    folder = workflow.parser.get_parsed_content("ckpt_dir")
    trained = torch.load(Path(folder) / "model_pretrain.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in trained.values())
    return trained


def assert_whole(bundle, workflow):
    """It was trained, and what was written rebuilds the network."""
    trained = assert_trained(workflow)
    rebuilt = load_pretrained(bundle.path("models", "model_pretrain.pt")).network.state_dict()
    assert all(torch.equal(rebuilt[name], value) for name, value in trained.items())


def train(bundle, *names, **options):
    """One epoch, and a second one that a resumed training adds."""
    options = {**ARGUMENTS, **options}
    bundle.run(*names, **options)
    return bundle.run(*names, **{**options, "epochs": 2, "resume": True})


@pytest.mark.parametrize("name", TIMM)
def test_of_timm(new_bundle, few, name):
    size, arguments = TIMM[name]
    listed = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    options = {"image_encoder": f"timm:{name}({listed})", "image_encoder_weights": None, "image_size": size}
    bundle = new_bundle()
    assert_whole(bundle, train(bundle, "train", data_list_file_path=few, **options))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_of_transformers(new_bundle, few, tmp_path, name):
    size, config = TRANSFORMERS[name]
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / name)
    bundle, options = new_bundle(), {"image_encoder": f"hf:{tmp_path / name}", "image_size": size}
    assert_whole(bundle, train(bundle, "train", data_list_file_path=few, **options))


# timm's EfficientNet is above, and large
@pytest.mark.parametrize("name", [name for name, (_, dims) in MONAI.items() if dims == 2 and "Efficient" not in name])
def test_of_monai(new_bundle, few, name):
    options = {"image_encoder": f"monai:{name}", "image_size": MONAI[name][0], "image_encoder_weights": None}
    bundle = new_bundle()
    assert_whole(bundle, train(bundle, "train", data_list_file_path=few, **options))


@pytest.mark.parametrize("name", [name for name, (_, dims) in MONAI.items() if dims == 3])
def test_of_monai_in_3d(new_bundle, tmp_path, name):
    make_volume_sample(tmp_path, size=24, image_size=32, progress=False)
    name = name.replace(", spatial_dims=3", "")  # which the config says
    volumes = {"dataset_dir": str(tmp_path), "image_size": 32, "voxel_size": 12.0, "batch_size": 4}
    options = {"image_encoder": f"monai:{name}", "image_encoder_weights": None, **volumes}
    assert_trained(train(new_bundle(), "train", "train_volume", **options))


# the tokenizer that is usual for each
TOKENIZERS = {"roberta": "bytes", "modernbert": "bytes", "deberta": "bytes", "xlm-roberta": "unigram"}
TOKENIZERS |= {"deberta-v2": "unigram"}


@pytest.mark.parametrize("name", KINDS)
def test_report_tower(new_bundle, few, tmp_path, train_tokenizer, name):
    texts = [entry["report"].lower() for entry in json.loads(Path(few).read_text())["training"]]
    train_tokenizer(TOKENIZERS.get(name, "wordpiece"), texts, 300).save_pretrained(tmp_path / name)
    changed = {"vocab_size": 300, "pad_token_id": 0, "max_position_embeddings": 90}
    config = type(KINDS[name]).from_dict({**KINDS[name].to_dict(), **changed})
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / name)
    options = {"report_encoder": str(tmp_path / name), "report_encoder_pretrained": True}
    bundle = new_bundle()
    assert_whole(bundle, train(bundle, "train", data_list_file_path=few, **options))
