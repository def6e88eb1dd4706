# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A pretraining on reports that are not English, with an encoder that is no BERT, and what is built of its weights."""

from __future__ import annotations

import json
import shutil

import torch
import transformers

from monai_mgca.apps import load_pretrained
from monai_mgca.apps.retrieve.retrieve_command import main

SENTENCE = "Pulmón izquierdo sin opacidad de 1.5 cm. Corazón de tamaño normal."


def test_from_options_to_retrieval(new_bundle, sample, tmp_path, train_tokenizer):
    """The encoder's folder is gone when its copy beside the weights is read."""
    document = json.loads((sample / "datalist.json").read_text())
    for section in ("training", "validation", "test"):
        for entry in document[section]:
            entry["report"] = f"{SENTENCE} {entry['report']}"
    datalist, folder = tmp_path / "datalist.json", tmp_path / "xlm-roberta"
    datalist.write_text(json.dumps({**document, "letters": "all"}))
    texts = [entry["report"].lower() for entry in document["training"]]
    train_tokenizer("unigram", texts, 300).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.XLMRobertaConfig(vocab_size=300, max_position_embeddings=82, **sizes)
    transformers.XLMRobertaModel(config).save_pretrained(folder)

    bundle = new_bundle()
    options = {"report_encoder": str(folder), "report_encoder_pretrained": True, "max_length": 80}
    bundle.run("train", data_list_file_path=str(datalist), **options)
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
    place = ["--checkpoint", checkpoint, "--dataset-dir", sample, "--output", tmp_path / "out"]
    assert main([*map(str, place), "--text", "Corazón de tamaño normal", "--top", "2"]) == 0
