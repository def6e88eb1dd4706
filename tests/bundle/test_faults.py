# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Faults of the machine during a training, each provoked for real: what is reported, how it ends, and what is kept."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from monai_mgca.handlers.non_finite import read_quarantine
from monai_mgca.utils.errors import DataError, StorageError, first_cause

ROOT = Path(__file__).resolve().parents[2]
# no end to it: the fault ends it
ENDLESS = {"epochs": 10_000, "early_stopping_patience": 0, "cache": "none", "image_encoder": "resnet_tiny"}


@pytest.fixture
def data(sample, tmp_path):
    """A dataset that a test may damage: 16 training entries, 4 to validate."""
    folder = tmp_path / "data"
    shutil.copytree(sample, folder)
    document = json.loads((folder / "datalist.json").read_text())
    for section, count in (("training", 16), ("validation", 4), ("test", 4)):
        document[section] = document[section][:count]
    (folder / "datalist.json").write_text(json.dumps(document))
    return folder


class Running:
    """A training in a process of its own."""

    def __init__(self, forks, bundle, data, **options):
        settings = {"image_size": 32, "max_length": 40, "hidden_dim": 32, "num_prototypes": 16, "batch_size": 8}
        settings |= {**ENDLESS, "num_workers": 0, "dataset_dir": data, "use_sample": True, **options}
        self.bundle, kwargs = bundle, settings.pop("process", {})
        self.models = Path(settings.get("ckpt_dir", bundle.path("models")))
        arguments = [str(text) for name, value in settings.items() for text in (f"--{name}", value)]
        config = bundle.path("configs", "train.json")
        command = ["-m", "monai.bundle", "run", "--config_file", str(config), "--bundle_root", str(bundle.root)]
        self.process = forks.start(*command, *arguments, **kwargs)

    def wait_for_checkpoints(self, count=2):
        """Until so many epochs are done."""
        end = time.time() + 200
        while len(list(self.models.glob("checkpoint_*.pt"))) < count or not (self.models / "model.pt").exists():
            assert self.process.poll() is None and time.time() < end, self.process.communicate()[1][-3000:]  # noqa: PT018
            time.sleep(0.05)

    def children(self):
        return [int(n) for n in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def last_words(self):
        """The last words of the training, which must have failed."""
        try:
            text = self.process.communicate(timeout=200)[1]
        finally:
            self.process.kill()
        assert self.process.returncode == 1, text[-3000:]
        assert text.count("\nerror: ") == 1, text[-3000:]
        return text.rsplit("\nerror: ", 1)[1].strip().splitlines()[0]


def assert_kept(models):
    """What was written before can be read, and nothing lies there half written."""
    names = sorted(path.name for path in models.glob("*.pt*"))
    checkpoints = [name for name in names if name.startswith("checkpoint_")]
    assert 1 <= len(checkpoints) <= 2
    assert [name for name in names if name not in checkpoints] == ["model.pt", "model_pretrain.pt"]
    for name in names:
        assert torch.load(models / name, weights_only=True, map_location="cpu")


def fill(folder):
    """Leave no room in a small file system."""
    with pytest.raises(OSError, match="No space"), (folder / "filler").open("wb", buffering=0) as file:  # noqa: PT012
        while True:
            file.write(bytes(1024))


@pytest.fixture
def start(forks, new_bundle, data):
    """Starts such a training; what is left of them is ended."""
    started = []

    def run(**options):
        started.append(Running(forks, new_bundle(), data, **options))
        return started[-1]

    yield run
    for running in started:
        running.process.kill()


class TestWhileItRuns:
    def test_a_data_process_is_killed(self, start):
        running = start(num_workers=1)
        running.wait_for_checkpoints()
        os.kill(running.children()[0], signal.SIGKILL)
        message = running.last_words()
        # torch says the first, or the second where its signal came while something else caught errors
        killed = r"DataLoader worker \(pid\S* \d+\) (is killed by signal: Killed|exited unexpectedly)"
        assert re.search(killed + ": a process that loads data was ended from outside", message)
        assert "num_workers" in message
        assert "--resume true" in message
        assert_kept(running.models)

    def test_the_disk_of_the_checkpoints_is_full(self, start, small_disk, data):
        models = small_disk(96) / "models"
        running = start(ckpt_dir=models)
        running.wait_for_checkpoints()
        fill(models.parent)
        message = running.last_words()
        assert message.startswith(f"cannot write {models}/")
        assert ".pt: the disk is full" in message
        assert message.endswith("--resume true.")
        assert_kept(running.models)
        (models.parent / "filler").unlink()
        epochs = 2 + max(int(p.stem.split("=")[1]) for p in models.glob("checkpoint_*.pt")) // 2
        options = {"ckpt_dir": str(models), "image_encoder": "resnet_tiny", "dataset_dir": str(data), "resume": True}
        workflow = running.bundle.run("train", **options, cache="none", num_workers=0, epochs=epochs)
        assert workflow.parser.get_parsed_content("train#trainer").state.epoch == epochs


class TestInTheSecondEpoch:
    @pytest.fixture
    def fail(self, new_bundle, data):
        """Trains some epochs, with a fault that a function makes after the first; gives the error and the bundle."""

        def run(fault, **options):
            bundle = new_bundle()
            options = {"cache": "none", "num_workers": 0, "epochs": 2, **options}
            workflow = bundle.workflow("train", dataset_dir=str(data), **options)
            workflow.initialize()
            trainer = workflow.parser.get_parsed_content("train#trainer")
            trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda: fault())
            with pytest.raises(Exception) as caught:  # noqa: PT011
                workflow.run()
            assert trainer.state.epoch > 1
            assert_kept(bundle.path("models"))
            return first_cause(caught.value)

        return run

    @pytest.mark.parametrize("workers", [0, 1])
    @pytest.mark.parametrize(("fault", "message"), [("vanishes", "there is no such file"), ("breaks", "file is empty")])
    def test_a_file(self, fail, data, workers, fault, message):
        path = data / json.loads((data / "datalist.json").read_text())["training"][3]["image"]
        error = fail(path.unlink if fault == "vanishes" else lambda: path.write_bytes(b""), num_workers=workers)
        assert isinstance(error, DataError)
        assert str(error).startswith(f"cannot read the radiograph {path}: ")
        assert message in str(error)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
    def test_the_disk_of_the_curves_is_full(self, fail, small_disk):
        output = small_disk(1)
        # some epochs: the file's last block has still room
        error = fail(lambda: fill(output), output_dir=str(output), epochs=9)
        assert isinstance(error, StorageError)
        assert str(error).startswith("cannot write the curves in output_dir: the disk is full")


class TestBeforeItStarts:
    """Found before anything is trained."""

    def test_no_permission(self, start, heeding_permissions, tmp_path):
        locked = tmp_path / "locked"
        locked.mkdir()
        locked.chmod(0o555)
        message = start(output_dir=locked / "eval", process=heeding_permissions).last_words()
        assert message.startswith(f"output_dir: cannot write {locked / 'eval'}: you have no permission")

    @pytest.fixture
    def fail(self, new_bundle, data):
        def run(**options):
            bundle = new_bundle()
            workflow = bundle.workflow("train", dataset_dir=str(data), num_workers=0, **options)
            with pytest.raises(Exception) as caught:  # noqa: PT011
                workflow.initialize()
            return first_cause(caught.value)

        return run

    def test_too_little_room(self, fail, small_disk):
        folder = small_disk(4)
        error = fail(ckpt_dir=str(folder / "models"))
        assert isinstance(error, StorageError)
        assert f"ckpt_dir ({folder / 'models'}) has 4 MiB of room" in str(error)
        assert "make room" in str(error)

    @pytest.mark.parametrize("name", ["ckpt_dir", "output_dir", "cache_dir"])
    def test_a_file_in_place_of_a_folder(self, fail, tmp_path, name):
        (tmp_path / "file").write_text("")
        error = fail(cache="disk", **{name: str(tmp_path / "file" / "folder")})
        assert isinstance(error, StorageError)
        assert f"{name} ({tmp_path / 'file' / 'folder'}) is, or lies below, a file" in str(error)


@pytest.mark.parametrize("workers", [0, 1])
def test_no_room_for_the_disk_cache(new_bundle, data, small_disk, workers):
    folder = small_disk(1)
    (folder / "filler").write_bytes(bytes(2**20 - 16384))
    with pytest.raises(Exception) as caught:  # noqa: PT011
        new_bundle().run(
            "train", dataset_dir=str(data), cache="disk", cache_dir=str(folder / "cache"), num_workers=workers
        )
    error = first_cause(caught.value)
    assert isinstance(error, StorageError), repr(error)
    assert f"cannot write {folder}/cache/" in str(error)
    assert "the disk is full" in str(error)
    assert all(torch.load(path, weights_only=True) for path in (folder / "cache").glob("*.pt"))


class TestNotFinite:
    def test_a_learning_rate_that_is_too_large(self, new_bundle, data, captured_logs):
        bundle = new_bundle()
        options = {"learning_rate": 1e30, "warmup": 0, "max_non_finite_steps": 3, "epochs": 9}
        with captured_logs() as stream, pytest.raises(Exception) as caught:  # noqa: PT011
            bundle.run("train", dataset_dir=str(data), num_workers=0, **options)
        error = first_cause(caught.value)
        assert isinstance(error, FloatingPointError)
        path = bundle.path("eval", "quarantine.json")
        assert "3 steps in a row" in str(error)
        assert f"listed in {path}" in str(error)
        assert "learning_rate" in str(error)
        images = {str(data / e["image"]) for e in json.loads((data / "datalist.json").read_text())["training"]}
        assert set(read_quarantine(path)) <= images
        assert stream.getvalue().count("the step is skipped") == 3

    def test_one_image(self, new_bundle, data, captured_logs):
        """An image of one gray level, divided by its own standard deviation as a config of a user might do."""
        from PIL import Image

        name = json.loads((data / "datalist.json").read_text())["training"][5]["image"]
        with Image.open(data / name) as image:
            Image.new("L", image.size, 90).save(data / name)
        bundle = new_bundle()
        standardize = {
            "_target_": "monai.transforms.Lambdad",
            "keys": "image",
            "func": "$lambda x: (x.float() - x.float().mean()) / x.float().std()",
        }
        options = {"train#final_transforms": [standardize], "epochs": 3, "batch_size": 2}
        with captured_logs() as stream:
            workflow = bundle.run("train", dataset_dir=str(data), num_workers=0, **options)
        listed = read_quarantine(bundle.path("eval", "quarantine.json"))
        assert next(iter(listed)) == str(data / name)
        assert listed[str(data / name)] == 3
        assert "3 of 24 steps were skipped" in stream.getvalue()
        network = workflow.parser.get_parsed_content("network_def")
        assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


def test_a_second_training_in_the_folder_of_the_first(forks, new_bundle, data):
    """It is refused in one line, and the first goes on; when that is killed, its folders are free at once."""
    bundle = new_bundle()
    first = Running(forks, bundle, data, num_workers=1)
    try:
        first.wait_for_checkpoints()
        second = Running(forks, bundle, data, num_workers=1)
        code, (_, output) = second.process.wait(), second.process.communicate()
        assert code == 1
        assert f", process {first.process.pid}, since " in output
        (line,) = [line for line in output.splitlines() if line.startswith("error")]
        assert line.startswith(f"error: ckpt_dir ({bundle.path('models')}): another training writes there (host ")
        assert "Traceback" not in output
        assert "another training" not in bundle.path("eval", "run.log").read_text()
        assert first.process.poll() is None
    finally:
        first.process.kill()
    first.process.wait()
    third = Running(forks, bundle, data, num_workers=1, resume="true")
    newest = max(int(path.stem.split("=")[1]) for path in first.models.glob("checkpoint_*.pt"))
    try:
        end = time.time() + 200
        while not list(first.models.glob(f"checkpoint_iteration={newest + 4}.pt")):
            assert third.process.poll() is None and time.time() < end, third.process.communicate()[1][-3000:]  # noqa: PT018
            time.sleep(0.05)
    finally:
        third.process.kill()
        third.process.wait()
