# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Bad data in a training: all of it is reported by file before anything is trained, and existing files stay."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from monai_mgca.apps.check_command import main
from monai_mgca.utils import DataError
from monai_mgca.utils.errors import first_cause


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


def images_of(data, section="training"):
    return [data / entry["image"] for entry in json.loads((data / "datalist.json").read_text())[section]]


def cut(path):
    path.write_bytes(path.read_bytes()[:-300])


def test_training_on_bad_files_ends_before_it_begins(new_bundle, data, command):
    """By the command line: message, exit code, and the results of an earlier training are as they were."""
    bundle, images = new_bundle(), images_of(data)
    images[0].write_text("<html>Please log in</html>")
    Image.new("1", (9000, 9000)).save(images[3])
    kept = {bundle.path("models", "model.pt"): b"of an earlier training", bundle.path("eval", "a.csv"): b"1,2"}
    for path, content in kept.items():
        path.parent.mkdir()
        path.write_bytes(content)
    options = {"image_size": 32, "hidden_dim": 32, "batch_size": 4, "epochs": 1, "use_sample": True}
    options |= {"bundle_root": bundle.root, "dataset_dir": data, "device": "$torch.device('cpu')"}
    arguments = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    config = str(bundle.path("configs", "train.json"))
    run = command("monai.bundle", "run", "--config_file", config, *arguments, cwd=data)
    assert run.returncode == 1
    cause, place = run.stderr[run.stderr.rindex("error: ") :].strip().rsplit("\n", 1)
    assert place == f"The traceback is at the end of {bundle.path('eval', 'run.log')}."
    for words in ("2 problems", f"{images[0].name}: not an image", f"{images[3].name}: decompression bomb"):
        assert words in cause
    assert "--write-clean" in cause.strip().splitlines()[-1]
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert not list(bundle.path("models").glob("checkpoint*"))


@pytest.mark.parametrize("config", ["train", "train_segmentation"])
def test_all_bad_images_are_reported_when_the_cache_is_filled(new_bundle, data, config):
    bundle, images = new_bundle(), images_of(data)
    for path in images[2:5]:
        cut(path)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        bundle.run(config, dataset_dir=str(data), cache="memory", batch_size=4)
    cause = first_cause(caught.value)
    assert isinstance(cause, DataError)
    assert "3 of 16 images cannot be used" in str(cause)
    assert all(path.name in str(cause) for path in images[2:5])
    assert not list(bundle.root.rglob("*.pt"))


def test_a_clean_datalist_trains(new_bundle, data, capsys):
    """What the check leaves out, the training does without."""
    bundle, images = new_bundle(), images_of(data)
    document = json.loads((data / "datalist.json").read_text())
    cut(images[0])
    Image.new("L", (64, 64), 9).save(images[1])
    shutil.copy(images_of(data, "validation")[0], images[2])
    document["training"][3]["report"] = "Normal."
    document["training"][4]["patient"] = document["validation"][1]["patient"]
    (data / "datalist.json").write_text(json.dumps(document))
    with pytest.raises(Exception) as caught:  # noqa: PT011
        bundle.run("train", dataset_dir=str(data), batch_size=4)
    assert "report too short" in str(first_cause(caught.value))
    clean = data / "clean.json"
    assert main([str(data / "datalist.json"), "--write-clean", str(clean)]) == 1
    assert "training: 11 of 16 entries" in capsys.readouterr().out
    written = json.loads(clean.read_text())
    assert written["training"] == document["training"][5:]
    assert written["validation"] == document["validation"]
    bundle.run("train", dataset_dir=str(data), data_list_file_path=str(clean), batch_size=4)
    assert bundle.path("models", "model.pt").is_file()
