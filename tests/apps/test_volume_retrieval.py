# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Retrieval, linear probe and card with the weights of volumes."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from monai_mgca.__main__ import main
from monai_mgca.apps import load_pretrained
from monai_mgca.apps.card import compose_card
from monai_mgca.data import load_datalist

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs"
TEXT = "left pleural effusion"


@pytest.fixture(scope="module")
def entries(volume_model):
    sections = ("training", "validation", "test")
    return [e for section in sections for e in load_datalist(volume_model / "data" / "datalist.json", section)]


@pytest.fixture
def checkpoint(volume_model):
    return volume_model / "models" / "model_pretrain.pt"


class TestRetrieve:
    def run(self, checkpoint, folder, *options):
        assert main(["retrieve", "--checkpoint", str(checkpoint), "--output", str(folder), *map(str, options)]) == 0
        with max(folder.glob("results*.csv"), key=lambda path: path.stat().st_mtime_ns).open(newline="") as file:
            return list(csv.DictReader(file))

    def test_volumes_by_a_text_and_by_a_volume(self, volume_model, checkpoint, entries, tmp_path):
        image = entries[3]["image"]
        options = ["--dataset-dir", volume_model / "data", "--text", TEXT, "--image", image, "--top", "3"]
        rows = self.run(checkpoint, tmp_path, *options)
        model = load_pretrained(checkpoint, "cpu")
        keys, names = model.embed_images(entries), [Path(entry["image"]).name for entry in entries]
        for number, query in enumerate((model.embed_texts([TEXT])[0], keys[3])):
            order = (keys @ query).argsort(descending=True).tolist()
            wanted = [names[row] for row in order if number == 0 or row != 3][:3]
            assert [Path(row["image"]).name for row in rows[3 * number : 3 * number + 3]] == wanted

    def test_page_has_planes_and_slices_that_keys_scroll(self, volume_model, checkpoint, entries, tmp_path, open_page):
        options = ["--dataset-dir", volume_model / "data", "--text", TEXT, "--image", entries[0]["image"], "--top", "2"]
        self.run(checkpoint, tmp_path, *options)
        page = tmp_path / "gallery.html"
        assert page.stat().st_size < 5 * 150_000, "the query and four results"
        seen = open_page(page)
        assert seen["errors"] == []
        assert seen["requests"] == [page.resolve().as_uri()]
        # five volumes of three planes, each with 24 slices
        assert sorted(seen["widths"]) == sorted([3 * 128 + 6] * 5 + [128] * 24 * 5)
        assert "<script" not in page.read_text()
        assert scrolled(page) == [128, 256, 128]

    def test_planes_go_through_the_first_box(self, volume_model, checkpoint, tmp_path):
        folder = tmp_path / "data"
        shutil.copytree(volume_model / "data", folder)
        documents = [(folder / "datalist.json").read_text()]
        documents.append(re.sub(r'"boxes": \[\[.*?\]\]', '"boxes": []', documents[0]))
        pages = []
        for number, text in enumerate(documents):
            (folder / "datalist.json").write_text(text)
            self.run(checkpoint, tmp_path / f"{number}", "--dataset-dir", folder, "--text", TEXT, "--top", "16")
            pages.append(re.findall(r'plane" src="(.+?)"', (tmp_path / f"{number}" / "gallery.html").read_text()))
        with_boxes = documents[0].count('"boxes": [[')
        assert sum(one != other for one, other in zip(*pages, strict=True)) == with_boxes > 5

    def test_series_of_a_folder_and_what_makes_embeddings_stale(
        self, checkpoint, entries, write_series, tmp_path, capsys
    ):
        for number, entry in enumerate(entries[:3]):
            image = nibabel.load(entry["image"])
            origin = image.affine[:3, 3] * (-1, -1, 1)
            sizes = image.header.get_zooms()
            write_series(tmp_path / "ct" / f"{number}", np.asarray(image.dataobj), sizes, origin)
        options = ["--images", tmp_path / "ct", "--text", TEXT]
        rows = self.run(checkpoint, tmp_path / "out", *options)
        assert sorted(row["image"] for row in rows) == ["0", "1", "2"]
        self.run(checkpoint, tmp_path / "out", *options)
        assert "computed earlier" in capsys.readouterr().out
        one = sorted((tmp_path / "ct" / "1").iterdir())[0]
        one.write_bytes(one.read_bytes() + b"\0\0")  # padding behind the pixels
        self.run(checkpoint, tmp_path / "out", *options)
        assert "computed earlier" not in capsys.readouterr().out


def scrolled(page):
    """Where the first strip stands after the keys down, down and up."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--disable-gpu"])
        tab = browser.new_page()
        tab.goto(page.resolve().as_uri())
        strip, places = tab.locator(".slices").first, []
        strip.focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
            tab.keyboard.press(key)
            tab.wait_for_timeout(700)
            places.append(round(strip.evaluate("strip => strip.scrollTop")))
        browser.close()
    return places


class TestProbe:
    @pytest.fixture
    def options(self, volume_model, checkpoint, tmp_path):
        pytest.importorskip("sklearn")
        base = [
            "probe",
            "--dataset-dir",
            volume_model / "data",
            "--output",
            tmp_path / "probe.csv",
            "--section",
            "test",
        ]
        return [*map(str, base), "--checkpoint", str(checkpoint)]

    def test_curves_of_three_encoders(self, options, tmp_path):
        few = ["--classes", "effusion", "opacity", "--fractions", "1", "0.5", "--seeds", "2"]
        assert main([*options, "random", "pixels", *few]) == 0
        with (tmp_path / "probe.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 3 * 2 * 2 * 3
        assert {row["images"] for row in rows} > {"12"}
        assert (tmp_path / "probe.png").stat().st_size > 1000

    def test_features_are_the_encoders(self, checkpoint, entries):
        from monai_mgca.apps.probe.probe_encoders import PIXELS, _features

        model = load_pretrained(checkpoint, "cpu")
        found = _features(str(checkpoint), model.settings, 0, entries[:3])
        image = next(model.load_images(entries[:3]))
        with torch.no_grad():
            wanted = model.network.image_encoder(image).pooled.numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        pixels = {key: value for key, value in model.settings.items() if key != "image_encoder"}
        found = _features(PIXELS, pixels, 0, entries[:3])
        wanted = torch.nn.functional.avg_pool3d(image, 2).flatten(1).numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-5)

    @pytest.mark.parametrize("more", [["--image-size", "64"], ["--encoder", "resnet_tiny", "other.pt"]])
    def test_what_does_not_fit(self, options, more, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        torch.save({}, "other.pt")
        if "other.pt" in more:
            more, options = more[:2], [*options, "other.pt"]
        assert main([*options, *more]) == 2
        printed = capsys.readouterr().err
        assert "--image-size is of radiographs" in printed or "of radiographs and of volumes" in printed


def test_card(volume_model, checkpoint, tmp_path, monkeypatch, open_page):
    monkeypatch.setattr(compose_card, "MAPS", 2)
    monkeypatch.setattr(compose_card, "REFERENCE", 3)
    monkeypatch.setattr(compose_card, "PAIRS", 3)
    options = ["--dataset-dir", volume_model / "data", "--section", "training", "--output", tmp_path / "card.html"]
    options += ["--prompts", CONFIGS / "prompts.json", "--logdir", tmp_path]
    assert main(["card", "--checkpoint", str(checkpoint), *map(str, options)]) == 0
    seen = open_page(tmp_path / "card.html", tmp_path / "card.png")
    assert seen["errors"] == []
    # two maps, and three pairs that are most similar and three that are least
    assert sorted(seen["widths"]) == [3 * 128 + 6] * 6 + [3 * 256 + 6] * 2
    assert "The page shows volumes as they are" in seen["text"]
    assert "The highest place is inside the finding in" in seen["text"]
    assert re.search(r"effusion\s+\d+\s+\d+\s+0\.\d{3}", seen["text"])
