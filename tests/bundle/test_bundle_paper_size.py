# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The networks of the paper, at their true size, through the bundle: two steps on a CPU."""

from __future__ import annotations

import json
import shutil

import torch


def test_vit_base_and_bert_base(new_bundle, sample, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data)
    document = json.loads((data / "datalist.json").read_text())
    for section, count in (("training", 4), ("validation", 2)):
        document[section] = document[section][:count]
    (data / "datalist.json").write_text(json.dumps(document))

    # BERT-base: the defaults of transformers' BertConfig, with the sample's tokenizer
    encoder = data / "report_encoder"
    config = json.loads((encoder / "config.json").read_text())
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    (encoder / "config.json").write_text(json.dumps({**config, **sizes, "max_position_embeddings": 512}))

    bundle = new_bundle()
    workflow = bundle.run(
        "train",
        dataset_dir=str(data),
        image_encoder="vit_base",
        image_encoder_weights=None,
        image_size=224,
        report_encoder=str(encoder),
        report_encoder_pretrained=False,
        max_length=64,
        hidden_dim=2048,
        num_prototypes=500,
        batch_size=2,
        use_sample=False,
        num_workers=0,
        cache="none",
        val_interval=1,
    )
    network, trainer = (workflow.parser.get_parsed_content(name) for name in ("network_def", "train#trainer"))
    count = sum(parameter.numel() for parameter in network.image_encoder.parameters())
    # timm's ViT-B/16 without its classifier has 85,798,656; one channel needs fewer, and MONAI's [CLS] has no position
    assert count == 85_798_656 - 2 * 16 * 16 * 768 - 768
    assert len(network.report_encoder.model.encoder.layer) == 12
    assert trainer.state.iteration == 2
    assert torch.isfinite(torch.as_tensor(trainer.state.output[0]["loss"]))
    assert workflow.parser.get_parsed_content("learning_rate") == 2e-5
    settings = json.loads(bundle.path("models", "model.json").read_text())
    assert (settings["image_encoder"], settings["image_size"], settings["resize_size"]) == ("vit_base", 224, 256)
