# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from monai_mgca.apps import ZeroShotClassifier, load_pretrained, read_prompts
from monai_mgca.apps.zero_shot.prompts import number_of_texts
from monai_mgca.utils import DataError
from monai_mgca.utils.errors import first_cause
from monai_mgca.weights import write_calibration

CLASSES = ["opacity", "effusion", "pneumothorax", "cardiomegaly", "nodule", "device"]
SMALL = {"bootstrap": 20, "num_workers": 0, "device": "$torch.device('cpu')"}


@pytest.fixture(scope="module")
def pretrained_bundle(new_bundle, trained):
    bundle = new_bundle()
    bundle.take_models(trained.bundle)
    return bundle


@pytest.fixture(scope="module")
def evaluated(pretrained_bundle, captured_logs):
    """The bundle after the evaluation of the sample's validation section, the workflow and what it logged."""
    with captured_logs() as stream:
        workflow = pretrained_bundle.run(
            "evaluate_zero_shot", kind="infer", dataset_dir=str(pretrained_bundle.data), **SMALL
        )
    return pretrained_bundle, workflow, stream.getvalue()


def read_table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_table_and_figures(evaluated):
    bundle, workflow, log = evaluated
    rows = read_table(bundle.path("eval", "zero_shot", "probabilities.csv"))
    entries = json.loads((bundle.data / "datalist.json").read_text())["validation"]
    assert [row["image"] for row in rows] == [str(bundle.data / entry["image"]) for entry in entries]
    assert list(rows[0]) == ["image", *CLASSES]
    model = load_pretrained(bundle.path("models", "model_pretrain.pt"), "cpu")
    classify = ZeroShotClassifier(model, bundle.path("configs", "prompts.json"), CLASSES)
    expected = classify.classify(model.embed_images([row["image"] for row in rows])).numpy()
    table = np.array([[float(row[name]) for name in CLASSES] for row in rows])
    assert table == pytest.approx(expected, abs=1e-5)

    metrics = workflow.evaluator.state.metrics
    labels = np.array([entry["labels"] for entry in entries])
    aurocs = []
    for i, name in enumerate(CLASSES):
        if len(set(labels[:, i])) == 1:
            assert math.isnan(metrics[f"val_auroc_{name}"])
            continue
        aurocs.append(roc_auc_score(labels[:, i], expected[:, i]))
        assert metrics[f"val_auroc_{name}"] == pytest.approx(aurocs[-1])
        assert f"{metrics[f'val_auroc_{name}']:.4f} ({metrics[f'val_auroc_{name}_low']:.4f} to " in log
    assert metrics["val_mean_auroc"] == pytest.approx(np.mean(aurocs))
    saved = bundle.path("eval", "zero_shot", "metrics.csv").read_text()
    assert "val_mean_auroc_low" in saved
    assert "val_ece_effusion" in saved


def test_calibrated(evaluated, new_bundle, trained):
    first, workflow, _ = evaluated
    bundle = new_bundle()
    bundle.take_models(trained.bundle)
    texts = number_of_texts(read_prompts(bundle.path("configs", "prompts.json"))["effusion"], 0.07)
    numbers = {"slope": 1.0, "intercept": -2.0, "threshold": 0.2, "texts": texts}
    write_calibration(bundle.path("models", "model_pretrain.pt"), {"findings": {"what it is called": numbers}})
    run = {"dataset_dir": str(bundle.data), **SMALL}
    plain = read_table(first.path("eval", "zero_shot", "probabilities.csv"))
    bundle.run("evaluate_zero_shot", kind="infer", calibrated="false", **run)
    assert read_table(bundle.path("eval", "zero_shot", "probabilities.csv")) == plain, "to the last digit"
    metrics = bundle.run("evaluate_zero_shot", kind="infer", **run).evaluator.state.metrics
    rows = read_table(bundle.path("eval", "zero_shot", "probabilities.csv"))
    assert list(rows[0]) == ["image", *CLASSES, "effusion_present"]
    found, before = (np.array([float(row["effusion"]) for row in table]) for table in (rows, plain))
    assert found == pytest.approx(1 / (1 + np.exp(2 - np.log(before / (1 - before)))), abs=1e-5)
    assert [row["effusion_present"] for row in rows] == [str(int(value >= 0.2)) for value in found]
    assert [row["opacity"] for row in rows] == [row["opacity"] for row in plain]
    entries = json.loads((bundle.data / "datalist.json").read_text())["validation"]
    label = np.array([entry["labels"][CLASSES.index("effusion")] for entry in entries])
    if len(set(label)) > 1:
        wanted = np.mean([((found >= 0.2) == label)[label == value].mean() for value in (0, 1)])
        assert metrics["val_balanced_accuracy_effusion"] == pytest.approx(wanted)
    assert metrics["val_auroc_effusion"] == pytest.approx(
        workflow.evaluator.state.metrics["val_auroc_effusion"], nan_ok=True
    )


def test_properties(evaluated):
    assert evaluated[1].check_properties() == []


def test_own_prompts_and_classes(pretrained_bundle, tmp_path):
    prompts = tmp_path / "own.json"
    sides = {"positive": ["enlarged heart"], "negative": ["normal heart"]}
    prompts.write_text(json.dumps({"big heart": {"names": ["cardiomegaly"], **sides}}))
    workflow = pretrained_bundle.run(
        "evaluate_zero_shot",
        kind="infer",
        dataset_dir=str(pretrained_bundle.data),
        prompts=str(prompts),
        section="test",
        output_dir=str(tmp_path / "out"),
        **SMALL,
    )
    rows = read_table(tmp_path / "out" / "probabilities.csv")
    assert list(rows[0]) == ["image", "cardiomegaly"]
    assert len(rows) == len(json.loads((pretrained_bundle.data / "datalist.json").read_text())["test"])
    assert "val_auroc_effusion" not in workflow.evaluator.state.metrics


def test_unknown_labels_are_left_out(pretrained_bundle, tmp_path):
    document = json.loads((pretrained_bundle.data / "datalist.json").read_text())
    entries = document["validation"] = document.pop("training")[:8]
    for entry, heart, fluid in zip(entries, [1, 0, -1, None, 1, 0, 0, -1], [-1] * 4 + [None] * 4, strict=True):
        entry["labels"] = [0, fluid, 0, heart, 0, 0]
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps(document))
    run = {"dataset_dir": str(pretrained_bundle.data), "data_list_file_path": str(path), **SMALL}
    workflow = pretrained_bundle.run("evaluate_zero_shot", kind="infer", output_dir=str(tmp_path), **run)
    metrics = workflow.evaluator.state.metrics
    hearts = [float(row["cardiomegaly"]) for row in read_table(tmp_path / "probabilities.csv")]
    known = [0, 1, 4, 5, 6]
    expected = roc_auc_score([1, 0, 1, 0, 0], [hearts[i] for i in known])
    assert metrics["val_auroc_cardiomegaly"] == pytest.approx(expected)
    assert math.isnan(metrics["val_auroc_effusion"])


def test_random_weights(pretrained_bundle):
    def network(load):
        workflow = pretrained_bundle.workflow(
            "evaluate_zero_shot", kind="infer", dataset_dir=str(pretrained_bundle.data), load_pretrain=load, **SMALL
        )
        workflow.initialize()
        return next(workflow.network_def.parameters()).detach()

    weights = torch.load(pretrained_bundle.path("models", "model_pretrain.pt"), weights_only=True)
    first = next(value for key, value in weights.items() if key.startswith("image_encoder."))
    assert torch.equal(network("true"), first)
    assert not torch.equal(network("false"), first)


@pytest.mark.parametrize(
    ("document", "options", "message"),
    [
        ({"mass": {"positive": ["nodule"], "negative": ["no nodule"]}}, {}, "prompts for none of the classes opacity"),
        ({"nodule": {"positive": ["nodule"]}}, {}, "finding 'nodule' has no list 'negative'"),
        (
            {"nodule": {"positive": ["nodule"], "negative": ["no nodule"]}},
            {"classes": ["nodule", "device"]},
            "the class 'device' has no prompts",
        ),
        ({"nodule": {"positive": ["nodule"], "negative": ["qqq"]}}, {}, "finding 'nodule': .*knows no word of 'qqq'"),
    ],
)
def test_bad_prompts(pretrained_bundle, tmp_path, document, options, message):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    run = {"dataset_dir": str(pretrained_bundle.data), "prompts": str(path), **SMALL, **options}
    with pytest.raises(RuntimeError) as error:
        pretrained_bundle.run("evaluate_zero_shot", kind="infer", **run)
    cause = first_cause(error.value)
    with pytest.raises(DataError, match=message):
        raise cause
    assert str(path) in str(cause)
