# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""``mgca outliers``: which images are unlike those of a training, and the score of weights that have none."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from monai_mgca.apps import OutlierDetector, fit_outliers, load_pretrained, write_outliers
from monai_mgca.apps.outliers.outliers_command import main
from monai_mgca.data import load_datalist
from monai_mgca.metrics import fit_outlier_score

from ..tiny_pretraining import make_pretraining


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The sample in data/ and a network with random weights in models/, without a score."""
    return make_pretraining(tmp_path_factory.mktemp("outliers"), size=160, sample_size=160)


@pytest.fixture
def scored(model, tmp_path):
    """The same in a folder of its own, with the score of its training images."""
    shutil.copytree(model, tmp_path / "scored")
    section = {name: load_datalist(model / "data" / "datalist.json", name, model / "data") for name in SECTIONS}
    fit_outliers(tmp_path / "scored" / "models" / "model_pretrain.pt", section["training"], section["validation"])
    return tmp_path / "scored"


SECTIONS = ("training", "validation", "test")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(folder, output, *options):
    return main(["--checkpoint", str(folder / "models" / "model_pretrain.pt"), "--output", str(output), *options])


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class TestScore:
    def test_is_the_distance_of_the_pooled_features(self, model, scored):
        """Of the network that all else is computed with."""
        data = load_datalist(model / "data" / "datalist.json", "training", model / "data")
        held = load_datalist(model / "data" / "datalist.json", "validation", model / "data")
        network = load_pretrained(scored / "models" / "model_pretrain.pt", "cpu")
        with torch.no_grad():
            own, others = (
                torch.cat([network.network.image_encoder(b).pooled for b in network.load_images(images)])
                for images in (data, held)
            )
        wanted = fit_outlier_score(own, others if len(held) >= 20 else None)
        detector = OutlierDetector.load(scored / "models" / "model_pretrain.pt", "cpu")
        assert detector.score.threshold == pytest.approx(wanted.threshold, rel=1e-4)
        torch.testing.assert_close(detector(held), wanted.distances(others), rtol=1e-4, atol=1e-4)

    def test_changes_no_other_file(self, model, scored):
        before, after = content(model / "models"), content(scored / "models")
        assert after.keys() - before.keys() == {"model_outliers.safetensors"}
        assert all(after[name] == before[name] for name in before)

    def test_is_the_same_again(self, model, scored):
        before = content(scored / "models")
        section = {name: load_datalist(model / "data" / "datalist.json", name, model / "data") for name in SECTIONS}
        write_outliers(
            scored / "models" / "model_pretrain.pt", section["training"], section["validation"], "cpu", count=2048
        )
        # weights that do not say what was done to their images are of no training
        assert content(scored / "models") == before
        fit_outliers(scored / "models" / "model_pretrain.pt", section["training"], section["validation"], "cpu")
        assert content(scored / "models") == before


class TestCommand:
    def test_noise_and_white_are_flagged(self, scored, tmp_path, capsys):
        folder = tmp_path / "images"
        shutil.copytree(scored / "data" / "images", folder, ignore=lambda _, names: sorted(names)[30:])
        values = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
        (folder / "other").mkdir()
        Image.fromarray(values).save(folder / "other" / "noise.png")
        assert run(scored, tmp_path / "found.csv", "--images", str(folder)) == 0
        rows = {row["image"]: row for row in rows_of(tmp_path / "found.csv")}
        assert len(rows) == 31
        assert rows["other/noise.png"]["flagged"] == "1"
        flagged = [name for name, row in rows.items() if row["flagged"] == "1"]
        assert len(flagged) < 10
        printed = capsys.readouterr().out
        assert f"{len(flagged)} of 31 images are unlike those of the training" in printed
        assert printed.index("other/noise.png") < printed.index("one in twenty")

    def test_as_on_the_page(self, scored, tmp_path, monkeypatch, capsys):
        """Without options: the bundle's weights and the sample."""
        (scored / "configs").mkdir()
        (scored / "configs" / "metadata.json").touch()
        (scored / "data").rename(scored / "sample")
        (scored / "data").mkdir()
        (scored / "sample").rename(scored / "data" / "sample")
        shutil.copytree(scored / "data" / "sample" / "images", scored / "radiographs")
        monkeypatch.chdir(scored)
        assert main([]) == 0
        rows = rows_of(scored / "eval" / "outliers.csv")
        assert len(rows) == 160
        assert f"{sum(row['flagged'] == '1' for row in rows)} of 160 images" in capsys.readouterr().out
        assert main(["--images", "radiographs", "--output", "outliers.csv"]) == 0
        assert len(rows_of(scored / "outliers.csv")) == len(list((scored / "radiographs").iterdir()))
        (scored / "data" / "sample").rename(scored / "dicom")
        before = (scored / "models" / "model_outliers.safetensors").read_bytes()
        (scored / "models" / "model_outliers.safetensors").unlink()
        command = "--fit --dataset-dir dicom --checkpoint models/model_pretrain.pt"
        assert main(command.split()) == 0
        assert (scored / "models" / "model_outliers.safetensors").read_bytes() == before

    def test_a_datalist(self, scored, tmp_path, capsys):
        options = ("--dataset-dir", str(scored / "data"), "--sections", "validation")
        assert run(scored, tmp_path / "found.csv", *options) == 0
        data = load_datalist(scored / "data" / "datalist.json", "validation", scored / "data")
        rows = rows_of(tmp_path / "found.csv")
        assert [str(scored / "data" / row["image"]) for row in rows] == [entry["image"] for entry in data]
        distances = OutlierDetector.load(scored / "models" / "model_pretrain.pt")(data)
        np.testing.assert_allclose([float(row["distance"]) for row in rows], distances, atol=1e-3)

    def test_the_first_twenty_are_printed(self, scored, tmp_path, capsys):
        folder = tmp_path / "images"
        folder.mkdir()
        for number in range(25):
            values = np.random.default_rng(number).integers(0, 255, (64, 64), dtype=np.uint8)
            Image.fromarray(values).save(folder / f"{number}.png")
        assert run(scored, tmp_path / "found.csv", "--images", str(folder)) == 0
        printed = capsys.readouterr().out
        assert "25 of 25" in printed
        assert printed.count(".png") == 20
        assert f"... and 5 more in {tmp_path / 'found.csv'}" in printed

    def test_fit(self, model, scored, tmp_path, capsys):
        """What the command fits is what a training keeps."""
        shutil.copytree(model / "models", tmp_path / "models")
        data = ("--dataset-dir", str(model / "data"))
        assert run(tmp_path, tmp_path / "found.csv", *data) == 2
        assert "mgca outliers --fit" in capsys.readouterr().err
        assert run(tmp_path, tmp_path / "found.csv", "--fit", *data) == 0
        assert not (tmp_path / "found.csv").exists()
        name = "model_outliers.safetensors"
        assert (tmp_path / "models" / name).read_bytes() == (scored / "models" / name).read_bytes()
        image = sorted((model / "data" / "images").iterdir())[0]
        assert run(tmp_path, tmp_path / "found.csv", "--fit", *data, "--image", str(image)) == 0
        assert [row["image"] for row in rows_of(tmp_path / "found.csv")] == [str(image)]

    def test_wrong_input(self, scored, tmp_path, capsys):
        output = tmp_path / "found.csv"
        assert run(scored, output, "--image", "none.png") == 2
        assert "There is no image none.png" in capsys.readouterr().err
        assert run(tmp_path / "nowhere", output) == 2
        assert "There is no checkpoint file" in capsys.readouterr().err
        (scored / "models" / "model_outliers.safetensors").write_bytes(b"")
        assert run(scored, output, "--images", str(scored / "data" / "images")) == 2
        assert "is damaged" in capsys.readouterr().err


class TestVolumes:
    def test_fit_and_list(self, volume_model, tmp_path, capsys):
        shutil.copytree(volume_model / "models", tmp_path / "models")
        data = ("--dataset-dir", str(volume_model / "data"))
        assert run(tmp_path, tmp_path / "found.csv", "--fit", *data) == 0
        assert run(tmp_path, tmp_path / "found.csv", *data, "--sections", "test") == 0
        rows = rows_of(tmp_path / "found.csv")
        count = len(load_datalist(volume_model / "data" / "datalist.json", "test", volume_model / "data"))
        assert len(rows) == count
        assert all(float(row["distance"]) > 0 for row in rows)
