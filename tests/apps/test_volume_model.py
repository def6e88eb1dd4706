# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The weights of volumes in the commands of radiographs: loading, embedding, zero-shot classification."""

from __future__ import annotations

import csv
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from monai_mgca.__main__ import main
from monai_mgca.apps import PhraseGrounder, ZeroShotClassifier, load_pretrained
from monai_mgca.apps.load_images import find_below
from monai_mgca.data import load_datalist
from monai_mgca.networks import encode_windows
from monai_mgca.transforms import LoadVolume
from monai_mgca.utils import CheckpointError, DataError, read_settings, write_settings

from ..tiny_pretraining import VOLUMES, write_network

PROMPTS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs" / "prompts.json"
CLASSES = ["effusion", "cardiomegaly"]


@pytest.fixture(scope="module")
def model(volume_model):
    return load_pretrained(volume_model / "models" / "model_pretrain.pt", "cpu")


@pytest.fixture(scope="module")
def entries(volume_model):
    return load_datalist(volume_model / "data" / "datalist.json", "training")


class TestModel:
    def test_volumes_are_embedded_as_one_does_by_hand(self, model, entries):
        paths = [entry["image"] for entry in entries[:6]]
        found = model.embed_images(paths)
        for path, vector in zip(paths, found, strict=True):
            image = model.image_transform({"image": path})["image"].as_tensor()
            assert image.shape == (1, 32, 32, 32)
            assert (float(image.min()), float(image.max())) == (-1, pytest.approx(1, abs=0.3))
            with torch.no_grad():
                wanted = model.network.encode_image(image[None])["image_embedding"][0]
            torch.testing.assert_close(vector, wanted, atol=1e-5, rtol=0)
        assert found.std(0).max() > 1e-3, "not one vector for all"

    def test_few_volumes_are_in_memory(self, model, entries, monkeypatch):
        transform, lock, loading, most = model.image_transform, threading.Lock(), [], []

        def watched(item):
            with lock:
                loading.append(item)
                most.append(len(loading))
            time.sleep(0.01)
            made = transform(item)
            with lock:
                loading.remove(item)
            return made

        monkeypatch.setattr(model, "image_transform", watched)
        sizes = [len(batch) for batch in model.load_images(entries)]
        assert max(sizes) == 4
        assert sum(sizes) == len(entries)
        assert max(most) <= 2

    def test_an_entry_says_what_its_file_lacks(self, model, entries, tmp_path):
        image = nibabel.load(entries[0]["image"])
        values = np.asarray(image.dataobj).astype(np.int16) + 1024
        sizes = np.linalg.norm(image.affine[:3, :3], axis=0)
        affine = image.affine @ np.diag([*(1 / sizes), 1])
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "stored.nii.gz")
        stored = {"image": str(tmp_path / "stored.nii.gz")}
        told = {**stored, "rescale": [1, -1024], "spacing": sizes.tolist()}
        wanted, found, without = model.embed_images([entries[0], told, stored])
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
        assert (without - wanted).abs().max() > 1e-3

    def test_random_weights(self, volume_model, model):
        torch.manual_seed(5)
        other = load_pretrained(volume_model / "models" / "model_pretrain.pt", "cpu", random=True)
        weights = [m.network.image_encoder.backbone.conv1.weight for m in (model, other)]
        assert weights[0].shape == weights[1].shape == (32, 1, 7, 7, 7)
        assert not torch.equal(*weights)

    def test_without_its_preprocessing_it_is_refused(self, volume_model, tmp_path):
        settings = read_settings(volume_model / "models" / "model.json")
        write_settings(tmp_path / "model.json", {k: v for k, v in settings.items() if k != "preprocessing"})
        torch.save({}, tmp_path / "model_pretrain.pt")
        with pytest.raises(CheckpointError, match="do not say what was done to a volume"):
            load_pretrained(tmp_path / "model_pretrain.pt")


class TestZeroShot:
    @pytest.fixture
    def folder(self, entries, write_series, tmp_path):
        """A NIfTI file and the folder of a DICOM series of the same study."""
        image = nibabel.load(entries[0]["image"])
        (tmp_path / "studies").mkdir()
        nibabel.save(image, tmp_path / "studies" / "a.nii.gz")
        origin = image.affine[:3, 3] * (-1, -1, 1)
        write_series(tmp_path / "studies" / "b", np.asarray(image.dataobj), image.header.get_zooms(), origin)
        return tmp_path / "studies"

    def run(self, volume_model, folder, *options):
        checkpoint = str(volume_model / "models" / "model_pretrain.pt")
        output = folder.parent / "found.csv"
        base = ["zero-shot", "--checkpoint", checkpoint, "--prompts", str(PROMPTS), "--output", str(output)]
        code = main([*base, "--classes", *CLASSES, *map(str, options)])
        if code:
            return code
        with output.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def test_all_volumes_below_a_folder(self, volume_model, model, folder):
        rows = self.run(volume_model, folder, "--images", folder)
        assert [row["image"] for row in rows] == ["a.nii.gz", "b"]
        classify = ZeroShotClassifier(model, PROMPTS, CLASSES)
        wanted = classify.classify(model.embed_images(find_below(folder, 3))).numpy()
        found = np.array([[float(row[name]) for name in CLASSES] for row in rows])
        assert found == pytest.approx(wanted, abs=1e-5)
        assert found[0] == pytest.approx(found[1], abs=1e-4), "one study"

    def test_a_file_and_a_series_by_name(self, volume_model, folder):
        rows = self.run(volume_model, folder, "--image", folder / "b", folder / "a.nii.gz")
        assert [Path(row["image"]).name for row in rows] == ["b", "a.nii.gz"]

    def test_what_is_not_there(self, volume_model, folder, capsys):
        assert self.run(volume_model, folder, "--image", folder / "c") == 2
        assert "There is no image" in capsys.readouterr().err
        (folder / "empty").mkdir()
        assert self.run(volume_model, folder, "--image", folder / "empty") == 2
        assert "empty" in capsys.readouterr().err

    def test_a_radiograph_is_no_volume(self, volume_model, folder, capsys):
        nibabel.save(nibabel.Nifti1Image(np.zeros((30, 40, 1), np.int16), np.eye(4)), folder / "flat.nii")
        assert self.run(volume_model, folder, "--image", folder / "flat.nii") == 2
        assert "flat.nii" in capsys.readouterr().err


def test_geometry_is_what_the_transform_keeps(model, entries):
    """The chain of transforms can be undone: a value of the network's grid is found at its place in the file."""
    item = model.image_transform({"image": entries[0]["image"]})
    restored = model.image_transform.inverse(item)["image"]
    stored = LoadVolume()(entries[0]["image"])
    assert restored.shape == stored.shape
    inner = np.s_[0, 6:-6, 6:-6, 6:-6]
    # in the window, and as far as the coarser grid has it
    wanted = stored.numpy()[inner].clip(-1000, 400)
    correlation = np.corrcoef(restored.numpy()[inner].ravel(), wanted.ravel())[0, 1]
    assert correlation > 0.9


class TestWindows:
    """Weights of an encoder that sees volumes in windows."""

    @pytest.fixture(scope="class")
    def windowed(self, volume_model, tmp_path_factory):
        folder = tmp_path_factory.mktemp("windows")
        (folder / "data").symlink_to(volume_model / "data")
        write_network(folder, 3, **VOLUMES, window_size=16)
        return folder

    def test_all_windows_are_embedded(self, windowed, entries):
        model = load_pretrained(windowed / "models" / "model_pretrain.pt", "cpu")
        image = model.image_transform({"image": entries[0]["image"]})["image"].as_tensor()[None]
        with torch.no_grad():
            pooled = encode_windows(model.network.image_encoder, image, 16).pooled
            wanted = model.network.image_head(pooled)[0]
        torch.testing.assert_close(model.embed_images([entries[0]["image"]])[0], wanted, atol=1e-5, rtol=0)

    def test_maps_are_of_tokens(self, windowed, entries):
        model = load_pretrained(windowed / "models" / "model_pretrain.pt", "cpu")
        paths = [entry["image"] for entry in entries[:2]]
        heat = PhraseGrounder(model, paths, "token")(paths[0], ["left effusion"])
        assert heat.shape == (1, 24, 24, 24)
        with pytest.raises(DataError, match="--method token"):
            PhraseGrounder(model, paths)

    def test_probe_and_card(self, windowed, monkeypatch):
        pytest.importorskip("sklearn")
        checkpoint, data = str(windowed / "models" / "model_pretrain.pt"), str(windowed / "data")
        common = ["--dataset-dir", data, "--checkpoint", checkpoint]
        (windowed / "configs").symlink_to(PROMPTS.parent)
        monkeypatch.chdir(windowed)
        table = str(windowed / "probe.csv")
        assert (
            main(["probe", *common, "--classes", "opacity", "--fractions", "1", "--seeds", "1", "--output", table]) == 0
        )
        assert main(["card", *common, "--limit", "2", "--output", str(windowed / "card.html")]) == 0
