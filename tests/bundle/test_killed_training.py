# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Trainings that are killed or stopped at random moments, and resumed, end as those that were not: bit for bit."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from monai_mgca.data import make_volume_sample

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("killed_training.py")
PLACES = ["half of a checkpoint", "before it is renamed", "before the old ones go", "half of the best network"]
EVERYWHERE = {"use_sample": True, "batch_size": 12, "epochs": 2, "augment": True, "early_stopping_patience": 5}
PRETRAINING = {"image_size": 32, "max_length": 40, "hidden_dim": 32, "num_prototypes": 16, "select_sentences": 0.5}
PRETRAINING |= {"image_encoder": "resnet_tiny"}


@pytest.fixture
def killed(forks, tmp_path, sample):
    """Runs trainings with so many kills, and gives which of them there were."""

    def run(names, kills, workers, **options):
        settings = {
            "seed": 0,
            "folder": str(tmp_path),
            "configs": str(ROOT / "bundles" / "mgca" / "configs"),
            "names": names,
            "processes": 2 if "multi_gpu_train" in names else 1,
            "workers": workers,
            "kills": kills,
            "options": {**EVERYWHERE, "dataset_dir": str(sample), **options},
        }
        done = forks.run(str(PROGRAM), json.dumps(settings), timeout=400)
        assert done.returncode == 0, done.stderr[-6000:]
        result = json.loads(done.stdout.splitlines()[-1])
        assert result["differences"] == []
        assert result["runs"] >= 1
        assert result["left"] == []
        return result

    return run


def test_pretraining(killed):
    """Killed 20 times, six of them in the writing of a file, and stopped twice by a signal."""
    kills = ["SIGKILL"] * 14 + [*PLACES, *PLACES[:2]]
    signals = ["SIGTERM", "SIGINT"]
    result = killed(
        ["train"], kills + signals, [0, 2], **PRETRAINING, checkpoint_interval=2, device="$torch.device('cpu')"
    )
    assert sorted(result["killed"] + result["stopped"]) == sorted(kills + signals)
    assert set(PLACES) < set(result["killed"])


def test_segmentation(killed):
    kills = ["SIGKILL"] * 3 + [PLACES[0], PLACES[3], "SIGTERM"]
    options = {"image_size": 64, "checkpoint_interval": 2, "device": "$torch.device('cpu')"}
    result = killed(["train_segmentation"], kills, [0, 2], **options)
    assert sorted(result["killed"] + result["stopped"]) == sorted(kills)


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_volumes(killed, tmp_path, task):
    """Patches, of which a volume gives several, are cropped again where they were."""
    data = make_volume_sample(tmp_path / "ct", 24, 32, progress=False).parent
    kills = ["SIGKILL"] * 3 + [PLACES[0], PLACES[3], "SIGTERM"]
    options = {"dataset_dir": str(data), "encoder": "resnet_tiny", "voxel_size": 10.0, "batch_size": 8}
    options |= {"ckpt_dir": "$@bundle_root + '/models'", "checkpoint_interval": 1, "device": "$torch.device('cpu')"}
    options |= {"image_size": 32, "num_samples": 2}
    result = killed([f"train_{task}", f"train_{task}_volume"], kills, [0, 2], **options)
    assert sorted(result["killed"] + result["stopped"]) == sorted(kills)


@pytest.mark.multiprocess
def test_two_processes(killed):
    """The signals come to the second one alone."""
    kills = ["SIGKILL"] * 2 + [PLACES[0], "SIGTERM", "SIGINT"]
    options = {**PRETRAINING, "checkpoint_interval": 1, "dist_backend": "gloo"}
    result = killed(["train", "multi_gpu_train"], kills, [0], **options)
    assert sorted(result["killed"] + result["stopped"]) == sorted(kills)


def test_signal_to_the_whole_group(forks, new_bundle, sample, tmp_path):
    """As from Slurm or torchrun: the loader's processes get it too, and the training still finishes its step."""
    bundle = new_bundle()
    options = {**EVERYWHERE, **PRETRAINING, "epochs": 10_000, "bundle_root": bundle.root, "dataset_dir": sample}
    options |= {"device": "$torch.device('cpu')", "num_workers": 2, "cache": "none"}
    config = ["--config_file", str(bundle.path("configs", "train.json"))]
    command = ["-m", "monai.bundle", "run", *config, *(f"--{k}={v}" for k, v in options.items())]
    process = forks.start(*command, cwd=tmp_path, output=tmp_path / "log.txt", start_new_session=True)
    limit = time.monotonic() + 200
    while not bundle.path("models", "checkpoint_iteration=4.pt").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    code = process.wait(100)
    output = (tmp_path / "log.txt").read_text()
    assert code == 128 + signal.SIGTERM, output[-3000:]
    assert "Traceback" not in output
    assert output.count("SIGTERM: stopped after iteration") == 1
    assert "Finished epoch" not in output  # as it says when all is done
