# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""``mgca negation`` on the sample, small, and a network with random weights."""

import csv
import json
from pathlib import Path

import pytest
import torch

from monai_mgca.__main__ import main
from monai_mgca.apps.image_text_model import load_pretrained
from monai_mgca.apps.negation.report_versions import compare_versions, report_versions

from ..tiny_pretraining import make_pretraining

PAIRS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs" / "negation.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_pretraining(tmp_path_factory.mktemp("negation"), size=60, seed=5)


def run(made, output, *options):
    base = ["--checkpoint", made / "models" / "model_pretrain.pt", "--dataset-dir", made / "data", "--pairs", PAIRS]
    return main(["negation", *map(str, [*base, "--output", output, *options])])


def test_table_and_picture(made, tmp_path, capsys):
    assert run(made, tmp_path / "out" / "negation.csv", "--section", "training", "--bootstrap", "20") == 0
    printed = capsys.readouterr().out
    with open(tmp_path / "out" / "negation.csv", newline="") as file:
        rows = {row["figure"]: row for row in csv.DictReader(file)}
    for kind in ("sentence_balanced_accuracy", "sentence_auroc", "sentence_precision", "name_precision", "name_auroc"):
        name = rows[f"{kind}_effusion"]
        assert 0 <= float(name["low"]) <= float(name["value"]) <= float(name["high"]) <= 1
    assert 0 < float(rows["report_over_opposite"]["value"]) < 1
    assert float(rows["opposites"]["value"]) < float(rows["sentences"]["value"])
    assert (tmp_path / "out" / "negation.png").stat().st_size > 10_000
    assert "right sentence" in printed
    assert "effusion" in printed
    assert "Of " in printed


def test_what_is_printed_holds_no_word_of_a_report(made, tmp_path, capsys, caplog):
    document = json.loads((made / "data" / "datalist.json").read_text())
    for entry in document["training"]:
        entry["report"] = "There is no zzcanary effusion. " + entry["report"]
        entry["patient"] = f"zzpatient-{entry['patient']}"
    (made / "data" / "canary.json").write_text(json.dumps(document))
    options = ("--datalist", made / "data" / "canary.json", "--section", "training", "--bootstrap", "0")
    assert run(made, tmp_path / "negation.csv", *options) == 0
    printed = capsys.readouterr()
    assert "zz" not in printed.out + printed.err + caplog.text + (tmp_path / "negation.csv").read_text()


def test_without_reports_versions_are_left_out(made, tmp_path, capsys):
    document = json.loads((made / "data" / "datalist.json").read_text())
    del document["training"][0]["report"]
    (made / "data" / "some.json").write_text(json.dumps(document))
    options = ("--datalist", made / "data" / "some.json", "--section", "training", "--bootstrap", "0")
    assert run(made, tmp_path / "negation.csv", *options) == 0
    assert "left out: not every entry has a report" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"effusion": {"positive": ["a", "b"], "negative": ["c"]}}', "finding 'effusion' has 2 texts in 'positive'"),
        ('{"mass": {"positive": ["a"], "negative": ["b"]}}', "has prompts for none of the classes"),
        ("{", "is not JSON"),
    ],
)
def test_wrong_pairs_are_named(made, tmp_path, capsys, content, message):
    (tmp_path / "pairs.json").write_text(content)
    assert run(made, tmp_path / "negation.csv", "--pairs", tmp_path / "pairs.json") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "negation.csv").exists()


def test_a_negative_bootstrap_is_refused(made, tmp_path, capsys):
    assert run(made, tmp_path / "negation.csv", "--bootstrap", "-1") == 2
    assert "--bootstrap must be 0 or more" in capsys.readouterr().err


def test_versions_of_a_report():
    (first, second) = report_versions([["no edema", "clear lungs", "pa view"], ["followup is recommended"]])
    assert first == (0, "edema. clear lungs. pa view", "clear lungs. pa view")
    assert second == (0, "no edema. lungs are not clear. pa view", "no edema. pa view")
    assert report_versions([["no edema"]])[0].omitted == ""


def test_the_nearest_version_is_counted_sentence_by_sentence(made):
    """An image that is its report's own vector is nearest to the report, one that is the opposite's is not."""
    model = load_pretrained(made / "models" / "model_pretrain.pt", device="cpu")
    reports = ["no effusion. the heart is enlarged.", "no pneumothorax."]
    own = model.embed_reports(reports)
    assert compare_versions(model, own, reports)["report_over_opposite"] == 1
    opposite = torch.stack([own[0], model.embed_reports(["pneumothorax."])[0]])
    found = compare_versions(model, opposite, reports)
    assert found["report_over_opposite"] == 0.5
    assert (found["sentences"], found["opposites"]) == (3, 3)
