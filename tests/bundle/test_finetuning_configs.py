# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The three finetuning configs are one text but for what is named here.

A common base would need MONAI's ``%file::key``, whose file is looked up in the working directory and not beside the
config: a copied bundle, or one run from its own folder, would not find it; and apps open one file. So each config
stands alone, and this test is what keeps them from drifting apart.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs"
TASKS = ("segmentation", "detection", "classification")

# what may differ, with all that is in it
OWN = {
    "_desc_",
    # the options of a task, and defaults that are its own
    *("label_key", "label_mode", "uncertain", "classes", "decoder", "anchor_sizes", "anchor_ratios", "strides"),
    *("score_threshold", "nms_threshold", "freeze_encoder", "image_size", "epochs", "learning_rate"),
    # its network, and what inference must know of it
    *("network_def", "loss"),
    *(f"model_settings#{name}" for name in ("decoder", "label_key", "label_mode")),
    *(f"model_settings#{name}" for name in ("anchor_sizes", "anchor_ratios", "strides")),
    # its data, and what is done to masks, boxes and labels beside the image
    *(f"{part}#data" for part in ("train", "validate")),
    *(f"train#{name}_transforms" for name in ("deterministic", "random", "final")),
    *(f"{part}#dataset#track_meta" for part in ("train", "validate")),
    *(f"{part}#dataloader#collate_fn" for part in ("train", "validate")),
    *("train#trainer#prepare_batch", "validate#evaluator#prepare_batch", "validate#evaluator#decollate"),
    # its figures
    *("validate#postprocessing", "validate#key_metric", "validate#additional_metrics"),
    "validate#evaluator#additional_metrics",
}


def leaves(node, path=""):
    """The values of a config by their path; what may differ is one value, however much is in it."""
    if path in OWN or not isinstance(node, dict | list) or not node:
        return {path: node}
    items = node.items() if isinstance(node, dict) else enumerate(node)
    return {p: v for key, value in items for p, v in leaves(value, f"{path}#{key}".lstrip("#")).items()}


@pytest.fixture(scope="module")
def configs():
    """The leaves of each config, with TASK in the place of its name."""
    texts = {task: (CONFIGS / f"train_{task}.json").read_text() for task in TASKS}
    return {task: leaves(json.loads(text.replace(task, "TASK"))) for task, text in texts.items()}


@pytest.mark.parametrize("task", TASKS[1:])
def test_the_rest_is_the_same(configs, task):
    pattern, own = ({k: v for k, v in configs[name].items() if k not in OWN} for name in (TASKS[0], task))
    assert own == pattern
    assert list(own) == list(pattern)


def test_it_is_most_of_them(configs):
    shared = configs[TASKS[0]].keys() - OWN
    assert len(shared) > 150
    # and what is named above differs
    for name in OWN:
        values = [json.dumps(config[name]) if name in config else None for config in configs.values()]
        assert len(set(values)) > 1, name


def test_the_pretraining_is_alike(configs):
    """What has nothing to do with the task is as in the pretraining, and so is the order of what is prepared."""
    pretraining = leaves(json.loads((CONFIGS / "train.json").read_text()))
    for part in ("train#early_stop", "train#inferer", "initialize", "finalize"):
        own, other = (
            {k: v for k, v in config.items() if k.startswith(f"{part}#")} for config in (pretraining, configs[TASKS[0]])
        )
        assert own, part
        assert own == other, part
    kinds = [
        {value for key, value in config.items() if key.endswith("_target_")}
        for config in (pretraining, configs[TASKS[0]])
    ]
    assert all("monai_mgca.handlers.DataWaitWarning" in kind for kind in kinds)
    steps = [
        [value.split("(")[0] for key, value in config.items() if key.startswith("prepare#")]
        for config in (pretraining, configs[TASKS[0]])
    ]
    assert steps[0][:2] == steps[1][:2]
    assert steps[0][-1] == steps[1][-1]
