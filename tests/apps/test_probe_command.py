# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from monai_mgca.apps import choose_data as command
from monai_mgca.apps.probe.probe_command import main
from monai_mgca.networks import create_image_encoder
from monai_mgca.utils import write_settings

CLASSES = ["bright", "rare thing"]


def make_data(folder, counts=(("training", 60), ("validation", 20)), exclusive=False):
    """Images whose brightness is the first label; few have the second. Three images a patient."""
    generator = np.random.default_rng(0)
    document = {"classes": CLASSES}
    for section, count in counts:
        document[section] = []
        for i in range(count):
            bright, rare = i % 2, int(i % 15 == 3)
            pixels = np.clip(generator.normal(90 + 70 * bright, 20, (50, 60)) + 60 * rare, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{section}{i}.png")
            labels = [bright, 1 - bright] if exclusive else [bright, rare]
            entry = {"image": f"{section}{i}.png", "patient": f"{section}{i // 3}", "labels": labels}
            document[section].append(entry)
    (folder / "datalist.json").write_text(json.dumps(document))
    return document


@pytest.fixture
def data(tmp_path):
    make_data(tmp_path)
    return tmp_path


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(7)
    path = tmp_path / "models" / "model.pt"
    path.parent.mkdir()
    torch.save(create_image_encoder("resnet_compact").state_dict(), path)
    write_settings(path.with_suffix(".json"), {"image_encoder": "resnet_compact", "image_size": 64, "in_channels": 1})
    return path


def rows_of(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_cell_is_there(data, checkpoint, capsys):
    output = data / "out" / "probe.csv"
    options = ["--checkpoint", str(checkpoint), "random", "--fractions", "1", "0.2", "--seeds", "2"]
    assert main(["--dataset-dir", str(data), *options, "--output", str(output)]) == 0
    rows = rows_of(output)
    names = [*CLASSES, "mean"]
    wanted = [(str(e), f, s, n) for e in (checkpoint, "random") for s in "01" for f in ("1.0", "0.2") for n in names]
    assert [(row["encoder"], row["fraction"], row["seed"], row["class"]) for row in rows] == wanted
    assert {row["images"] for row in rows if row["fraction"] == "1.0"} == {"60"}
    assert {row["images"] for row in rows if row["fraction"] == "0.2"} == {"12"}, "four patients of twenty"
    cells = defaultdict(list)
    for row in rows:
        assert row["note"] == ""
        cells[row["encoder"], row["fraction"], row["seed"]].append(float(row["auroc"]))
    for *classes, mean in cells.values():
        assert mean == pytest.approx(np.mean(classes), abs=1e-5)
    assert min(float(row["auroc"]) for row in rows if row["class"] == "bright" and row["fraction"] == "1.0") > 0.9
    assert len({tuple(values) for key, values in cells.items() if key[0] == "random"}) > 2, "others for each seed"
    printed = capsys.readouterr().out
    values = [cells[str(checkpoint), "0.2", seed][2] for seed in "01"]
    low, high = np.clip(stats.t.interval(0.95, 1, np.mean(values), stats.sem(values)), 0, 1)
    assert f"{np.mean(values):.3f} [{low:.3f}, {high:.3f}]" in printed
    assert "AUROC on 20 images (validation)" in printed
    assert str(output) in printed
    assert sorted(path.name for path in output.parent.iterdir()) == ["probe.csv", "probe.png"]
    with Image.open(output.with_suffix(".png")) as picture:
        assert picture.width > 300


def test_a_cell_without_a_positive_is_skipped_and_said(data, capsys):
    document = json.loads((data / "datalist.json").read_text())
    for entry in document["training"]:
        entry["labels"][1] = None
    document["training"][0]["labels"][1] = 1
    (data / "datalist.json").write_text(json.dumps(document))
    options = ["--checkpoint", "random", "--encoder", "resnet_compact", "--image-size", "64", "--seeds", "1"]
    output = data / "probe.csv"
    assert main(["--dataset-dir", str(data), *options, "--fractions", "1", "--output", str(output)]) == 0
    bright, rare, mean = rows_of(output)
    assert float(bright["auroc"]) > 0.8
    assert bright["note"] == ""
    assert rare["auroc"] == ""
    assert rare["note"] == "skipped: no negative in training"
    assert mean["auroc"] == ""
    assert "skipped" in mean["note"]
    printed = capsys.readouterr().out
    assert "rare thing: skipped: no negative in training" in printed


def test_multiclass_has_an_accuracy(tmp_path, checkpoint):
    make_data(tmp_path, exclusive=True)
    options = ["--checkpoint", str(checkpoint), "--fractions", "1", "--seeds", "1", "--label-mode", "multiclass"]
    output = tmp_path / "probe.csv"
    assert main(["--dataset-dir", str(tmp_path), *options, "--output", str(output)]) == 0
    assert float(rows_of(output)[-1]["accuracy"]) > 0.9


def test_uncertain_labels_follow_the_policy(data, checkpoint):
    document = json.loads((data / "datalist.json").read_text())
    for entry in document["validation"][:6]:
        entry["labels"] = [-1, -1]
    (data / "datalist.json").write_text(json.dumps(document))
    found = {}
    for policy in ("ignore", "zeros", "ones"):
        options = ["--checkpoint", str(checkpoint), "--fractions", "1", "--seeds", "1", "--uncertain", policy]
        assert main(["--dataset-dir", str(data), *options, "--output", str(data / "p.csv")]) == 0
        found[policy] = float(rows_of(data / "p.csv")[0]["auroc"])
    assert len(set(found.values())) == 3
    assert found["ignore"] > 0.9


def test_pixels_are_32_by_32(data):
    options = ["--checkpoint", "pixels", "--fractions", "1", "--seeds", "1", "--output", str(data / "p.csv")]
    assert main(["--dataset-dir", str(data), *options]) == 0
    bright, _, _ = rows_of(data / "p.csv")
    assert float(bright["auroc"]) > 0.9, "brightness is all in the pixels"


def test_runs_on_the_sample(tmp_path, monkeypatch, capsys, checkpoint):
    monkeypatch.chdir(tmp_path)
    options = ["--sample-size", "48", "--image-size", "64", "--fractions", "1", "--seeds", "1"]
    assert main(options) == 0
    assert {row["encoder"] for row in rows_of("probe.csv")} == {"./models/model.pt", "random", "pixels"}
    assert "cardiomegaly" in capsys.readouterr().out


def test_what_was_learned_from_the_sample_says_nothing_of_own_data(data, checkpoint, caplog):
    write_settings(checkpoint.with_suffix(".json"), {"image_encoder": "resnet_compact", "use_sample": True})
    options = ["--checkpoint", str(checkpoint), "--image-size", "64", "--seeds", "1", "--fractions", "1"]
    for own in (["--dataset-dir", str(data)], ["--datalist", str(data / "datalist.json")]):
        caplog.clear()
        command._warn.cache_clear()
        assert main([*options, *own, "--output", str(data / "probe.csv")]) == 0
        assert caplog.text.count("was learned from the built-in sample") == 1
    sample = json.loads((data / "datalist.json").read_text()) | {"source": "sample"}
    (data / "datalist.json").write_text(json.dumps(sample))
    caplog.clear()
    command._warn.cache_clear()
    assert main([*options, *own, "--output", str(data / "probe.csv")]) == 0
    assert "learned from" not in caplog.text


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--checkpoint", "none.pt", "--encoder", "resnet_compact"], "There is no checkpoint file 'none.pt'"),
            (["--checkpoint", "none.pt"], "There is no checkpoint file 'none.pt'"),
            (["--checkpoint", "random"], "--encoder"),
            (["--datalist", "none.json"], "no such datalist"),
            (["--classes", "brigt"], "no class brigt"),
            (["--label-mode", "multiclass"], "exactly one class"),
            (["--fractions", "2"], "label_fraction"),
        ],
    )
    def test_input(self, data, checkpoint, options, words, capsys):
        options = ["--dataset-dir", str(data), "--checkpoint", str(checkpoint), "--image-size", "64", *options]
        assert main([*options, "--output", str(data / "probe.csv")]) == 2
        assert words in capsys.readouterr().err
        assert not (data / "probe.csv").exists()

    def test_nothing_is_drawn_for_a_checkpoint_that_is_not_there(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert main(["--checkpoint", "none.pt"]) == 2
        assert not list(tmp_path.iterdir())

    def test_a_broken_image_is_named(self, data, checkpoint, capsys):
        (data / "training3.png").write_bytes(b"no image")
        options = ["--dataset-dir", str(data), "--checkpoint", str(checkpoint), "--output", str(data / "probe.csv")]
        assert main(options) == 2
        assert "training3.png" in capsys.readouterr().err
