# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A pretraining on reports that are not English, with an encoder that is no BERT, and what is built of its weights."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers

from monai_mgca.__main__ import main
from monai_mgca.apps import load_pretrained

SENTENCE = "Pulmón izquierdo sin opacidad de 1.5 cm. Corazón de tamaño normal."
QUERIES = ("Pequeño derrame pleural izquierdo.", "Small left pleural effusion.")


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Path:
    """The folder of a sample whose reports are in turn in English and in Spanish."""
    folder = tmp_path_factory.mktemp("both")
    place = ["--output", str(folder), "--size", "24", "--image-size", "64"]
    assert main(["data", "sample", "--language", "en+es", *place]) == 0
    return folder


def find(checkpoint: Path, data: Path, output: Path) -> None:
    """Look for the images of a Spanish and of an English text."""
    place = ["--checkpoint", checkpoint, "--dataset-dir", data, "--output", output]
    assert main(["retrieve", *map(str, place), "--text", *QUERIES, "--top", "2"]) == 0
    with (output / "results.csv").open(encoding="utf-8") as file:
        assert [row["query"] for row in csv.DictReader(file)] == [query for query in QUERIES for _ in range(2)]


def test_bilingual_sample(new_bundle, both, tmp_path):
    """Its own report encoder is all that it needs: no option says which language a report is in."""
    bundle = new_bundle()
    bundle.run("train", dataset_dir=str(both))
    checkpoint = bundle.path("models", "model_pretrain.pt")
    model = load_pretrained(checkpoint)
    for query in QUERIES:
        assert model.read_text(query)["word_ids"].max() + 1 == 4
        assert model.knows(query)
    find(checkpoint, both, tmp_path)


def test_from_options_to_retrieval(new_bundle, both, tmp_path, train_tokenizer):
    """A multilingual tokenizer; the encoder's folder is gone when its copy beside the weights is read."""
    document = json.loads((both / "datalist.json").read_text(encoding="utf-8"))
    folder = tmp_path / "xlm-roberta"
    texts = [entry["report"].lower() for entry in document["training"]]
    train_tokenizer("unigram", texts, 300).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.XLMRobertaConfig(vocab_size=300, max_position_embeddings=82, **sizes)
    transformers.XLMRobertaModel(config).save_pretrained(folder)

    bundle = new_bundle()
    options = {"report_encoder": str(folder), "report_encoder_pretrained": True, "max_length": 80}
    bundle.run("train", dataset_dir=str(both), **options)
    shutil.rmtree(folder)
    settings = json.loads(bundle.path("models", "model.json").read_text())
    assert settings["report_letters"] == "all"
    assert bundle.path("models", settings["report_encoder"], "tokenizer.json").is_file()

    checkpoint = bundle.path("models", "model_pretrain.pt")
    model = load_pretrained(checkpoint)
    trained = torch.load(checkpoint, weights_only=True)
    state = model.network.report_encoder.state_dict()
    assert all(torch.equal(value, trained[f"report_encoder.{name}"]) for name, value in state.items())
    words = model.read_text(SENTENCE)["word_ids"]
    assert words.max() + 1 == len(SENTENCE.split())
    find(checkpoint, both, tmp_path / "out")
