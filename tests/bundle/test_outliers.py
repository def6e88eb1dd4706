# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A pretraining keeps an outlier score beside its weights, which changes nothing else; inference reports by it."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from monai_mgca.apps import OutlierDetector, fit_outliers
from monai_mgca.data import load_datalist
from monai_mgca.weights import outlier_path


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def images(sample, tmp_path):
    """Five radiographs of the sample, and noise."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted((sample / "images").iterdir())[:5]:
        shutil.copy(path, folder)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(folder / "noise.png")
    return folder


@pytest.fixture
def bundle(trained, new_bundle):
    """A bundle with the models of the training, which a test may change."""
    made = new_bundle()
    made.take_models(trained.bundle)
    return made


class TestTraining:
    def test_is_of_its_images(self, trained, bundle):
        checkpoint = bundle.path("models", "model_pretrain.pt")
        parser, written = trained.workflow.parser, outlier_path(checkpoint).read_bytes()
        data, held_out = (parser.get_parsed_content(f"{part}#data") for part in ("train", "validate"))
        fit_outliers(checkpoint, data, held_out, "cpu")
        assert outlier_path(checkpoint).read_bytes() == written

    def test_off_is_the_same_but_for_the_file(self, new_bundle):
        with_, without = new_bundle(), new_bundle()
        with_.run("train", outlier_images=2048)
        without.run("train", outlier_images=0)
        names = {path.name for path in without.path("models").iterdir() if path.is_file()}
        both = {path.name for path in with_.path("models").iterdir() if path.is_file()}
        assert both - names == {"model_outliers.safetensors"}
        for name in ("model.pt", "model_pretrain.pt", "model_pretrain_reference.safetensors"):
            assert with_.path("models", name).read_bytes() == without.path("models", name).read_bytes()

    def test_so_many_images_evenly(self, bundle, sample):
        """A third of them is every third."""
        checkpoint = bundle.path("models", "model_pretrain.pt")
        data = load_datalist(sample / "datalist.json", "training", sample)
        count = len(data) // 3
        data = data[: 3 * count]
        some, third = fit_outliers(checkpoint, data, count=count), fit_outliers(checkpoint, data[::3])
        assert torch.equal(some.mean, third.mean)
        assert some.threshold == third.threshold

    def test_of_few_images_none_is_kept(self, new_bundle, canary_data, captured_logs):
        bundle = new_bundle()
        with captured_logs() as stream:
            bundle.run("train", dataset_dir=str(canary_data), outlier_images=2048)
        assert "No outlier score is kept: An outlier score takes 10 images" in stream.getvalue()
        assert not bundle.path("models", "model_outliers.safetensors").exists()


class TestInference:
    def test_table(self, bundle, images, captured_logs):
        with captured_logs() as stream:
            bundle.run("inference", kind="infer", dataset_dir=str(images), num_workers=0, batch_size=4)
        rows = rows_of(bundle.path("eval", "outliers.csv"))
        detector = OutlierDetector.load(bundle.path("models", "model.pt"), "cpu")
        wanted = detector([row["image"] for row in rows])
        np.testing.assert_allclose([float(row["distance"]) for row in rows], wanted, atol=2e-3)
        assert [row["flagged"] == "1" for row in rows] == detector.score.flags(wanted).tolist()
        assert {row["image"]: row["flagged"] for row in rows}[str(images / "noise.png")] == "1"
        flagged = sum(row["flagged"] == "1" for row in rows)
        assert f"{flagged} of 6 images are unlike those of the training" in stream.getvalue()

    def test_embeddings_are_the_same_without(self, bundle, images):
        options = {"kind": "infer", "dataset_dir": str(images), "num_workers": 0}
        bundle.run("inference", **options)
        before = bundle.path("eval", "embeddings.csv").read_bytes()
        bundle.path("models", "model_outliers.safetensors").unlink()
        bundle.run("inference", **options)
        assert bundle.path("eval", "embeddings.csv").read_bytes() == before
        assert not bundle.path("eval", "outliers.csv").exists()  # the earlier table is of the score that has gone

    def test_of_other_weights_is_not_used(self, bundle, images, captured_logs):
        with captured_logs() as stream:
            options = {"dataset_dir": str(images), "num_workers": 0, "load_pretrain": False}
            bundle.run("inference", kind="infer", **options)
        assert "is of other weights than model.pt, and is not used" in stream.getvalue()
        assert not bundle.path("eval", "outliers.csv").exists()
