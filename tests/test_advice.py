# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What messages and pages advise is done here, and helps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from monai_mgca.data import check_batch_size
from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder, create_segmenter, encode_in_micro_batches

ROOT = Path(__file__).resolve().parents[1]
BERT = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def advised(message: str, pattern: str) -> str:
    """What a message advises, which must say it."""
    found = re.search(pattern, message)
    assert found, message
    return found[1]


def message_of(function, *args, **kwargs) -> str:
    """The message of what must fail."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        function(*args, **kwargs)
    return str(caught.value)


def test_batch_size():
    message = message_of(check_batch_size, 35, 1200)
    check_batch_size(35, int(advised(message, r"Set batch_size to at most (\d+)")))


def test_a_report_encoder_without_weights(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**BERT, "model_type": "bert"}))
    message = message_of(ReportEncoder, tmp_path)
    key = advised(message, r"--(\w+) false")
    assert key in json.loads((ROOT / "bundles/mgca/configs/train.json").read_text())
    argument = advised(message, r"(\w+)=False")
    ReportEncoder(tmp_path, **{argument: False})


def test_layers_of_a_report_encoder():
    message = message_of(ReportEncoder, BERT, num_layers=5)
    for number in range(1, int(advised(message, r"1 to (\d+)")) + 1):
        ReportEncoder(BERT, num_layers=number)


def test_reports_longer_than_the_encoder_knows():
    encoder = ReportEncoder({**BERT, "max_position_embeddings": 8})
    ids = torch.ones(1, 9, dtype=torch.long)
    limit = int(advised(message_of(encoder, ids, ids), r"knows (\d+): lower max_length"))
    encoder(ids[:, :limit], ids[:, :limit])


def test_micro_batches_of_a_resnet():
    encoder, images = create_image_encoder("resnet_tiny"), torch.rand(4, 1, 32, 32)
    message = message_of(encode_in_micro_batches, encoder, 2, images)
    size = int(advised(message, r"set micro_batch_size to (\d)"))
    encode_in_micro_batches(encoder, size, images)
    assert "Train a ViT" in message
    encode_in_micro_batches(create_image_encoder("vit_compact", 32), 2, images)
    assert "keep the encoder's batch norm in evaluation mode" in message
    encode_in_micro_batches(encoder.eval(), 2, images)


def test_the_decoder_of_a_segmenter():
    assert "needs a vision transformer" in message_of(create_segmenter, "resnet_tiny", 1, 32, decoder="unetr")
    create_segmenter("vit_tiny", 1, 32, decoder="unetr")


def test_a_batch_of_one():
    network = MGCA(create_image_encoder("resnet_tiny"), ReportEncoder(BERT), hidden_dim=8, num_prototypes=4)
    ids = torch.ones(2, 4, dtype=torch.long)
    words = torch.tensor([[-1, 0, 1, -1]]).expand(2, 4)
    images = torch.rand(2, 1, 32, 32)
    count = int(advised(message_of(network, images[:1], ids[:1], ids[:1], words[:1]), r"at least (\d) pairs"))
    network(images[:count], ids[:count], ids[:count], words[:count])


def small_gpu_options() -> list[str]:
    """The options that docs/pretraining.md advises for small GPUs."""
    section = (ROOT / "docs" / "pretraining.md").read_text().split("### Small GPUs")[1].split("### ")[0]
    return re.findall(r"^\| `(--.+?)`", section, flags=re.MULTILINE)


@pytest.mark.parametrize("options", small_gpu_options())
def test_options_of_small_gpus_are_options(options):
    """That an image size other than DeiT's is one is in tests/networks/test_sizes.py."""
    config = json.loads((ROOT / "bundles" / "mgca" / "configs" / "train.json").read_text())
    given = dict(zip(*[iter(options.split())] * 2, strict=True))
    assert {key.removeprefix("--") for key in given} <= set(config)
    name, size = given.get("--image_encoder", "vit_tiny"), int(given.get("--image_size", 224))
    if {"--image_encoder", "--image_size"} & set(given):
        create_image_encoder(name, size)
        assert size % 16 == 0
    if "--image_encoder" in given:
        assert "--image_encoder_weights" in given  # it has none of its own
