# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What every config must be: complete for MONAI's apps, made of parts that exist, open to every override."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.handlers import ValidationHandler

from monai_mgca.handlers import FreezePrototypes, SkipNonFiniteSteps
from monai_mgca.networks import MGCA
from monai_mgca.transforms import restore_preprocessing
from monai_mgca.weights import read_model_settings

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs"
NAMES = [path.stem for path in sorted(CONFIGS.glob("*.json"))]


def values(node):
    """All (key, value) pairs in a config, however deep."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield key, value
        yield from values(value)


@pytest.mark.parametrize("name", NAMES)
class TestText:
    def test_targets_exist_and_are_named_in_full(self, name):
        for key, value in values(json.loads((CONFIGS / f"{name}.json").read_text())):
            if key == "_target_":
                module, _, attribute = value.rpartition(".")
                assert module, f"short name {value}"
                assert callable(getattr(importlib.import_module(module), attribute)), value

    def test_imports_run(self, name):
        for _, value in values(json.loads((CONFIGS / f"{name}.json").read_text())):
            if isinstance(value, str) and value.startswith(("$import ", "$from ")):
                exec(value[1:], {})  # as ConfigParser does

    def test_no_key_twice(self, name):
        def unique(pairs):
            keys = [key for key, _ in pairs]
            assert len(keys) == len(set(keys)), keys
            return dict(pairs)

        json.loads((CONFIGS / f"{name}.json").read_text(), object_pairs_hook=unique)


class TestProperties:
    @pytest.mark.parametrize("names", [["train"], ["train", "evaluate"], ["train", "official"]], ids="+".join)
    def test_train(self, new_bundle, trained, names):
        bundle = new_bundle()
        bundle.take_models(trained.bundle)
        workflow = bundle.workflow(*names)
        workflow.initialize()
        assert workflow.check_properties() == []

    def test_inference(self, trained):
        images = str(trained.bundle.data / "images")
        workflow = trained.bundle.workflow("inference", kind="infer", dataset_dir=images)
        workflow.initialize()
        assert workflow.check_properties() == []


def resolve(new_bundle, object_id, **overrides):
    workflow = new_bundle().workflow("train", **overrides)
    workflow.parser.parse(reset=True)
    return workflow.parser.get_parsed_content(object_id)


def only(items, kind):
    """The one item of a kind."""
    (found,) = [item for item in items if isinstance(item, kind)]
    return found


# every scalar: the override, the object that it changes, what must be true of that object
CASES = {
    "dataset_dir": ({}, "data_dir", lambda d: (Path(d) / "datalist.json").is_file()),
    "use_sample": ({"use_sample": False, "report_encoder": "r"}, "report_encoder_pretrained", lambda x: x is True),
    "sample_size": ({"sample_size": 8}, "sample_size", lambda x: x == 8),
    "sample_image_size": ({"image_size": 64}, "sample_image_size", lambda x: x == 73),
    "data_dir": ({"data_dir": "d"}, "data_list_file_path", lambda x: x == "d/datalist.json"),
    "data_list_file_path": ({"data_list_file_path": "l.json"}, "data_list_file_path", lambda x: x == "l.json"),
    "ckpt_dir": ({"ckpt_dir": "m"}, "validate#best_encoder_saver", lambda h: h.save_dir == "m"),
    "output_dir": ({"output_dir": "OUT"}, "summary_writer", lambda w: w.log_dir.endswith("OUT")),
    "pretrained_path": ({"pretrained_path": "x.pt"}, "pretrained_path", lambda x: x == "x.pt"),
    "resume": ({"resume": True}, "train#checkpoint", lambda h: h.resume is True),
    "seed": ({"seed": 7}, "seed", lambda x: x == 7),
    "image_encoder": ({"image_encoder": "vit_compact"}, "network_def", lambda n: n.image_encoder.out_channels == 128),
    "image_encoder_weights": ({"use_sample": False}, "image_encoder_weights", lambda x: "deit_base" in x),
    "image_encoder_weights resnet": (
        {"use_sample": False, "image_encoder": "resnet50"},
        "image_encoder_weights",
        lambda x: "resnet50" in x,
    ),
    "image_encoder_weights other": (
        {"use_sample": False, "image_encoder": "vit_tiny"},
        "image_encoder_weights",
        lambda x: x is None,
    ),
    "in_channels": ({"in_channels": 3}, "train#dataset", lambda d: d[0]["image"].shape == (3, 32, 32)),
    "image_size": ({"image_size": 48}, "validate#dataset", lambda d: d[0]["image"].shape == (1, 48, 48)),
    "resize_size": ({"resize_size": 32}, "train#dataset", lambda d: d[0]["image"].shape == (1, 32, 32)),
    "report_encoder": (
        {"report_encoder": {"vocab_size": 30, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}},
        "network_def",
        lambda n: n.report_encoder.out_channels == 32,
    ),
    "report_encoder_pretrained": ({"use_sample": False}, "report_encoder_pretrained", lambda x: x is True),
    "report_layers": ({"report_layers": 1}, "network_def", lambda n: len(n.report_encoder.model.encoder.layer) == 1),
    "freeze_report_encoder": (
        {"freeze_report_encoder": True},
        "optimizer",
        lambda o: sum(p.numel() for p in o.param_groups[0]["params"]) > 0,
    ),
    "cache_report_states": (
        {"freeze_report_encoder": True, "cache_report_states": True, "cache": "memory"},
        "train#dataset",
        lambda d: d[0]["report_states"].shape[-1] == 128,
    ),
    "lock_image": ({"lock_image": True}, "adaptation", lambda a: a.locked == {"image": 0}),
    "unlocked_image_groups": (
        {"lock_image": True, "unlocked_image_groups": 2},
        "adaptation",
        lambda a: a.locked == {"image": 2},
    ),
    "lock_report": ({"lock_report": True}, "adaptation", lambda a: a.locked == {"report": 0}),
    "unlocked_report_groups": (
        {"lock_report": True, "unlocked_report_groups": 1},
        "adaptation",
        lambda a: a.locked == {"report": 1},
    ),
    "lora_rank": ({"lora_rank": 4}, "adaptation", lambda a: (a.lora_rank, a.lora_towers) == (4, ("image", "report"))),
    "lora_towers": (
        {"lora_rank": 4, "lora_towers": "report"},
        "adaptation",
        lambda a: a.lora_towers == ("report",),
    ),
    "layer_decay": ({"layer_decay": 0.5}, "optimizer", lambda o: o.param_groups[1]["lr"] == 5e-4),
    "ema_decay": ({"ema_decay": 0.9}, "validate#evaluator", lambda e: type(e.network).__name__ == "MGCA"),
    "export_ema": (
        {"ema_decay": 0.9, "export_ema": False},
        "adaptation",
        lambda a: (a.ema_decay, a.export_ema) == (0.9, False),
    ),
    "report_letters": ({"report_letters": "all"}, "train#clean_report", lambda t: t.clean.letters == "all"),
    "pool_report": ({"pool_report": "cls"}, "network_def", lambda n: n.pool_report == "cls"),
    "max_length": ({"max_length": 24}, "train#dataset", lambda d: len(d[0]["input_ids"]) == 24),
    "select_sentences": (
        {"select_sentences": 0.5},
        "train#preprocessing",
        lambda c: "RandSelectSentencesd" in {type(t).__name__ for t in c.transforms},
    ),
    "augment": (
        {"augment": True},
        "train#preprocessing",
        lambda c: {"RandAffined", "RandAdjustContrastd"} <= {type(t).__name__ for t in c.transforms},
    ),
    "embed_dim": ({"embed_dim": 64}, "network_def", lambda n: n.prototypes.weight.shape == (16, 64)),
    "hidden_dim": ({"hidden_dim": 24}, "network_def", lambda n: any(24 in p.shape for p in n.image_head.parameters())),
    "num_prototypes": ({"num_prototypes": 9}, "network_def", lambda n: len(n.prototypes.weight) == 9),
    "matcher": ({"matcher": "learned"}, "network_def", lambda n: hasattr(n, "word_matcher")),
    "matcher_heads": (
        {"matcher": "learned", "matcher_heads": 4},
        "network_def",
        lambda n: n.word_matcher.attention.num_heads == 4,
    ),
    "bidirectional": ({"bidirectional": False}, "loss", lambda x: x.bidirectional is False),
    "instance_weight": ({"instance_weight": 0.5}, "loss", lambda x: x.weights["instance"] == 0.5),
    "token_weight": ({"token_weight": 0}, "loss", lambda x: x.weights["token"] == 0),
    "prototype_weight": ({"prototype_weight": 2}, "loss", lambda x: x.weights["prototype"] == 2),
    "instance_temperature": ({"instance_temperature": 0.2}, "loss", lambda x: x.instance.temperature == 0.2),
    "token_temperature": ({"token_temperature": 0.3}, "loss", lambda x: x.token.temperature == 0.3),
    "token_temperature, matcher": ({"token_temperature": 0.3}, "network_def", lambda n: n.temperature == 0.3),
    "prototype_temperature": ({"prototype_temperature": 0.4}, "loss", lambda x: x.prototype.temperature == 0.4),
    "sinkhorn_epsilon": ({"sinkhorn_epsilon": 0.1}, "loss", lambda x: x.prototype.epsilon == 0.1),
    "sinkhorn_iterations": ({"sinkhorn_iterations": 5}, "loss", lambda x: x.prototype.iterations == 5),
    "gather_distributed": ({"gather_distributed": False}, "loss", lambda x: x.prototype.gather_distributed is False),
    "sync_batch_norm": (
        {"sync_batch_norm": True},
        "prepare",
        lambda done: only(done, MGCA).word_head.norm1.synchronized,
    ),
    "freeze_prototypes_epochs": (
        {"freeze_prototypes_epochs": 2},
        "train#handlers",
        lambda h: only(h, FreezePrototypes).epochs == 2,
    ),
    "epochs": ({"epochs": 7}, "train#trainer", lambda t: t.state.max_epochs == 7),
    "batch_size": ({"batch_size": 5}, "train#dataloader", lambda x: x.batch_size == 5 and len(x) == 7),
    "accumulation_steps": ({"accumulation_steps": 2}, "train#trainer", lambda t: t.accumulation_steps == 2),
    "learning_rate": ({"learning_rate": 0.5}, "optimizer", lambda o: o.defaults["lr"] == 0.5),
    "min_learning_rate": ({"min_learning_rate": 1e-5}, "lr_scheduler", lambda s: s.get_last_lr() == [1e-5]),
    "weight_decay": ({"weight_decay": 0.3}, "optimizer", lambda o: o.param_groups[0]["weight_decay"] == 0.3),
    "warmup": ({"warmup": 0.5, "epochs": 4}, "warmup_steps", lambda x: x == 8),
    "val_interval": ({"val_interval": 2}, "train#handlers", lambda h: only(h, ValidationHandler).interval == 2),
    "checkpoint_interval": ({"checkpoint_interval": 5}, "train#checkpoint", lambda h: h.interval == 5),
    "early_stopping_patience": ({"early_stopping_patience": 0}, "train#early_stop", lambda h: h.patience == 0),
    "outlier_images": ({"outlier_images": 7}, "outlier_images", lambda x: x == 7),
    "max_non_finite_steps": (
        {"max_non_finite_steps": 4},
        "train#handlers",
        lambda h: only(h, SkipNonFiniteSteps).max_in_a_row == 4,
    ),
    "key_metric_negative_sign": (
        {"key_metric_negative_sign": False},
        "validate#evaluator",
        lambda e: e.metric_cmp_fn(2, 1) and not e.metric_cmp_fn(1, 2),
    ),
    "cache": ({"cache": "disk"}, "train#dataset", lambda d: type(d).__name__ == "CachedOnDiskDataset"),
    "cache_dir": ({"cache": "disk", "cache_dir": "CACHE"}, "train#dataset", lambda d: str(d.cache_dir) == "CACHE"),
    "num_workers": ({"num_workers": 2}, "train#dataloader", lambda x: x.num_workers == 2),
    "micro_batch_size": (
        {"image_encoder": "vit_compact", "micro_batch_size": 3},
        "network_def",
        lambda n: n.micro_batch_size == 3,
    ),
    "checkpointing": ({"checkpointing": True}, "network_def", lambda n: n.image_encoder.checkpointing),
    "compile": ({"compile": True}, "train#trainer", lambda t: t.compile is True),
    "amp": ({"amp": True}, "validate#evaluator", lambda e: e.amp is True),
    "channels_last": ({"channels_last": True}, "memory_format", lambda x: x is torch.channels_last),
    "device": ({"device": "$torch.device('cpu')"}, "train#trainer", lambda t: t.state.device.type == "cpu"),
}


@pytest.mark.parametrize("name", CASES)
def test_override(new_bundle, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # relative paths of the cases
    overrides, object_id, expected = CASES[name]
    defaults = {} if "cache" in overrides else {"cache": "none"}
    assert expected(resolve(new_bundle, object_id, **defaults, **overrides))


def test_every_scalar_has_a_case():
    config = json.loads((CONFIGS / "train.json").read_text())
    names = list(config)[: list(config).index("device") + 1]
    scalars = [name for name in names if not isinstance(config[name], (dict, list)) and name != "_desc_"]
    assert set(scalars) - {"bundle_root"} <= {name.split(",")[0].split(" ")[0] for name in CASES}


def test_frozen_report_encoder_is_not_trained(new_bundle):
    free, frozen = (resolve(new_bundle, "optimizer", freeze_report_encoder=f, cache="none") for f in (False, True))
    count = [sum(p.numel() for p in optimizer.param_groups[0]["params"]) for optimizer in (free, frozen)]
    assert count[1] < count[0]


RUNS = {
    "vit, three channels, mean": {"image_encoder": "vit_compact", "in_channels": 3, "pool_report": "mean"},
    "learned matcher, one direction": {"matcher": "learned", "matcher_heads": 2, "bidirectional": False},
    "instance loss alone": {"token_weight": 0, "prototype_weight": 0},
    "prototype loss alone": {"token_weight": 0, "instance_weight": 0, "freeze_prototypes_epochs": 0},
    "no cache, workers": {"cache": "none", "num_workers": 1, "accumulation_steps": 2, "early_stopping_patience": 0},
    "cache on disk": {"cache": "disk", "num_workers": 0, "epochs": 2, "val_interval": 2},
    "cached report states": {"freeze_report_encoder": True, "cache_report_states": True, "cache": "memory"},
    "cached report states on disk": {"freeze_report_encoder": True, "cache_report_states": True, "cache": "disk"},
    "checkpointing": {"checkpointing": True, "report_layers": 1, "augment": True, "select_sentences": 0.5},
    "channels last": {"channels_last": True, "embed_dim": 32},
    "recall as key metric": {
        "key_metric_negative_sign": False,
        "validate#key_metric": {"val_mean_recall": {"_target_": "monai_mgca.handlers.RetrievalHandler"}},
        "epochs": 2,
    },
    "no warmup": {"warmup": 0, "weight_decay": 0},
    "warmup to the end": {"warmup": 1.0},
}


@pytest.mark.parametrize("name", RUNS)
def test_run(new_bundle, name):
    bundle = new_bundle()
    workflow = bundle.run("train", **{"num_workers": 0, **RUNS[name]})
    trainer = workflow.parser.get_parsed_content("train#trainer")
    assert trainer.state.epoch == trainer.state.max_epochs
    assert torch.isfinite(torch.as_tensor(trainer.state.output[0]["loss"]))
    assert bundle.path("models", "model.pt").is_file()
    # what uses these weights later prepares images as they were here
    assert restore_preprocessing(read_model_settings(bundle.path("models", "model.pt")))


def test_official_recipe_runs(new_bundle):
    bundle = new_bundle()
    workflow = bundle.run("train", "official")
    assert workflow.parser.get_parsed_content("validate#evaluator").state.key_metric_name == "val_loss"
    assert bundle.path("models", "model.pt").is_file()


def test_no_place_in_a_list():
    """A part that another one names, or an overlay changes, has a name of its own: a new item moves no other."""
    for name in NAMES:
        text = (CONFIGS / f"{name}.json").read_text()
        assert not re.search(r"(#|::)\d", text), name
        assert not re.search(r"@\w+(#\w+)*\[ *[-:\d]", text), name


def test_named_parts(new_bundle):
    workflow = new_bundle().workflow("train", "official", cache="none", early_stopping_patience=5)
    workflow.parser.parse(reset=True)
    parser = workflow.parser
    quirks = [t["_target_"].split(".")[-1] for _, t in values(parser.get()) if isinstance(t, dict) and "official" in t]
    assert quirks == ["CleanReportd", "TokenizeReportd"]
    checkpoint = parser.get_parsed_content("train#checkpoint")
    assert type(checkpoint).__name__ == "TrainingCheckpoint"
    assert [type(saver).__name__ for saver in checkpoint.best] == ["BestModelSaver"] * 2
    assert type(checkpoint.early_stop).__name__ == "EarlyStopOnKeyMetric"
    # multi_gpu_train.json leaves out what the first process alone does
    last = [type(handler).__name__ for handler in parser.get_parsed_content("train#main_process_handlers")]
    assert last == ["StatsHandler", "TrainingProgress", "TensorBoardStatsHandler", "RunSummary"]
    # a validation comes before what it decides, and that before the checkpoint that keeps it
    order = [type(handler).__name__ for handler in parser.get_parsed_content("train#trainer#train_handlers")]
    assert order[3:8] == [
        "ValidationHandler",
        "SkipNonFiniteSteps",
        "DataWaitWarning",
        "EarlyStopOnKeyMetric",
        "TrainingCheckpoint",
    ]
    assert order[-4:] == last


@pytest.mark.parametrize(
    ("configs", "settings", "batch_size"),
    [
        (["train"], {}, 48),
        (["train"], {"sample_size": 48}, 24),
        (["train"], {"sample_size": 48, "dataset_dir": "own"}, 72),
        (["train", "train_volume"], {}, 32),
        (["train", "train_volume"], {"sample_size": 24}, 12),
    ],
)
def test_a_small_sample_has_a_whole_batch(configs, settings, batch_size):
    """As .ci/run has one on every Python."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in configs])
    parser.update(settings)
    assert parser.get_parsed_content("batch_size") == batch_size


def test_metadata_and_inference_agree():
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "inference.json"))
    parser["bundle_root"] = "nowhere"
    data_format = metadata["network_data_format"]
    size = parser.get_parsed_content("image_size")
    assert data_format["inputs"]["image"]["spatial_shape"] == [size, size]
    assert data_format["inputs"]["image"]["num_channels"] == parser.get_parsed_content("in_channels")
    assert data_format["outputs"]["pred"]["num_channels"] == parser.get_parsed_content("embed_dim")
