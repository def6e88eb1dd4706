# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Adapters, locked towers, falling learning rates and averaged weights through the pretraining."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from ignite.engine import Events

from monai_mgca.apps import load_pretrained
from monai_mgca.networks import merged_state
from monai_mgca.utils.errors import OptionError, first_cause
from monai_mgca.weights import merge_adapters

pytest.importorskip("peft")

# beside the tiny settings: adapters in both towers, and an average that differs from the newest weights
ADAPTED = {"lora_rank": 2, "ema_decay": 0.5, "layer_decay": 0.8, "epochs": 2, "num_workers": 0}
# the parts as they were before there were these options
BEFORE = {
    "optimizer#params": "$[p for p in @network.parameters() if p.requires_grad]",
    "validate#best_model_saver#save_dict": {"model": "@network"},
    "validate#best_encoder_saver#save_dict": {"model": "$@network_def.image_embedder()"},
    "validate#evaluator#network": "@network",
    "train#checkpoint#objects": {"network": "@network", "optimizer": "@optimizer", "lr_scheduler": "@lr_scheduler"},
}


def load(path):
    return torch.load(path, weights_only=True)


def newest(bundle):
    return load(max(bundle.path("models").glob("checkpoint_*.pt"), key=lambda path: path.stat().st_mtime_ns))


def equal(one, other) -> bool:
    """Whether two checkpoints hold the same to the bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.fixture(scope="module")
def adapted(new_bundle):
    """A training of two epochs with adapters and an average."""
    bundle = new_bundle()
    return bundle, bundle.run("train", **ADAPTED)


class TestAdapted:
    def test_weights_are_plain_and_need_no_peft(self, adapted, monkeypatch):
        bundle, _ = adapted
        monkeypatch.setitem(sys.modules, "peft", None)
        model = load_pretrained(bundle.path("models", "model_pretrain.pt"))
        state, part = (load(bundle.path("models", name)) for name in ("model_pretrain.pt", "model.pt"))
        assert list(state) == list(model.network.state_dict())
        assert all(torch.equal(state[key], part[key]) for key in part)
        assert {key.split(".")[0] for key in part} == {"image_encoder", "image_head"}

    def test_adapters_alone_make_the_weights(self, adapted):
        """What was frozen, with the adapters that peft merges into it."""
        bundle, _ = adapted
        folder = bundle.path("models", "adapters")
        written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        files = ("adapter_config.json", "adapter_model.safetensors")
        assert written == [f"{tower}/{name}" for tower in ("image", "report") for name in files]
        network = load_pretrained(bundle.path("models", "model_pretrain.pt")).network
        state, checkpoint = network.state_dict(), newest(bundle)
        expected = {key: value.clone() for key, value in state.items()}
        frozen = {key.replace(".base_layer", ""): value for key, value in checkpoint["network"].items()}
        network.load_state_dict({key: frozen[key] for key in state})
        merge_adapters(network.image_encoder, folder / "image")
        merge_adapters(network.report_encoder, folder / "report")
        towers = [key for key in state if key.startswith(("image_encoder.", "report_encoder."))]
        assert any(not torch.equal(frozen[key], expected[key]) for key in towers)
        for key in towers:
            assert (network.state_dict()[key].float() - expected[key].float()).abs().max() <= 1e-5, key

    def test_what_trains(self, adapted):
        _, workflow = adapted
        network, optimizer = (workflow.parser.get_parsed_content(name) for name in ("network_def", "optimizer"))
        trained = {key for key, parameter in network.named_parameters() if parameter.requires_grad}
        assert all(".lora_" in key for key in trained if "_encoder." in key)
        whole = ("image_head.", "image_token_head.", "report_head.", "word_head.", "prototypes.")
        rest = {key for key, _ in network.named_parameters() if key.startswith(whole)}
        assert rest <= trained
        assert len(optimizer.param_groups) > 4
        assert not any(key.startswith("average.") for key in trained)

    def test_best_is_the_average(self, adapted):
        bundle, workflow = adapted
        evaluator, average = (
            workflow.parser.get_parsed_content(name) for name in ("validate#evaluator", "train#average")
        )
        assert evaluator.network is average.module
        assert int(average.n_averaged) == 8
        if evaluator.state.best_metric_epoch == 2:
            assert equal(dict(merged_state(average.module)), load(bundle.path("models", "model_pretrain.pt")))

    def test_resumes_to_the_bit(self, adapted, new_bundle):
        bundle = new_bundle()
        workflow = bundle.workflow("train", **ADAPTED)
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda engine: engine.terminate())
        workflow.run()
        workflow.finalize()
        assert newest(bundle)["trainer"]["iteration"] == 4
        bundle.run("train", **ADAPTED, resume=True)
        whole, again = (newest(one) for one in (adapted[0], bundle))
        assert whole["average"].keys() > {"n_averaged"}
        for name in ("network", "average", "optimizer", "lr_scheduler", "progress"):
            if name == "progress":  # but for the names of the folders
                whole[name].pop("savers"), again[name].pop("savers")
            assert equal(whole[name], again[name]), name
        for name in ("model_pretrain.pt", "model.pt"):
            assert equal(*(load(one.path("models", name)) for one in (adapted[0], bundle)))

    def test_other_adapters_are_not_resumed(self, adapted):
        with pytest.raises(RuntimeError) as caught:
            adapted[0].run("train", **{**ADAPTED, "lora_rank": 3}, resume=True)
        assert "lora_rank 2, now 3" in str(first_cause(caught.value))


def test_off_means_off(new_bundle):
    """With the options' defaults every file is what the parts of before write, to the bit."""
    plain, before = new_bundle(), new_bundle()
    plain.run("train", num_workers=0)
    workflow = before.workflow("train", num_workers=0, **BEFORE)
    prepare = [line for line in workflow.parser["prepare"] if "adapt" not in line]
    workflow.parser["prepare"] = prepare
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    assert len(prepare) > 5
    for name in ("model.pt", "model_pretrain.pt", "model.json"):
        assert plain.path("models", name).read_bytes() == before.path("models", name).read_bytes()
    one, other = newest(plain), newest(before)
    assert one.keys() == other.keys()
    for name in ("network", "optimizer", "lr_scheduler"):
        assert equal(one[name], other[name])
    assert not plain.path("models", "adapters").exists()


def test_locked_towers_rest(new_bundle):
    """As the command line gives it: switches as texts; half of the image tower learns, at falling rates."""
    bundle = new_bundle()
    options = {"lock_image": "true", "unlocked_image_groups": "2", "lock_report": "true", "layer_decay": "0.5"}
    workflow = bundle.workflow("train", **options, num_workers=0, ema_decay=0.9, export_ema="false")
    workflow.initialize()
    network, optimizer = (workflow.parser.get_parsed_content(name) for name in ("network_def", "optimizer"))
    start = {key: value.clone() for key, value in network.state_dict().items()}
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 5e-4, 2.5e-4]
    workflow.run()
    state = load(bundle.path("models", "model_pretrain.pt"))
    other = {key for key in state if not torch.equal(start[key], state[key])}
    assert {".".join(key.split(".")[:3]) for key in other if "_encoder." in key} == {
        "image_encoder.backbone.layer3",
        "image_encoder.backbone.layer4",
    }
    # of the newest weights, not of the average
    assert equal(dict(network.state_dict()), state)
    workflow.finalize()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_rank": -1}, "lora_rank must be a whole number from 0 on, got -1"),
        ({"lora_rank": 2, "lora_towers": "images"}, "lora_towers must be image, report, or image,report, got 'images'"),
        ({"lora_rank": 2, "lock_image": True}, "lock_image keeps the image encoder as it is, .*: give lora_towers rep"),
        (
            {"lora_rank": 2, "lora_towers": "report", "freeze_report_encoder": True},
            "freeze_report_encoder keeps the report encoder as it is, .*: set lora_rank to 0, or freeze_report_encoder",
        ),
        ({"unlocked_image_groups": 2}, "unlocked_image_groups has no effect without a lock: give lock_image true too"),
        ({"freeze_report_encoder": True, "unlocked_report_groups": 1}, "give lock_report true in place of freeze"),
        ({"lock_image": True, "unlocked_image_groups": 9}, "unlocked_image_groups is 9, .* has 4 groups"),
        ({"layer_decay": 0}, "layer_decay must be a number above 0 to 1, got 0"),
        ({"ema_decay": 1}, "ema_decay is 1, with which the average never moves"),
        ({"export_ema": "mean"}, "export_ema must be true or false"),
    ],
)
def test_contradictions_are_refused(new_bundle, options, message):
    bundle = new_bundle()
    workflow = bundle.workflow("train", **options)
    with pytest.raises((RuntimeError, OptionError)) as caught:
        workflow.initialize()
    error = first_cause(caught.value)
    assert isinstance(error, OptionError)
    assert re.search(message, str(error)), str(error)
    assert not bundle.path("models").exists()


@pytest.mark.multiprocess
def test_two_processes(new_bundle, torchrun, tmp_path):
    """Adapters in one tower, the other locked in part, an average, and an optimizer in parts, over gloo."""
    bundle = new_bundle()
    names = ("train", "multi_gpu_train", "exact_multi_gpu_train", "zero_multi_gpu_train")
    configs = [str(bundle.path("configs", f"{name}.json")) for name in names]
    options = {
        **{"image_encoder": "resnet_tiny", "image_size": 32, "max_length": 40, "hidden_dim": 32, "batch_size": 8},
        **{"num_prototypes": 16, "epochs": 1, "device": "$torch.device('cpu')", "dist_backend": "gloo"},
        **{"dataset_dir": bundle.data, "use_sample": True, "bundle_root": bundle.root, "num_workers": 0},
        **{"lora_rank": 2, "lora_towers": "image", "lock_report": True, "unlocked_report_groups": 1},
        **{"layer_decay": 0.5, "ema_decay": 0.5},
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = ["-m", "monai.bundle", "run", "--config_file", str(configs), *arguments]
    done = torchrun(*command, processes=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    state = newest(bundle)
    assert not any(key.startswith("module.") for key in state["network"])
    assert any(".lora_A." in key for key in state["network"])
    weights = load(bundle.path("models", "model_pretrain.pt"))
    assert not any("lora_" in key or "base_layer" in key for key in weights)
    assert [path.name for path in bundle.path("models", "adapters").iterdir()] == ["image"]
