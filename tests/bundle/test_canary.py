# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""A word put into reports, patient ids and DICOM headers is found nowhere in what a training tells or writes."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from monai_mgca.utils.errors import first_cause

TRAININGS = ("train", "train_segmentation", "train_detection", "train_classification")


@pytest.fixture(scope="module")
def studies(sample, canaries, save_dicom, tmp_path_factory):
    """The sample with canaries in reports and patient ids, every other image as DICOM with canaries in its header."""
    words, patient = canaries
    tags = {"PatientID": patient, "PatientName": patient, "StudyDescription": words, "ImageComments": words}
    folder = tmp_path_factory.mktemp("canary_dicom") / "data"
    shutil.copytree(sample, folder)
    document = json.loads((folder / "datalist.json").read_text())
    for entries in (document[section] for section in ("training", "validation", "test")):
        for place, entry in enumerate(entries):
            entry["report"], entry["patient"] = f"{canaries[0]} {place} {entry['report']}", f"{canaries[1]}-{place}"
            if place % 2 == 0:
                name = entry["image"].replace(".png", ".dcm")
                save_dicom(folder / name, np.asarray(Image.open(folder / entry["image"])), **tags)
                entry["image"] = name
    (folder / "datalist.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def told(caplog, capfd):
    """All that was logged from DEBUG on, and all that went to stdout and stderr, from C too."""
    caplog.set_level(logging.DEBUG)
    return lambda: caplog.text + "".join(capfd.readouterr())


def test_the_words_are_in_the_data(studies, canaries):
    assert {path.suffix for path in (studies / "images").iterdir()} == {".png", ".dcm"}
    held = b"".join(path.read_bytes() for path in studies.rglob("*") if path.suffix in (".dcm", ".json"))
    assert all(held.count(word.encode()) > 16 for word in canaries)


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("training", TRAININGS)
def test_no_training_tells_or_writes_them(new_bundle, studies, canaries, told, training, cache):
    bundle = new_bundle()
    bundle.run(training, dataset_dir=str(studies), cache=cache, batch_size=4, image_size=64, num_workers=0)
    log = told()
    assert "Epoch[1]" in log and str(bundle.root) in log  # what is told is seen here
    written = [path for path in bundle.root.rglob("*") if path.is_file() and path.parent.name != "configs"]
    assert {".pt", ".json"} <= {path.suffix for path in written} and any("events" in path.name for path in written)
    for word in canaries:
        assert word.lower() not in log.lower()
        assert [path for path in written if word.lower().encode() in path.read_bytes().lower()] == []


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("harm", ["missing", "broken"])
def test_no_error_tells_them(new_bundle, studies, canaries, told, tmp_path, training, harm):
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
    log = told() + str(first_cause(failed.value)) + str(failed.value)
    assert image.name in log
    for word in canaries:
        assert word.lower() not in log.lower()
