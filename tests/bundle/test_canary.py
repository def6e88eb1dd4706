# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A word put into reports, patient ids and DICOM headers is found nowhere in what a training prints or writes."""

from __future__ import annotations

import gzip
import json
import shutil
import traceback

import pytest

TRAININGS = ("train", "train_segmentation", "train_detection", "train_classification")


def test_the_words_are_in_the_data(studies, canaries):
    assert {path.suffix for path in (studies / "images").iterdir()} == {".png", ".dcm", ".jpg", ".gz", ".tif"}
    entries = json.loads((studies / "datalist.json").read_text())["training"]
    assert all(canaries[0] in entry["report"] and canaries[1] in entry["patient"] for entry in entries)
    for path in (studies / "images").iterdir():
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert all(word.encode() in content for word in canaries), path


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("training", TRAININGS)
def test_no_training_prints_or_writes_them(new_bundle, studies, holding, all_output, training, cache):
    bundle = new_bundle()
    bundle.run(training, dataset_dir=str(studies), cache=cache, batch_size=4, image_size=64, num_workers=0)
    log = all_output()
    assert "Epoch[1]" in log
    assert str(bundle.root) in log
    written = [path.name for path in bundle.root.rglob("*") if path.is_file()]
    assert any(name.endswith(".pt") for name in written)
    assert any("events" in name for name in written)
    assert holding(log) == []
    assert holding(bundle.root) == []


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("harm", ["missing", "broken"])
def test_no_error_holds_them(new_bundle, studies, holding, all_output, tmp_path, training, harm):
    data = shutil.copytree(studies, tmp_path / "data")
    document = json.loads((data / "datalist.json").read_text())
    image = data / document["training"][0]["image"]
    assert image.suffix == ".dcm"
    if harm == "missing":
        image.unlink()
    else:
        image.write_bytes(image.read_bytes()[:-100])
    with pytest.raises((RuntimeError, ValueError)) as failed:
        new_bundle().run(training, dataset_dir=str(data), batch_size=4, image_size=64, num_workers=0)
    log = all_output() + "".join(traceback.format_exception(failed.value))
    assert image.name in log
    assert holding(log) == []
