# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_mgca.apps.ground.ground_command import main
from monai_mgca.apps.ground.regions import GroundingFigures, Region, load_regions
from monai_mgca.metrics import compute_grounding
from monai_mgca.utils import DataError

from ..tiny_pretraining import make_pretraining


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The sample, small, and a network with random weights."""
    return make_pretraining(tmp_path_factory.mktemp("ground"), size=40)


@pytest.fixture
def place(made, tmp_path):
    """A copy of both, which a test may change."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    return tmp_path


def run(place, *options):
    base = ["--dataset-dir", str(place / "data"), "--output", str(place / "out"), "--reference", "4"]
    if "--checkpoint" not in options:
        base += ["--checkpoint", str(place / "models" / "model_pretrain.pt")]
    return main([*base, *map(str, options)])


def datalist_of(place):
    return json.loads((place / "data" / "datalist.json").read_text())


def image_of(place, number=0):
    return place / "data" / datalist_of(place)["validation"][number]["image"]


def rows_of(place):
    with (place / "out" / "grounding.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class TestPictures:
    def test_an_overlay_and_a_map_for_each_image_and_phrase(self, place, capsys):
        images = [image_of(place, 0), image_of(place, 1)]
        phrases = ["left pleural effusion", "the heart is enlarged"]
        assert run(place, "--image", *images, "--text", *phrases) == 0
        slugs = ["left_pleural_effusion", "the_heart_is_enlarged"]
        wanted = {f"{image.stem}_{slug}{kind}.png" for image in images for slug in slugs for kind in ("", "_map")}
        assert {path.name for path in (place / "out").iterdir()} == wanted
        printed = capsys.readouterr().out
        for image in images:
            heat = np.asarray(Image.open(place / "out" / f"{image.stem}_{slugs[0]}_map.png"))
            assert heat.shape == (64, 64)
            assert heat.min() == 0
            assert heat.max() == 255
            overlay = np.asarray(Image.open(place / "out" / f"{image.stem}_{slugs[0]}.png"))
            assert overlay.shape == (64, 64, 3)
            y, x = np.unravel_index(heat.argmax(), heat.shape)
            assert overlay[y, x, 0] > overlay[y, x, 2], "orange where the map is high"
            assert f"{image}: 'left pleural effusion' is highest at x = " in printed
        assert "Written: " in printed

    def test_a_mask_of_the_highest_part(self, place):
        assert run(place, "--image", image_of(place), "--text", "left pleural effusion", "--threshold", "0.5") == 0
        base = place / "out" / f"{image_of(place).stem}_left_pleural_effusion"
        heat, mask = (np.asarray(Image.open(f"{base}_{kind}.png")) for kind in ("map", "mask"))
        assert set(np.unique(mask)) == {0, 255}
        assert (mask[heat > 129] == 255).all()
        assert (mask[heat < 126] == 0).all()

    def test_word_by_word(self, place, open_page):
        image, entry = image_of(place), datalist_of(place)["validation"][0]
        assert run(place, "--image", image, "--words") == 0
        found = open_page(place / "out" / "words.html")
        assert found["errors"] == []
        assert min(found["widths"]) > 0
        words = entry["report"].lower().replace(".", " ").replace(",", " ").split()
        captions = found["text"].lower().split()
        assert words[0] in captions
        assert words[1] in captions
        assert len(found["widths"]) > 10, "the radiograph, and a map for each word"


class TestFigures:
    def test_every_annotated_finding_is_measured(self, place, capsys, open_page):
        options = ["--evaluate", "--checkpoint", place / "models" / "model_pretrain.pt", "random", "--overlays", "2"]
        assert run(place, *options, "--mask-key", "finding_mask") == 0
        rows = rows_of(place)
        boxes = [box for entry in datalist_of(place)["validation"] for box in entry["boxes"]]
        assert len(rows) == 2 * len(boxes) > 4
        assert [row["encoder"] for row in rows[len(boxes) :]] == ["random"] * len(boxes)
        printed = capsys.readouterr().out
        mean = np.mean([float(row["contrast_to_noise"]) for row in rows[: len(boxes)]])
        assert f"{mean:18.3f}" in printed
        assert len(list((place / "out" / "overlays").iterdir())) == 2
        found = open_page(place / "out" / "grounding.html")
        assert found["errors"] == []
        assert len(found["widths"]) == 2
        assert min(found["widths"]) > 0

    def test_a_phrase_for_a_class(self, place):
        assert run(place, "--evaluate", "--phrases", "effusion=pleural fluid", "--overlays", "0") == 0
        assert {row["class"] for row in rows_of(place)} == {"effusion"}
        # the boxes of a class are one region where they have one phrase
        images = [row["image"] for row in rows_of(place)]
        assert len(images) == len(set(images))

    def test_regions_are_the_boxes(self, place):
        regions = load_regions(place / "data" / "datalist.json", "validation")
        entries = [entry for entry in datalist_of(place)["validation"] if entry["boxes"]]
        first = entries[0]
        x0, y0, x1, y1 = map(int, first["boxes"][0])
        wanted = torch.zeros(64, 64)
        wanted[y0:y1, x0:x1] = 1
        assert regions[0].phrase == first["box_phrases"][0]
        assert torch.equal(regions[0].mask, wanted)

    def test_figures_are_of_the_metric(self):
        torch.manual_seed(0)
        figures = GroundingFigures(tolerance=0.1)
        mask = torch.zeros(20, 20)
        mask[3:9, 3:9] = 1
        maps = [torch.rand(20, 20) for _ in range(5)]
        for number, heat in enumerate(maps):
            figures.add("a.pt", Region("1.png", "ab"[number % 2], "phrase", mask), heat)
        mean, first, second = figures.summarize()
        assert (mean["findings"], first["findings"], second["findings"]) == (5, 3, 2)
        strict = compute_grounding(torch.stack(maps), mask.expand(5, 20, 20))
        near = compute_grounding(torch.stack(maps), mask.expand(5, 20, 20), 0.1)
        assert mean["pointing_game"] == pytest.approx(strict[:, 0].mean().item())
        assert mean["pointing_game_near"] == pytest.approx(near[:, 0].mean().item())
        assert mean["contrast_to_noise"] == pytest.approx(strict[:, 1].mean().item())
        assert first["mean_iou"] == pytest.approx(strict[::2, 2].mean().item())


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ([], "give --image FILE"),
            (["--image", "none.png", "--text", "effusion"], "no image none.png"),
            (["--evaluate", "--checkpoint", "random"], "needs a model_pretrain.pt"),
            (["--evaluate", "--checkpoint", "nowhere/model_pretrain.pt"], "no checkpoint file"),
            (["--evaluate", "--phrases", "efusion=pleural fluid"], "no box class efusion"),
            (["--evaluate", "--mask-key", "none"], "none"),
            (["--evaluate", "--threshold", "0"], "--threshold must be more than 0"),
            (["--evaluate", "--section", "test", "--datalist", "none.json"], "no such datalist"),
        ],
    )
    def test_input(self, place, options, words, capsys):
        assert run(place, *options) == 2
        assert words in capsys.readouterr().err
        assert not (place / "out").exists()

    @pytest.mark.parametrize(
        ("text", "words"), [("", "no word"), ("xyzzy qqq", "knows no word"), ("left " * 99, "longer")]
    )
    def test_text(self, place, text, words, capsys):
        assert run(place, "--image", image_of(place), "--text", text) == 2
        assert words in capsys.readouterr().err

    def test_words_of_an_image_without_a_report(self, place, capsys):
        Image.new("L", (64, 64)).save(place / "other.png")
        assert run(place, "--image", place / "other.png", "--words") == 2
        assert "no report of" in capsys.readouterr().err

    def test_a_box_outside_its_image_is_named(self, place):
        document = datalist_of(place)
        entry = next(entry for entry in document["validation"] if entry["boxes"])
        entry["boxes"][0][2] = 500
        path = place / "data" / "datalist.json"
        path.write_text(json.dumps(document))
        with pytest.raises(DataError, match=Path(entry["image"]).name):
            load_regions(path, "validation")

    def test_no_boxes(self, place):
        path = place / "data" / "datalist.json"
        document = datalist_of(place)
        for entry in document["validation"]:
            entry["boxes"], entry["box_labels"] = [], []
        path.write_text(json.dumps(document))
        with pytest.raises(DataError, match="no boxes in 'validation'"):
            load_regions(path, "validation")
