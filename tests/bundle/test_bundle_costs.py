# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Switches that change what a training costs, never what it learns."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from monai.bundle import ConfigWorkflow


@pytest.fixture
def steady(sample, tmp_path):
    """The sample with a report encoder that has no dropout: masks of other shapes would be other masks."""
    folder = tmp_path / "data"
    shutil.copytree(sample, folder)
    path = folder / "report_encoder" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))
    return folder


def train(bundle, data, **overrides) -> tuple[ConfigWorkflow, list[int]]:
    """An epoch with a small ViT, and the number of images at each call of it."""
    overrides = {"image_encoder": "vit_compact", "dataset_dir": str(data), "num_workers": 0, **overrides}
    workflow, calls = bundle.workflow("train", **overrides), []
    workflow.initialize()
    encoder = workflow.parser.get_parsed_content("network_def").image_encoder
    encoder.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    workflow.run()
    workflow.finalize()
    return workflow, calls


def test_micro_batches_change_nothing(new_bundle, steady):
    bundles = [new_bundle(), new_bundle()]
    whole, at_once = train(bundles[0], steady)
    parts, in_parts = train(bundles[1], steady, micro_batch_size=3)
    assert at_once[:4] == [8] * 4
    assert in_parts[: 4 * 6] == [3, 3, 2, 2, 3, 3] * 4  # forward, and the last part first in the backward pass
    losses = [w.parser.get_parsed_content("train#trainer").state.metrics["train_loss"] for w in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    metrics = [w.parser.get_parsed_content("validate#evaluator").state.metrics for w in (whole, parts)]
    assert metrics[1]["val_loss"] == pytest.approx(metrics[0]["val_loss"], rel=1e-3)
    states = [torch.load(b.path("models", "model_pretrain.pt"), weights_only=True) for b in bundles]
    assert states[0].keys() == states[1].keys()
    distance = sum((states[0][key] - states[1][key]).double().square().sum() for key in states[0])
    size = sum(value.double().square().sum() for value in states[0].values())
    assert (distance / size).sqrt() < 1e-3
