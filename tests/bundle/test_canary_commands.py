# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""No evaluation, inference or command prints or writes a word of the reports, a patient's id or an image's header.

Datalists hold reports and patients by purpose, and so they are left out. What shows reports does so where one asks for
it: ``--with-text`` of retrieve and report, ``--words`` of ground. What a user types is shown to the same user.
"""

from __future__ import annotations

import json
import shutil
import traceback

import nibabel as nib
import numpy as np
import pytest

import monai_mgca.apps.card.card_command
import monai_mgca.apps.ground.ground_command
import monai_mgca.apps.probe.probe_command
import monai_mgca.apps.retrieve.retrieve_command
from monai_mgca.data import make_volume_sample
from monai_mgca.utils.errors import first_cause

TASKS = ("segmentation", "detection", "classification")
TINY = {"image_size": 32, "batch_size": 4, "num_workers": 0}
TEXT = "left pleural effusion"


@pytest.fixture(scope="module")
def bundle(new_bundle, studies):
    """A bundle with all four networks trained on the studies."""
    made = new_bundle()
    for name in ("train", *(f"train_{task}" for task in TASKS)):
        made.run(name, dataset_dir=str(studies), **TINY)
    return made


@pytest.mark.parametrize("task", ["pretraining", *TASKS, "zero_shot"])
def test_no_evaluation(bundle, studies, holding, all_output, tmp_path, task):
    options = {"dataset_dir": str(studies), "output_dir": str(tmp_path / "out"), "num_workers": 0}
    if task == "zero_shot":
        bundle.run("evaluate_zero_shot", kind="infer", bootstrap=5, device="$torch.device('cpu')", **options)
    elif task == "pretraining":
        bundle.run("train", "evaluate", **{**TINY, **options})
    else:
        more = {} if task == "classification" else {"overlays": True}
        bundle.run(f"train_{task}", f"evaluate_{task}", **{**TINY, **options}, **more)
    assert holding(all_output()) == []
    assert holding(tmp_path) == []


@pytest.mark.parametrize("task", ["embedding", *TASKS])
def test_no_inference(bundle, studies, holding, all_output, tmp_path, task):
    """Masks of NIfTI images are NIfTI, with a header of their own."""
    name = "inference" if task == "embedding" else f"inference_{task}"
    options = {"dataset_dir": str(studies / "images"), "output_dir": str(tmp_path / "out")}
    bundle.run(name, kind="infer", num_workers=0, device="$torch.device('cpu')", **options)
    assert holding(all_output()) == []
    assert holding(tmp_path) == []
    if task == "segmentation":
        assert {".png", ".gz"} <= {path.suffix for path in tmp_path.rglob("*") if path.is_file()}


def test_no_command_with_mlflow(new_bundle, studies, holding, all_output):
    pytest.importorskip("mlflow")
    made = new_bundle()
    made.run("train", dataset_dir=str(studies), tracking="mlflow", **TINY)
    assert list(made.path("eval").glob("*.db"))
    assert holding(all_output()) == []
    assert holding(made.root) == []


@pytest.fixture(scope="module")
def volumes(tmp_path_factory, canaries):
    """The sample of volumes, small, with canaries in reports, patients and NIfTI headers."""
    folder = make_volume_sample(tmp_path_factory.mktemp("canary_ct"), 24, 32, progress=False).parent
    document = json.loads((folder / "datalist.json").read_text())
    for section in ("training", "validation", "test"):
        for place, entry in enumerate(document.get(section, [])):
            entry["report"] = f"{entry['report']} {canaries[0]}."
            entry["patient"] = f"{canaries[1]}-{section}-{place}"
            image = nib.load(folder / entry["image"])
            made = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
            made.header["descrip"] = " ".join(canaries)
            nib.save(made, folder / entry["image"])
    (folder / "datalist.json").write_text(json.dumps(document))
    return folder


def test_no_work_on_volumes(new_bundle, volumes, write_series, holding, all_output, tmp_path):
    pytest.importorskip("itk")
    made, options = new_bundle(), {"image_size": 32, "voxel_size": 12.0, "num_workers": 0}
    made.run("train", "train_volume", dataset_dir=str(volumes), **options)
    values = np.random.default_rng(0).integers(-1000, 400, (20, 21, 22)).astype(np.int16)
    write_series(tmp_path / "series" / "one", values, (2.0, 2.0, 3.0), (0.0, 0.0, 0.0))
    device = "$torch.device('cpu')"
    options = {"dataset_dir": str(tmp_path / "series"), "output_dir": str(tmp_path / "out"), "device": device}
    made.run("inference", "inference_volume", kind="infer", num_workers=0, **options)
    text = all_output()
    assert holding(text) == []
    assert "Doe" not in text
    assert holding(made.root) == []
    assert holding(tmp_path / "out") == []
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and b"Doe^" in path.read_bytes()]


COMMANDS = {
    "retrieve": (monai_mgca.apps.retrieve.retrieve_command, ["--text", TEXT, "--evaluate"]),
    "retrieve reports": (
        monai_mgca.apps.retrieve.retrieve_command,
        ["--text", TEXT, "--target", "reports", "--backend", "exact"],
    ),
    "retrieve an image": (monai_mgca.apps.retrieve.retrieve_command, ["--image", "{image}"]),
    "retrieve in a folder": (monai_mgca.apps.retrieve.retrieve_command, ["--image", "{image}", "--images", "{folder}"]),
    "ground": (monai_mgca.apps.ground.ground_command, ["--image", "{image}", "--text", TEXT]),
    "ground by tokens": (
        monai_mgca.apps.ground.ground_command,
        ["--image", "{image}", "--text", TEXT, "--method", "token"],
    ),
    "ground and measure": (
        monai_mgca.apps.ground.ground_command,
        ["--evaluate", "--reference", "4", "--overlays", "3"],
    ),
    "report": (monai_mgca.apps.card.card_command, []),
    "probe": (
        monai_mgca.apps.probe.probe_command,
        ["--fractions", "1", "0.5", "--seeds", "2", "--classes", "opacity", "effusion"],
    ),
}


def run(name, bundle, studies, output):
    """A command on the studies: its exit code."""
    module, options = COMMANDS[name]
    image = next(path for path in sorted((studies / "images").iterdir()) if path.suffix == ".dcm")
    options = [option.format(image=image, folder=studies / "images") for option in options]
    weights = "model.pt" if name == "probe" else "model_pretrain.pt"
    base = ["--checkpoint", str(bundle.path("models", weights))]
    base += [] if "--images" in options else ["--dataset-dir", str(studies)]
    output = output / {"report": "page.html", "probe": "probe.csv"}.get(name, "out")
    if name == "report":
        base += ["--prompts", str(bundle.path("configs", "prompts.json")), "--logdir", str(bundle.path("eval"))]
    return module.main([*base, *options, "--output", str(output)])


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command(bundle, studies, holding, all_output, tmp_path, name):
    assert run(name, bundle, studies, tmp_path) == 0
    assert holding(all_output()) == []
    assert holding(tmp_path) == []


@pytest.mark.parametrize(("name", "option"), [("retrieve reports", "--with-text"), ("report", "--with-text")])
def test_reports_are_there_when_asked_for(bundle, studies, canaries, all_output, tmp_path, name, option):
    """And patients' ids are not."""
    module, options = COMMANDS[name]
    try:
        COMMANDS[name] = module, [*options, option]
        assert run(name, bundle, studies, tmp_path) == 0
    finally:
        COMMANDS[name] = module, options
    text = all_output() + "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert canaries[0] in text
    assert canaries[1] not in text


def harm(data, kind):
    """Break the data of a command in one of the ways whose error must not quote a report; the file to be named."""
    path = data / "datalist.json"
    document = json.loads(path.read_text())
    entry = document["validation"][0]
    image = data / entry["image"]
    if kind == "missing image":
        image.unlink()
    elif kind == "broken image":
        image.write_bytes(image.read_bytes()[:-100])
    elif kind == "no report":
        entry["report"] = "  "
    elif kind == "a report of another type":
        entry["report"] = {"text": [entry["report"]], "of": entry["patient"]}
    elif kind == "labels that are text":
        for each in document["validation"]:
            each["labels"], each["box_labels"], each["boxes"] = each["report"], each["report"], [each["report"]]
    path.write_text(json.dumps(document))
    if kind == "broken datalist":
        path.write_text(path.read_text()[:-40])
    return image.name


HARMS = ("missing image", "broken image", "no report", "a report of another type", "labels that are text")


@pytest.mark.parametrize("kind", [*HARMS, "broken datalist"])
@pytest.mark.parametrize("name", ["retrieve", "ground and measure", "report", "probe"])
def test_no_error_of_a_command(bundle, studies, holding, all_output, tmp_path, name, kind):
    data = shutil.copytree(studies, tmp_path / "data")
    harm(data, kind)
    (tmp_path / "out").mkdir()
    try:
        code, error = run(name, bundle, data, tmp_path / "out"), ""
    except Exception as failed:
        code, error = 1, "".join(traceback.format_exception(failed))
    assert holding(all_output() + error) == []
    if kind in ("missing image", "broken datalist"):
        assert code == 2
    if any(path.is_file() for path in (tmp_path / "out").rglob("*")):
        assert holding(tmp_path / "out") == []


@pytest.mark.parametrize("kind", [*HARMS, "broken datalist"])
@pytest.mark.parametrize("task", ["pretraining", *TASKS, "zero_shot"])
def test_no_error_of_a_workflow(bundle, studies, holding, all_output, tmp_path, task, kind):
    data = shutil.copytree(studies, tmp_path / "data")
    harm(data, kind)
    options = {"dataset_dir": str(data), "output_dir": str(tmp_path / "out"), "num_workers": 0}
    error = ""
    try:
        if task == "zero_shot":
            bundle.run("evaluate_zero_shot", kind="infer", bootstrap=5, device="$torch.device('cpu')", **options)
        elif task == "pretraining":
            bundle.run("train", "evaluate", **{**TINY, **options})
        else:
            bundle.run(f"train_{task}", f"evaluate_{task}", **{**TINY, **options})
    except Exception as failed:
        error = "".join(traceback.format_exception(failed)) + str(first_cause(failed))
    assert error or kind not in ("missing image", "broken datalist")
    assert holding(all_output() + error) == []
