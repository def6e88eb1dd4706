# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time

import pytest

from monai_mgca.utils.errors import FolderInUseError, first_cause
from monai_mgca.utils.folder_lock import LOCK, run_claimed

TRAININGS = {
    ("train",): "",
    ("train", "train_volume"): "volume",
    ("train_segmentation",): "segmentation",
    ("train_detection",): "detection",
    ("train_classification",): "classification",
}
HOLD = """
import sys, time, pathlib
from monai_mgca.utils import claim_folders
claim_folders({"ckpt_dir": sys.argv[1], "output_dir": sys.argv[2]})
pathlib.Path(sys.argv[3]).touch()
time.sleep(240)
"""


@pytest.fixture
def holding_for(forks, tmp_path):
    """Starts a process that holds the folders of a training in a bundle."""
    processes = []

    def hold(bundle, part):
        ready = tmp_path / f"ready{len(processes)}"
        folders = [str(bundle.path(place, part)) for place in ("models", "eval")]
        processes.append(forks.start("-c", HOLD, *folders, str(ready)))
        end = time.monotonic() + 200
        while not ready.exists():
            assert processes[-1].poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        return processes[-1]

    yield hold
    for process in processes:
        process.kill()
        process.wait()


def content(bundle):
    return sorted((path, path.stat().st_mtime_ns) for path in bundle.root.rglob("*"))


@pytest.mark.parametrize("names", TRAININGS, ids=lambda names: names[-1])
def test_a_second_training_changes_nothing(new_bundle, holding_for, names):
    bundle = new_bundle()
    process = holding_for(bundle, TRAININGS[names])
    before = content(bundle)
    # without data of its own: it would draw the sample first
    workflow = bundle.workflow(*names, dataset_dir=None, resume=True, pretrained_path=None)
    with pytest.raises(Exception) as caught:  # noqa: PT011  MONAI's, around ours
        workflow.initialize()
    assert isinstance(first_cause(caught.value), FolderInUseError)
    assert f"process {process.pid}, since" in str(first_cause(caught.value))
    assert content(bundle) == before


def test_other_tasks_may_train_at_once(new_bundle, holding_for):
    bundle = new_bundle()
    for part in ("", "segmentation", "volume"):
        holding_for(bundle, part)
    workflow = bundle.workflow("train_detection", image_size=64, cache="none")
    workflow.initialize()
    assert not bundle.path("models", "detection").exists()  # it is only looked at
    held = []

    def stop():
        held.append(bundle.path("models", "detection", LOCK).is_file())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_claimed(workflow.parser.get_parsed_content("claimed_folders"), stop)
    assert held == [True]
    assert not bundle.path("models", "detection").exists()


def test_what_only_reads_is_not_kept_out(new_bundle, trained, holding_for):
    assert list(trained.bundle.root.rglob(LOCK)) == []  # a training that is done leaves none
    bundle = new_bundle()
    bundle.take_models(trained.bundle)
    holding_for(bundle, "")
    bundle.run("train", "evaluate")
    bundle.run("inference", kind="infer", dataset_dir=str(bundle.data / "images"))
    assert bundle.path("eval", "metrics.csv").is_file()
    assert bundle.path("eval", "embeddings.csv").is_file()
    assert bundle.path("models", LOCK).is_file()  # of the training, which goes on
