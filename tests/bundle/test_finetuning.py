# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The three finetunings of the bundle, each on both backbones: one pattern, so one set of tests."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import torch
from monai.data import load_net_with_metadata
from PIL import Image

from monai_mgca.utils.files import write_settings
from monai_mgca.weights import load_network
from monai_mgca.weights.encoder_weights import find_backbone

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs"
TASKS = ("segmentation", "detection", "classification")
BACKBONES = ("resnet_compact", "vit_compact")
# what an evaluation must report
FIGURES = {
    "segmentation": {"val_mean_dice", "val_mean_iou", "val_hausdorff_95"},
    "detection": {"val_map_50", "val_map_40_75", "val_map_50_95", "val_froc", "val_froc_1_8", "val_froc_8"},
    "classification": {
        "val_mean_auroc",
        "val_mean_auroc_low",
        "val_mean_auroc_high",
        "val_mean_ap",
        "val_auroc_opacity",
    },
}
# where inference writes, below eval/<task>
RESULTS = {
    "segmentation": ["masks/a/wide_mask.png", "masks/tall_mask.png", "overlays/a/wide_overlay.png"],
    "detection": ["detections.json", "overlays/a/wide_overlay.png", "overlays/tall_overlay.png"],
    "classification": ["probabilities.csv"],
}
# of a detector the convolutions alone can be exported
EXPORTED = {"segmentation": "network_def", "detection": "export_def", "classification": "network_def"}
SIZE = 64
SMALL = {"image_size": SIZE, "num_workers": 0}


@pytest.fixture(scope="session")
def pretrained(new_bundle):
    """For each backbone a bundle with the model.pt that a pretraining writes, of random weights."""

    def make(backbone):
        bundle = new_bundle()
        torch.manual_seed(0)
        workflow = bundle.workflow("train", image_encoder=backbone, image_size=SIZE)
        workflow.parser.parse(reset=True)
        bundle.path("models").mkdir()
        torch.save(workflow.parser.get_parsed_content("embedder").state_dict(), bundle.path("models", "model.pt"))
        write_settings(bundle.path("models", "model.json"), workflow.parser.get_parsed_content("model_settings"))
        return bundle

    return {backbone: make(backbone) for backbone in BACKBONES}


@pytest.fixture(scope="session")
def start(new_bundle, pretrained):
    """A fresh bundle with a pretrained encoder."""

    def make(backbone="resnet_compact"):
        bundle = new_bundle()
        bundle.take_models(pretrained[backbone])
        return bundle

    return make


@pytest.fixture(scope="session", params=[(task, backbone) for task in TASKS for backbone in BACKBONES], ids="-".join)
def finetuned(request, start, captured_logs):
    """A finetuning of one epoch with the encoder frozen: task, backbone, bundle, and what was logged."""
    task, backbone = request.param
    bundle = start(backbone)
    with captured_logs() as stream:
        bundle.run(f"train_{task}", **SMALL, freeze_encoder=True)
    return task, backbone, bundle, stream.getvalue()


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder of radiographs that are not square, one in a subfolder."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "a").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (71, 50), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "tall.png")
    Image.fromarray(pixels.T).save(folder / "a" / "wide.png")
    return folder


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def encoder_of(bundle, task, backbone):
    """The state of the encoder in a finetuned network."""
    workflow = bundle.workflow(f"inference_{task}", kind="infer")
    workflow.parser.parse(reset=True)
    network = workflow.parser.get_parsed_content("network_def")
    load_network(network, bundle.path("models", f"model_{task}.pt"))
    return find_backbone(network).state_dict()


def pretrained_state(bundle):
    """The state of the encoder in model.pt."""
    state = torch.load(bundle.path("models", "model.pt"), weights_only=True)
    prefix = "image_encoder.backbone."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def names(config):
    return json.loads((CONFIGS / f"{config}.json").read_text())


class TestFrozen:
    """Training, evaluation, inference and export of what the default settings train."""

    def test_training(self, finetuned):
        task, backbone, bundle, log = finetuned
        assert f"model.pt: {len(encoder_of(bundle, task, backbone))} tensors moved, frozen" in log
        assert "label_fraction 1)" in log
        assert "Finished epoch 1" in log
        assert bundle.path("models", f"model_{task}.json").is_file()
        assert list(bundle.path("models", task).glob("checkpoint_iteration=*.pt"))
        assert list(bundle.path("eval", task).glob("events*"))

    def test_the_encoder_is_the_pretrained_one_bit_for_bit(self, finetuned):
        task, backbone, bundle, _ = finetuned
        before, after = pretrained_state(bundle), encoder_of(bundle, task, backbone)
        missing = before.keys() - after.keys()
        if (task, backbone) == ("detection", "resnet_compact"):
            # a pyramid whose coarsest stride is 16 has no use for the last stage
            assert missing
            assert all(key.startswith("layer4.") for key in missing)
        else:
            assert not missing
        assert all(torch.equal(value, before[key]) for key, value in after.items())

    def test_evaluation(self, finetuned):
        task, _, bundle, _ = finetuned
        options = {"bootstrap": 20} if task == "classification" else {}
        bundle.run(f"train_{task}", f"evaluate_{task}", **SMALL, **options)
        figures = {name for name, _ in rows(bundle.path("eval", task, "metrics.csv"))}
        assert figures >= FIGURES[task]

    def test_inference(self, finetuned, images):
        task, _, bundle, _ = finetuned
        options = {} if task == "classification" else {"overlays": "true"}
        bundle.run(f"inference_{task}", kind="infer", dataset_dir=str(images), num_workers=0, **options)
        for name in RESULTS[task]:
            assert bundle.path("eval", task, name).is_file(), name
        if task == "segmentation":
            assert Image.open(bundle.path("eval", task, "masks", "a", "wide_mask.png")).size == (71, 50)
        if task == "detection":
            for found in json.loads(bundle.path("eval", task, "detections.json").read_text()):
                x, y, width, height = found["bbox"]
                right, lower = (71, 50) if found["file_name"] == "a/wide.png" else (50, 71)
                assert x >= 0
                assert y >= 0
                assert x + width <= right + 0.01
                assert y + height <= lower + 0.01
        if task == "classification":
            header, *values = rows(bundle.path("eval", task, "probabilities.csv"))
            assert len(header) == 7
            assert len(values) == 2
            assert all(0 <= float(value) <= 1 for row in values for value in row[1:])

    @pytest.mark.parametrize("command", ["ckpt_export", pytest.param("onnx_export", marks=pytest.mark.endurance)])
    def test_export(self, finetuned, command, tmp_path):
        task, _backbone, bundle, _ = finetuned
        path = tmp_path / ("model.ts" if command == "ckpt_export" else "model.onnx")
        getattr(monai.bundle, command)(
            net_id=EXPORTED[task],
            filepath=str(path),
            ckpt_file=str(bundle.path("models", f"model_{task}.pt")),
            meta_file=str(bundle.path("configs", f"metadata_{task}.json")),
            config_file=str(bundle.path("configs", f"inference_{task}.json")),
            bundle_root=str(bundle.root),
            use_trace=True,
            input_shape=[1, 1, SIZE, SIZE],
        )
        image = torch.rand(1, 1, SIZE, SIZE) * 2 - 1
        workflow = bundle.workflow(f"inference_{task}", kind="infer")
        workflow.parser.parse(reset=True)
        network = workflow.parser.get_parsed_content(EXPORTED[task]).eval()
        load_network(network, bundle.path("models", f"model_{task}.pt"))
        with torch.no_grad():
            expected = flat(network(image))
        if command == "ckpt_export":
            made, metadata, _ = load_net_with_metadata(str(path))
            assert metadata["network_data_format"] == names(f"metadata_{task}")["network_data_format"]
            with torch.no_grad():
                exported = flat(made.eval()(image))
        else:
            onnxruntime = pytest.importorskip("onnxruntime")
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            values = session.run(None, {session.get_inputs()[0].name: image.numpy()})
            exported = [torch.from_numpy(value) for value in values]
        assert len(exported) == len(expected)
        for one, other in zip(exported, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3, check_dtype=False)


def flat(output):
    """The tensors of a network's output, in order."""
    if isinstance(output, torch.Tensor):
        return [output]
    items = [output[key] for key in sorted(output)] if isinstance(output, dict) else output
    return [tensor for item in items for tensor in flat(item)]


@pytest.mark.parametrize("task", TASKS)
class TestConfigs:
    def test_properties(self, start, task):
        bundle = start()
        options = {"image_size": SIZE, "cache": "none"}
        workflow = bundle.workflow(f"train_{task}", **options)
        workflow.initialize()
        assert workflow.check_properties() == []
        torch.save(
            workflow.parser.get_parsed_content("network_def").state_dict(), bundle.path("models", f"model_{task}.pt")
        )
        settings = workflow.parser.get_parsed_content("model_settings")
        write_settings(bundle.path("models", f"model_{task}.json"), settings)
        workflow = bundle.workflow(f"train_{task}", f"evaluate_{task}", **options)
        workflow.initialize()
        assert workflow.check_properties() == []
        workflow = bundle.workflow(
            f"inference_{task}", kind="infer", dataset_dir=str(bundle.data / "images"), load_pretrain=False
        )
        workflow.initialize()
        assert workflow.check_properties() == []

    def test_keys_and_order_are_those_of_segmentation(self, task):
        for verb in ("train", "evaluate", "inference"):
            own, pattern = list(names(f"{verb}_{task}")), list(names(f"{verb}_segmentation"))
            common = [key for key in pattern if key in own]
            assert [key for key in own if key in pattern] == common
            assert len(common) > 0.6 * len(pattern)

    def test_named_parts(self, start, task):
        workflow = start().workflow(f"train_{task}", image_size=SIZE, cache="none", early_stopping_patience=5)
        workflow.parser.parse(reset=True)
        handlers = workflow.parser.get_parsed_content("train#trainer#train_handlers")
        (checkpoint,) = [handler for handler in handlers if type(handler).__name__ == "TrainingCheckpoint"]
        assert [type(saver).__name__ for saver in checkpoint.best] == ["BestModelSaver"]
        assert type(checkpoint.early_stop).__name__ == "EarlyStopOnKeyMetric"
        last = [type(handler).__name__ for handler in handlers[-4:]]
        assert last == ["StatsHandler", "TrainingProgress", "TensorBoardStatsHandler", "RunSummary"]
        # of the evaluation all processes need this handler alone
        config = names(f"evaluate_{task}")
        assert config["validate#handlers"][0] == "@validate#figure_saver"
        assert config["validate#figure_saver"]["_target_"] == "monai_mgca.handlers.FigureSaver"

    def test_without_a_pretraining(self, new_bundle, captured_logs, task):
        with captured_logs() as stream:
            workflow = new_bundle().workflow(f"train_{task}", image_size=SIZE, cache="none")
            workflow.initialize()
        assert "The encoder starts from random weights" in stream.getvalue()

    def test_cache_on_disk(self, start, task):
        """What is read back has lost its meta data; masks and boxes must still follow the augmentation."""
        bundle = start()
        workflow = bundle.run(f"train_{task}", epochs=2, cache="disk", **SMALL)
        assert len(list(bundle.path("data", "cache").iterdir())) > 35
        assert workflow.parser.get_parsed_content("train#trainer").state.epoch == 2

    def test_resume(self, start, task):
        bundle, options = start(), {**SMALL, "label_fraction": 0.5}
        bundle.run(f"train_{task}", epochs=1, **options)
        workflow = bundle.run(f"train_{task}", epochs=2, resume=True, **options)
        trainer = workflow.parser.get_parsed_content("train#trainer")
        assert trainer.state.epoch == 2
        assert trainer.state.iteration == 2 * len(workflow.parser.get_parsed_content("train#dataloader"))
        assert bundle.path("models", task, f"checkpoint_iteration={trainer.state.iteration}.pt").is_file()

    def test_whole_network_is_trained(self, start, task):
        """With freeze_encoder false the encoder moves, its batch norms too; text as the command line gives it."""
        bundle = start()
        bundle.run(f"train_{task}", **SMALL, freeze_encoder="false")
        before, after = pretrained_state(bundle), encoder_of(bundle, task, "resnet_compact")
        assert not torch.equal(after["conv1.weight"], before["conv1.weight"])
        assert not torch.equal(after["bn1.running_mean"], before["bn1.running_mean"])

    def test_part_of_the_labels(self, start, captured_logs, task):
        runs = []
        for _ in range(2):
            with captured_logs() as stream:
                workflow = start().workflow(f"train_{task}", image_size=SIZE, cache="none", label_fraction=0.5)
                workflow.initialize()
            runs.append([item["image"] for item in workflow.parser.get_parsed_content("train#data")])
            assert f"{len(runs[-1])} of 35 images (label_fraction 0.5)" in stream.getvalue()
        assert runs[0] == runs[1]
        assert 15 <= len(runs[0]) <= 24


def test_unetr(start, new_bundle):
    """The second decoder of a ViT, on one of twelve layers and from random weights."""
    bundle = new_bundle()
    bundle.run("train_segmentation", encoder="vit_tiny", decoder="unetr", **SMALL)
    assert json.loads(bundle.path("models", "model_segmentation.json").read_text())["decoder"] == "unetr"


def test_classes_that_exclude_each_other(new_bundle, sample, tmp_path):
    """The datalist says that they do, and then the accuracy is reported, too."""
    data = tmp_path / "data"
    shutil.copytree(sample, data)
    document = json.loads((data / "datalist.json").read_text())
    document |= {"label_mode": "multiclass", "classes": ["abnormal", "normal"]}
    for section in ("training", "validation"):
        for entry in document[section]:
            entry["labels"] = [int(any(entry["labels"])), int(not any(entry["labels"]))]
    (data / "datalist.json").write_text(json.dumps(document))
    bundle = new_bundle()
    workflow = bundle.run("train_classification", dataset_dir=str(data), **SMALL)
    assert isinstance(workflow.parser.get_parsed_content("loss"), torch.nn.CrossEntropyLoss)
    assert 0 <= workflow.parser.get_parsed_content("validate#evaluator").state.metrics["val_accuracy"] <= 1


PROCESSES = """
import sys

import torch
from monai.bundle import ConfigWorkflow

task, root, data = sys.argv[1:]
options = dict(bundle_root=root, dataset_dir=data, use_sample=True, device="$torch.device('cpu')", num_workers=0)
for names, more in (
    (["train_" + task, "multi_gpu_train"], dict(image_size=64, batch_size=8, epochs=1)),
    (["train_" + task, "evaluate_" + task, "multi_gpu_evaluate"], dict(bootstrap=5)),
):
    workflow = ConfigWorkflow(
        [f"{root}/configs/{name}.json" for name in names], workflow_type="train", logging_file=False, **options, **more
    )
    workflow.initialize()
    assert workflow.check_properties() == [], workflow.check_properties()
    workflow.run()
    torch.distributed.barrier()  # the first process writes the network that all evaluate
workflow.finalize()  # once: a process group that is made again would find the addresses of the first
"""


@pytest.mark.multiprocess
@pytest.mark.parametrize("task", TASKS)
def test_two_processes(start, torchrun, tmp_path, task):
    """Trained and evaluated by two processes; one process evaluates the same network to the same figures."""
    bundle = start()
    (tmp_path / "run.py").write_text(PROCESSES)
    done = torchrun(str(tmp_path / "run.py"), task, str(bundle.root), str(bundle.data), processes=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    table = bundle.path("eval", task, "metrics.csv")
    two = dict(rows(table))
    table.unlink()
    options = {"bootstrap": 5} if task == "classification" else {}
    bundle.run(f"train_{task}", f"evaluate_{task}", **SMALL, **options)
    one = dict(rows(table))
    assert one.keys() == two.keys()
    assert {name: float(value) for name, value in one.items()} == pytest.approx(
        {name: float(value) for name, value in two.items()}, abs=1e-4, nan_ok=True
    )
