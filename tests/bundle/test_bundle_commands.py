# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The bundle as its users start it: in processes of their own, from the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import torch
from commands import run_python
from monai.bundle import ConfigParser
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EXACT = ("train", "multi_gpu_train", "exact_multi_gpu_train")
PROPERTIES = """
import sys
from monai.bundle import ConfigWorkflow

root, data = sys.argv[1:]
workflow = ConfigWorkflow(
    [f"{root}/configs/train.json", f"{root}/configs/multi_gpu_train.json"],
    workflow_type="train", logging_file=False, bundle_root=root, dataset_dir=data, use_sample=True, image_size=32,
    max_length=40, hidden_dim=32, batch_size=8, dist_backend="gloo", device="$torch.device('cpu')",
)
workflow.initialize()
missing = workflow.check_properties()
workflow.finalize()
print("missing properties:", missing)
"""


def tiny(data, **options):
    small = {"image_encoder": "resnet_tiny", "image_size": 32, "max_length": 40, "hidden_dim": 32}
    options = {**small, "batch_size": 8, "epochs": 1, **options}
    options |= {"use_sample": True, "device": "$torch.device('cpu')"} | ({"dataset_dir": data} if data else {})
    return [text for key, value in options.items() for text in (f"--{key}", str(value))]


def written(folder):
    """The names of the files, without a time or a digest in them."""
    names = [re.sub(r"^(events)\..*|^(report_encoder)-[0-9a-f]{8}$", r"\1\2", path.name) for path in folder.iterdir()]
    return sorted(names)


@pytest.fixture
def repository(sample, tmp_path):
    """A folder "repo" with the bundle at its place in the repository, and the sample where the bundle makes it."""
    bundle = tmp_path / "repo" / "bundles" / "mgca"
    shutil.copytree(Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs", bundle / "configs")
    shutil.copytree(sample, bundle / "data" / "sample")
    return tmp_path / "repo"


FILES = [
    *("checkpoint_iteration=4.pt", "model.json", "model.pt", "model_outliers.safetensors", "model_pretrain.pt"),
    *("model_pretrain_reference.safetensors", "report_encoder"),
]


class TestCommandLine:
    @pytest.mark.parametrize("start", [pytest.param("repo", marks=pytest.mark.endurance), "repo/bundles/mgca"])
    def test_writes_into_the_bundle(self, repository, command, start):
        cwd = repository.parent / start
        config = os.path.relpath(repository / "bundles" / "mgca" / "configs" / "train.json", cwd)
        options = tiny(None, sample_size=48, sample_image_size=64)
        arguments = ("monai.bundle", "run", "--config_file", config, *options)
        # as in the README, in a new process
        done = run_python("-m", *arguments, cwd=cwd) if start == "repo" else command(*arguments, cwd=cwd)
        assert done.returncode == 0, done.stderr[-3000:]
        bundle = repository / "bundles" / "mgca"
        assert sorted(path.name for path in bundle.iterdir()) == ["configs", "data", "eval", "models"]
        assert written(bundle / "models") == FILES
        assert written(bundle / "eval") == ["events", "run.log"]
        # the engines' words are in the log alone
        assert "Epoch 1/1: train_loss" in done.stdout
        assert "Epoch[1] Complete" not in done.stdout
        assert "Epoch[1] Complete" in (bundle / "eval" / "run.log").read_text()
        assert "is complete: reused" in done.stdout  # the sample is looked for in the bundle, too
        assert "Finished epoch 1" in done.stdout
        assert "model_pretrain.pt" in done.stdout
        # nothing beside the bundle
        assert sorted(path.name for path in repository.iterdir()) == ["bundles"]
        assert sorted(path.name for path in (repository / "bundles").iterdir()) == ["mgca"]

    def test_where_it_would_write_without_options(self, repository, monkeypatch):
        for cwd, root in ((repository, "bundles/mgca"), (repository / "bundles" / "mgca", ".")):
            monkeypatch.chdir(cwd)
            for name in ("train", "inference"):
                parser = ConfigParser()
                parser.read_config(str(repository / "bundles" / "mgca" / "configs" / f"{name}.json"))
                assert parser.get_parsed_content("bundle_root") == root
                assert parser.get_parsed_content("ckpt_dir") == f"{root}/models"
                assert parser.get_parsed_content("output_dir") == f"{root}/eval"


@pytest.mark.multiprocess
class TestTorchrun:
    def test_two_processes(self, new_bundle, torchrun, tmp_path):
        bundle = new_bundle()
        configs = [str(bundle.path("configs", f"{name}.json")) for name in (*EXACT, "zero_multi_gpu_train")]
        options = tiny(str(bundle.data), bundle_root=str(bundle.root), dist_backend="gloo", epochs=2)
        arguments = ["-m", "monai.bundle", "run", "--config_file", str(configs), *options]
        done = torchrun(*arguments, processes=2, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        assert written(bundle.path("models")) == sorted(["checkpoint_iteration=2.pt", *FILES])
        assert written(bundle.path("eval")) == ["events", "run.log", "run_rank1.log"]
        assert done.stdout.count("Finished epoch 2") == 1
        # 35 studies, 17 for each process: 2 batches of 8 an epoch
        state = torch.load(bundle.path("models", "checkpoint_iteration=4.pt"), weights_only=True)
        assert state["trainer"]["iteration"] == 4
        assert not any(key.startswith("module.") for key in state["network"])
        # each process had a part of the optimizer's state
        parameters = sum(len(group["params"]) for group in state["optimizer"]["param_groups"])
        assert len(state["optimizer"]["state"]) == parameters > 0
        # the words' statistics are those of both processes in each of the 4 steps
        assert state["network"]["word_head.norm1.num_batches_tracked"] == 4
        for name in ("model.pt", "model_pretrain.pt"):
            keys = torch.load(bundle.path("models", name), weights_only=True).keys()
            assert not any(key.startswith("module.") for key in keys)
        # all of the validation counts, once: recalls of 6 images are sixths
        events = EventAccumulator(str(bundle.path("eval")), size_guidance={"scalars": 0}).Reload()
        recall = events.Scalars("val_image_to_report_recall_at_1")[0].value * 6
        assert recall == pytest.approx(round(recall), abs=1e-4)

    def test_a_process_that_fails_ends_all(self, forks, new_bundle, sample, tmp_path):
        bundle, data = new_bundle(), tmp_path / "data"
        shutil.copytree(sample, data)
        broken = data / json.loads((data / "datalist.json").read_text())["training"][5]["image"]
        content = broken.read_bytes()
        broken.write_bytes(content[: len(content) // 2])  # of the part of one process; its header is whole
        configs = [str(bundle.path("configs", f"{name}.json")) for name in EXACT]
        options = tiny(str(data), bundle_root=str(bundle.root), dist_backend="gloo", cache="none", num_workers=0)
        # it is torchrun itself that ends the other one
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        arguments = ["-m", "monai.bundle", "run", "--config_file", str(configs), *options]
        done = forks.run(*torchrun, *arguments, cwd=tmp_path, forking=True)
        assert done.returncode == 1
        (message,) = re.findall(r"error: (cannot .*)", done.stderr)
        assert message.startswith("cannot read the radiograph")
        assert str(broken) in message
        # the other one waited for it, in an exchange whose time-out is half an hour
        logs = "".join(path.read_text() for path in bundle.path("eval").glob("run*.log"))
        raised = re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ .*terminating due to exception", logs)
        ended = re.findall(r"time +: (\d{4}-\d\d-\d\d)_(\d\d:\d\d:\d\d)", done.stdout + done.stderr)
        first = datetime.fromisoformat(min(raised))
        last = max(datetime.fromisoformat(" ".join(when)) for when in ended)
        assert last - first < timedelta(seconds=60)

    def test_properties(self, new_bundle, torchrun, tmp_path):
        bundle = new_bundle()
        (tmp_path / "properties.py").write_text(PROPERTIES)
        arguments = [str(tmp_path / "properties.py"), str(bundle.root), str(bundle.data)]
        done = torchrun(*arguments, processes=1, cwd=tmp_path)
        assert "missing properties: []" in done.stdout, done.stdout[-500:] + done.stderr[-3000:]


def test_mlflow(new_bundle, command, tmp_path):
    pytest.importorskip("mlflow")
    bundle = new_bundle()
    options = tiny(str(bundle.data), bundle_root=str(bundle.root), tracking="mlflow")
    config = str(bundle.path("configs", "train.json"))
    done = command("monai.bundle", "run", "--config_file", config, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = bundle.path("eval").glob("*.db")
    with sqlite3.connect(path) as database:
        names = {name for (name,) in database.execute("select distinct key from metrics")}
    assert any("mean_recall" in name for name in names), names
    assert any("loss" in name for name in names), names
