# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""``mgca calibrate`` on a tiny pretraining and a tiny classifier, and what uses the numbers that it writes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_mgca.__main__ import main
from monai_mgca.apps import ZeroShotClassifier, load_pretrained
from monai_mgca.networks import create_classifier
from monai_mgca.transforms import calibrate
from monai_mgca.utils import write_settings
from monai_mgca.weights import read_calibration

from ..tiny_pretraining import make_pretraining

PROMPTS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs" / "prompts.json"
CLASSES = ["Cardiomegaly", "effusion", "mass", "nodule"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny pretraining; 60 images of 30 patients, dark and bright; weights of a classifier of random features."""
    folder = make_pretraining(tmp_path_factory.mktemp("calibrate"))
    document = {"classes": CLASSES, "validation": []}
    generator = np.random.default_rng(0)
    (folder / "images").mkdir()
    for i in range(60):
        pixels = np.clip(generator.normal(60 + 2 * i, 20, (60, 64)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        bright = int(i + generator.normal(0, 20) > 30)
        labels = [bright, 1 - bright, None, int(i > 55)]
        labels[0] = None if i == 7 else -1 if i == 8 else labels[0]
        document["validation"].append({"image": f"images/{i}.png", "patient": f"secret-{i // 2}", "labels": labels})
    (folder / "datalist.json").write_text(json.dumps(document))
    torch.manual_seed(0)
    for name, mode, classes in (("", "multilabel", CLASSES), ("_exclusive", "multiclass", CLASSES[:2])):
        path = folder / "models" / f"model{name}_classification.pt"
        torch.save(create_classifier("resnet_tiny", len(classes), 56).state_dict(), path)
        settings = {"image_encoder": "resnet_tiny", "image_size": 56, "in_channels": 1, "spatial_dims": 2}
        write_settings(path.with_suffix(".json"), {**settings, "classes": classes, "label_mode": mode})
    return folder


@pytest.fixture
def place(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(place, *options, weights="model_pretrain.pt"):
    base = ["--checkpoint", place / "models" / weights, "--dataset-dir", place, "--prompts", PROMPTS]
    return main(["calibrate", *map(str, [*base, "--output", place / "out" / "table.csv", *options])])


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def columns(place, calibrated=True, **options):
    model = load_pretrained(place / "models" / "model_pretrain.pt", "cpu")
    classify = ZeroShotClassifier(model, PROMPTS, ["cardiomegaly", "effusion"], calibrated=calibrated, **options)
    images = [place / "images" / f"{i}.png" for i in range(60)]
    return classify, classify.classify(model.embed_images(images)).double().numpy()


class TestZeroShot:
    @pytest.fixture(scope="class")
    def fitted(self, made, tmp_path_factory):
        """The pretraining, once calibrated, and what was printed."""
        place = tmp_path_factory.mktemp("fitted")
        shutil.copytree(made, place, dirs_exist_ok=True)
        before = columns(place)[1]
        assert run(place, "--classes", *CLASSES[:2], CLASSES[3], "--method", "isotonic") == 0
        return place, before

    def test_numbers_table_and_picture(self, fitted):
        place, _ = fitted
        found = read_calibration(place / "models" / "model_pretrain.pt")
        assert {key: found[key] for key in ("method", "section", "point")} == {
            "method": "isotonic",
            "section": "validation",
            "point": "youden",
        }
        assert list(found["findings"]) == CLASSES[:2]
        heart = found["findings"]["Cardiomegaly"]
        assert heart["positives"] + heart["negatives"] == 58, "unknown and uncertain labels are left out"
        first, second, third = rows_of(place / "out" / "table.csv")
        assert (first["finding"], second["finding"], third["finding"]) == (*CLASSES[:2], "nodule")
        assert third["note"] == "4 images with it and 56 without, and 10 of each are needed"
        assert float(first["threshold"]) == pytest.approx(heart["threshold"], abs=1e-6)
        assert 0 <= float(first["sensitivity_low"]) <= float(first["sensitivity"]) <= float(first["sensitivity_high"])
        with Image.open(place / "out" / "table.png") as picture:
            assert picture.width > 300

    def test_is_used_by_the_classifier_and_can_be_left_out(self, fitted):
        place, before = fitted
        findings = read_calibration(place / "models" / "model_pretrain.pt")["findings"]
        classify, after = columns(place)
        for column, name in enumerate(CLASSES[:2]):
            assert after[:, column] == pytest.approx(calibrate(before[:, column], findings[name]), abs=1e-6)
        assert classify.thresholds == {n.lower(): findings[n]["threshold"] for n in CLASSES[:2]}
        classify, plain = columns(place, calibrated=False)
        assert classify.thresholds == {}
        assert np.array_equal(plain, before), "to the bit"

    def test_is_of_these_texts_and_this_temperature(self, fitted, tmp_path, caplog):
        place, _ = fitted
        caplog.set_level("INFO")
        assert columns(place, temperature=0.1)[0].thresholds == {}
        assert "at another temperature: cardiomegaly, effusion" in caplog.text
        document = json.loads(PROMPTS.read_text())
        document["effusion"]["positive"].append("effusion")
        (tmp_path / "own.json").write_text(json.dumps(document))
        model = load_pretrained(place / "models" / "model_pretrain.pt", "cpu")
        classify = ZeroShotClassifier(model, tmp_path / "own.json", ["effusion", "cardiomegaly"])
        assert list(classify.thresholds) == ["cardiomegaly"]
        assert load_pretrained(place / "models" / "model_pretrain.pt", "cpu", random=True).calibration is None

    def test_is_used_by_the_command(self, fitted, tmp_path, capsys):
        place, before = fitted
        base = ["zero-shot", "--checkpoint", place / "models/model_pretrain.pt", "--prompts", PROMPTS, "--image"]
        base += [place / "images" / "3.png", "--classes", "effusion", "nodule", "--output", tmp_path / "found.csv"]
        assert main([*map(str, base)]) == 0
        (row,) = rows_of(tmp_path / "found.csv")
        numbers = read_calibration(place / "models" / "model_pretrain.pt")["findings"]["effusion"]
        value = calibrate(before[3:4, 1], numbers)[0]
        assert float(row["effusion"]) == pytest.approx(value, abs=1e-5)
        assert row["effusion_present"] == str(int(value >= numbers["threshold"]))
        assert list(row) == ["image", "effusion", "nodule", "effusion_present"]
        printed = capsys.readouterr().out
        assert f"present: effusion from {numbers['threshold']:.3f} on" in printed
        assert "Of nodule 0.5 is as near" in printed
        assert main([*map(str, base), "--uncalibrated"]) == 0
        (row,) = rows_of(tmp_path / "found.csv")
        assert list(row) == ["image", "effusion", "nodule"]
        assert float(row["effusion"]) == pytest.approx(before[3, 1], abs=1e-5)

    def test_is_on_the_card(self, fitted, tmp_path):
        place, _ = fitted
        base = ["card", "--checkpoint", place / "models/model_pretrain.pt", "--dataset-dir", place / "data"]
        base += ["--prompts", PROMPTS, "--section", "training", "--limit", 8, "--output", tmp_path / "card.html"]
        assert main([*map(str, base)]) == 0
        _, _, table = (tmp_path / "card.html").read_text().partition("<th>calibration error</th>")
        numbers = read_calibration(place / "models" / "model_pretrain.pt")["findings"]["effusion"]
        assert f"<td>{numbers['threshold']:.3f}</td>" in table.partition("</table>")[0]

    def test_weights_stay_and_nobody_is_named(self, fitted, place, capsys, caplog):
        weights = place / "models" / "model_pretrain.pt"
        before = weights.read_bytes()
        caplog.set_level("DEBUG")
        assert run(place) == 0
        assert weights.read_bytes() == before
        printed = capsys.readouterr()
        everything = printed.out + printed.err + caplog.text + (place / "out/table.csv").read_text()
        assert "secret" not in everything + (place / "models" / "model_pretrain_calibration.json").read_text()
        assert "not calibrated: nodule: 4 images with it and 56 without" in printed.out
        assert "Fitted on 60 images (validation) by platt" in printed.out


class TestClassification:
    def test_as_inference_computes_it(self, place):
        from monai.bundle import ConfigWorkflow

        weights, config = (
            place / "models" / "model_classification.pt",
            PROMPTS.with_name("inference_classification.json"),
        )
        options = {"bundle_root": str(place), "dataset_dir": str(place / "images"), "num_workers": 0, "batch_size": 60}

        def infer(**more):
            workflow = ConfigWorkflow(str(config), workflow_type="infer", logging_file=False, **options, **more)
            for step in (workflow.initialize, workflow.run, workflow.finalize):
                step()
            table = rows_of(place / "eval" / "classification" / "probabilities.csv")
            return {Path(row.pop("image")).name: row for row in table}

        before = infer()
        assert run(place, weights=weights.name) == 0
        findings = read_calibration(weights)["findings"]
        assert findings
        assert infer(calibrated=False) == before, "to the last digit"
        after = infer()
        for name, row in after.items():
            for finding in CLASSES:
                value = float(before[name][finding])
                assert float(row[finding]) == pytest.approx(calibrate(value, findings.get(finding)), abs=1e-4)
                if finding in findings and abs(float(row[finding]) - findings[finding]["threshold"]) > 1e-5:
                    assert row[f"{finding}_present"] == str(int(float(row[finding]) >= findings[finding]["threshold"]))
        assert list(row) == [*CLASSES, *(f"{finding}_present" for finding in findings)]

    def test_multiclass_has_one_temperature(self, place):
        document = json.loads((place / "datalist.json").read_text())
        document["classes"] = CLASSES[:2]
        codes = []
        for turn in (0, 1):  # the scores of a random network fall or rise with a class
            for i, entry in enumerate(document["validation"]):
                first = int((i < 30) == turn)
                entry["labels"] = [first, 1 - first]
            (place / "datalist.json").write_text(json.dumps(document))
            codes.append(run(place, weights="model_exclusive_classification.pt"))
        assert sorted(codes) == [0, 2]
        found = read_calibration(place / "models" / "model_exclusive_classification.pt")
        assert found["method"] == "temperature"
        assert len({numbers["temperature"] for numbers in found["findings"].values()}) == 1


@pytest.mark.parametrize(
    ("options", "weights", "words"),
    [
        ([], "none.pt", "There is no checkpoint file"),
        (["--point", "sensitivity=2"], "model_pretrain.pt", "--point: An operating point is youden"),
        (["--fewest", "1"], "model_pretrain.pt", "--fewest must be at least 2, got 1"),
        (["--fewest", "50"], "model_pretrain.pt", "No finding of section 'validation'"),
        (["--classes", "Cardiomegly"], "model_pretrain.pt", "Cardiomegly"),
        (["--classes", "edema"], "model_classification.pt", "has no class edema; it has Cardiomegaly, effusion"),
        (["--temperature", "0"], "model_pretrain.pt", "--temperature must be more than 0"),
        (["--section", "test"], "model_pretrain.pt", "test"),
    ],
)
def test_refused(place, options, weights, words, capsys):
    assert run(place, *options, weights=weights) == 2
    assert words in capsys.readouterr().err
    assert not list(place.rglob("*_calibration.json"))
    assert not (place / "out").exists()


def test_the_commands_of_the_page(made, tmp_path, monkeypatch):
    shutil.copytree(made / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PROMPTS.parent, "configs")
    assert main(["calibrate", "--sample-size", "80", "--fewest", "2"]) == 0
    assert Path("models/model_pretrain_calibration.json").is_file()
    assert Path("eval/calibration/calibration.csv").is_file()
