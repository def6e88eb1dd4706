# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from monai_mgca.apps import load_pretrained
from monai_mgca.apps.card import compose_card
from monai_mgca.apps.card.card_command import main
from monai_mgca.apps.card.card_content import Pair, best_and_worst, rank_pairs, shown_names

from ..tiny_pretraining import make_pretraining

ROOT = Path(__file__).resolve().parents[2]
# what a page must not show: in a report, as a patient, in a box's phrase; "<" is to be escaped
TEXT, PATIENT, PHRASE = "zzcanarytext <b>7", "zzcanarypatient", "zzcanaryphrase effusion"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The sample, small, with canaries in it, and a network with random weights."""
    settings = {"image_encoder": "resnet_compact", "max_length": 40}
    folder = make_pretraining(tmp_path_factory.mktemp("report"), seed=7, **settings)
    path = folder / "data" / "datalist.json"
    document = json.loads(path.read_text())
    for section in ("training", "validation", "test"):
        for number, entry in enumerate(document[section]):
            entry |= {"report": f"{entry['report']} {TEXT}", "patient": f"{PATIENT}-{section}-{number}"}
    entry = document["training"][2]  # a name that identifies the patient
    shutil.move(folder / "data" / entry["image"], folder / "data" / "images" / f"{entry['patient']}_a.png")
    entry["image"] = f"images/{entry['patient']}_a.png"
    path.write_text(json.dumps(document))
    with SummaryWriter(folder / "eval") as writer:
        for epoch in (1, 2, 3):
            writer.add_scalar("train_loss", 9 - epoch, epoch)
            writer.add_scalar("val_mean_recall", epoch / 10, epoch)
            writer.add_scalar("val_loss", (9, 7, 8)[epoch - 1], epoch)
    return folder


@pytest.fixture
def place(made, tmp_path):
    """A copy of it, which a test may change."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(place, *options):
    base = ["--checkpoint", place / "models/model_pretrain.pt", "--dataset-dir", place / "data"]
    base += ["--prompts", ROOT / "bundles/mgca/configs/prompts.json", "--logdir", place / "eval"]
    return main([*map(str, base), "--output", str(place / "out/page.html"), *map(str, options)])


@pytest.fixture(scope="module")
def default(made, tmp_path_factory):
    """A copy with the page of the section training, made with no more options, and what was printed."""
    place = tmp_path_factory.mktemp("default")
    shutil.copytree(made, place, dirs_exist_ok=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert run(place, "--section", "training") == 0
    return place, printed.getvalue()


def page_of(place):
    return (place / "out" / "page.html").read_text(encoding="utf-8")


def edit(place, change):
    path = place / "data" / "datalist.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return document


def entries_of(place, section="training"):
    return json.loads((place / "data" / "datalist.json").read_text())[section]


def figures_of(page, title):
    """The numbers of a line of a table."""
    line = re.search(rf"<td>{title}</td>(.*?)</tr>", page, flags=re.DOTALL)[1]
    return [float(number) for number in re.findall(r">(-?[\d.]+)<", line)]


class TestPage:
    def test_opens_offline_and_holds_every_part(self, default, open_page):
        place, printed = default
        assert f"Written: {place}/out/page.html" in printed
        seen = open_page(place / "out" / "page.html")
        assert seen["errors"] == []
        assert all(url.startswith(("file:", "data:")) for url in seen["requests"])
        assert all(width > 60 for width in seen["widths"])
        count = len(entries_of(place))
        assert len(seen["widths"]) == 1 + 6 + 2 * min(10, count // 2), "curves, heat maps, pairs"
        for words in ("resnet_compact", "Retrieval", "Collapse", "Heat maps", "Zero-shot", "3 epochs", f"on {count}"):
            assert words in seen["text"]
        # the best epoch and the last one, each by its name
        assert "lowest in epoch 2 (7.0000); after epoch 3 it is 8.0000." in seen["text"]
        hits, shown = map(int, re.search(r"inside the finding in (\d+) of (\d+)\.", seen["text"]).groups())
        assert (hits, shown) == (len(re.findall(r": the highest place is inside", seen["text"])), 6)
        assert ("Most of these maps miss" in seen["text"]) == (2 * hits < shown)

    def test_shows_no_text_patient_or_place(self, place, capsys, caplog):
        caplog.set_level("DEBUG")

        def change(document):
            for entry in document["training"]:
                entry["box_phrases"] = [PHRASE for _ in entry["boxes"]]

        edit(place, change)
        assert run(place, "--section", "training") == 0
        printed = capsys.readouterr()
        shown = page_of(place) + printed.out + printed.err + caplog.text
        assert not re.search("zzcanary", shown, flags=re.IGNORECASE)
        assert "no. 3<" in page_of(place) or "no. 3\n" in page_of(place), "the name that identifies the patient"
        assert str(place) not in page_of(place)
        assert str(ROOT) not in page_of(place)
        assert "<td>report_encoder</td>" in page_of(place)

    def test_shows_texts_when_asked_for(self, place, capsys, caplog):
        caplog.set_level("DEBUG")
        assert run(place, "--section", "training", "--with-text") == 0
        page = page_of(place)
        printed = capsys.readouterr()
        assert "zzcanary" not in printed.out + printed.err + caplog.text
        assert PATIENT not in page
        assert "<b>7" not in page
        texts = [str(entry["report"]) for entry in entries_of(place)]
        shown = [html.unescape(text) for text in re.findall(r"<q>(.*?)</q>", page)]
        assert len(set(texts) & set(shown)) == 2 * min(10, len(texts) // 2)
        phrases = {phrase for entry in entries_of(place) for phrase in entry["box_phrases"]}
        assert len(phrases & set(shown)) >= 1

    def test_runs_on_the_sample(self, made, tmp_path, monkeypatch, capsys):
        shutil.copytree(made / "models", tmp_path / "models")
        monkeypatch.chdir(tmp_path)
        assert main(["--sample-size", "12", "--section", "training"]) == 0
        assert "Written: ./eval/card.html" in capsys.readouterr().out
        page = Path("eval/card.html").read_text()
        assert "no event files" in page
        assert "--logdir" in page

    def test_only_the_first(self, place):
        assert run(place, "--section", "training", "--limit", "4") == 0
        page = page_of(place)
        assert f"on 4\nof {len(entries_of(place))}\n" in page
        assert set(re.findall(r"no\. (\d+)", page)) == set("1234")


class TestFigures:
    @pytest.fixture(scope="class")
    def embedded(self, made):
        """Embeddings of all pairs of the training section."""
        place = made
        model = load_pretrained(place / "models" / "model_pretrain.pt")
        images = model.embed_images([place / "data" / entry["image"] for entry in entries_of(place)])
        return images.numpy(), model.embed_reports([entry["report"] for entry in entries_of(place)]).numpy()

    def test_pairs_are_the_best_and_the_worst(self, default, embedded):
        place, _ = default
        scores = embedded[0] @ embedded[1].T
        order = sorted(range(len(scores)), key=lambda row: -scores[row, row])
        count = min(10, len(order) // 2)
        found = re.findall(r"<b>(-?[\d.]+)</b>, rank (\d+)<br>no\. (\d+)", page_of(place))
        wanted = [*order[:count], *order[::-1][:count]]
        assert [int(number) - 1 for _, _, number in found] == wanted
        for (similarity, rank, _), row in zip(found, wanted, strict=True):
            assert float(similarity) == pytest.approx(scores[row, row], abs=6e-4)
            assert int(rank) == 1 + sum(scores[row, other] > scores[row, row] for other in range(len(scores)))

    def test_retrieval_collapse_and_chance(self, default, embedded):
        place, _ = default
        page, size = page_of(place), len(embedded[0])
        scores = embedded[0] @ embedded[1].T
        for title, table in (("image to report", scores), ("report to image", scores.T)):
            ranks = np.array([1 + (row > row[i]).sum() for i, row in enumerate(table)])
            wanted = [*((ranks <= k).mean() for k in (1, 5, 10)), np.median(ranks)]
            assert figures_of(page, title) == pytest.approx(wanted, abs=6e-4)
        assert figures_of(page, "chance")[:3] == pytest.approx([k / size for k in (1, 5, 10)], abs=6e-4)
        for title, part in zip(("images", "reports"), embedded, strict=True):
            values = np.linalg.svd(part - part.mean(0), compute_uv=False)
            share = values[values > 1e-7] / values.sum()
            rank = np.exp(-(share * np.log(share)).sum())
            assert figures_of(page, title) == pytest.approx([1 - rank / min(size - 1, 16)], abs=2e-3)

    def test_zero_shot(self, place, embedded):
        prompts = {"effusion": {"positive": ["left pleural effusion"], "negative": ["no pleural effusion"]}}
        (place / "prompts.json").write_text(json.dumps(prompts))
        assert run(place, "--section", "training", "--prompts", place / "prompts.json") == 0
        column = json.loads((place / "data" / "datalist.json").read_text())["classes"].index("effusion")
        labels = np.array([entry["labels"][column] for entry in entries_of(place)])
        model = load_pretrained(place / "models" / "model_pretrain.pt")
        texts = model.embed_texts(["left pleural effusion", "no pleural effusion"]).numpy()
        scores = embedded[0] @ (texts[0] - texts[1])
        wins = [(p > n) + (p == n) / 2 for p in scores[labels == 1] for n in scores[labels == 0]]
        present, absent, auroc, chance = figures_of(page_of(place), "effusion")
        assert (present, absent, chance) == ((labels == 1).sum(), (labels == 0).sum(), 0.5)
        assert auroc == pytest.approx(np.mean(wins), abs=6e-4)
        low, high = map(float, re.search(r"<td>([\d.]+) to ([\d.]+)</td>", page_of(place)).groups())
        assert low <= auroc <= high

    def test_heat_maps_have_their_box(self, default):
        """The blue outline is where the datalist has the box."""
        place, _ = default
        entries = {f"no. {number}": entry for number, entry in enumerate(entries_of(place), 1)}
        classes = json.loads((place / "data" / "datalist.json").read_text())["box_classes"]
        maps = re.findall(
            r'alt="heat map of (.*?)" src="data:image/png;base64,(.*?)".*?<br>(no\. \d+)', page_of(place), re.DOTALL
        )
        assert len(maps) == 6
        assert len({name for _, _, name in maps}) == 6
        for finding, data, name in maps:
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
            blue = np.argwhere((pixels == (86, 180, 233)).all(2))
            pairs = zip(entries[name]["boxes"], entries[name]["box_labels"], strict=True)
            boxes = np.array([box for box, label in pairs if classes[label] == finding])
            x0, y0, x1, y1 = *boxes[:, :2].min(0), *boxes[:, 2:].max(0)
            assert blue.min(0) == pytest.approx([y0, x0], abs=1.01)
            assert blue.max(0) == pytest.approx([y1 - 1, x1 - 1], abs=1.01)

    def test_without_training_images_they_are_compared_with_those_of_the_training(self, place, monkeypatch):
        kept = []
        monkeypatch.setattr(compose_card, "read_reference", lambda path: kept.append(path))
        assert run(place, "--section", "test") == 0
        assert not kept
        edit(place, lambda document: document.pop("training"))
        assert run(place, "--section", "test") == 0
        assert kept == [str(place / "models/model_pretrain.pt")]

    def test_names_hide_patients(self):
        entries = [
            {"image": "/d/00012_a.png", "patient": "p12"},
            {"image": "/d/Anna.png", "patient": "anna"},
            {"image": "/d/p12/x_3.png", "patient": "p12"},
            {"image": "/d/y.png"},
        ]
        assert shown_names(entries) == ["no. 1", "no. 2", "no. 3, x_3.png", "no. 4, y.png"]

    def test_reports_that_are_the_same_are_one_answer(self):
        angles = torch.tensor([0.0, 0.1, 2.0])
        image = torch.stack([angles.cos(), angles.sin()], 1)
        report = image[[1, 0, 2]]  # the first two are nearer to each other's
        assert {pair.row: pair.rank for pair in rank_pairs(image, report, torch.arange(3)[:, None])} == {
            0: 2,
            1: 2,
            2: 1,
        }
        same = torch.tensor([[5], [5], [6]])
        assert {pair.rank for pair in rank_pairs(image, report, same)} == {1}

    def test_no_pair_is_best_and_worst(self):
        pairs = [Pair(row, 1 - row / 10, 1) for row in range(5)]
        best, worst = best_and_worst(pairs)
        assert ([p.row for p in best], [p.row for p in worst]) == ([0, 1], [4, 3])


class TestWhatIsMissing:
    def test_labels_and_boxes(self, place):
        def change(document):
            for entry in document["training"]:
                for key in ("labels", "boxes", "box_labels", "box_phrases"):
                    del entry[key]

        edit(place, change)
        assert run(place, "--section", "training") == 0
        assert "no labels of this section" in page_of(place)
        assert "neither boxes nor labels" in page_of(place)

    def test_boxes(self, place):
        """Heat maps are then of the labels."""

        def change(document):
            del document["box_classes"]
            for entry in document["training"]:
                del entry["boxes"]

        document = edit(place, change)
        assert run(place, "--section", "training") == 0
        maps = re.findall(r'alt="heat map of (.*?)".*?<br>no\. (\d+)', page_of(place), re.DOTALL)
        assert maps
        for finding, number in maps:
            entry = document["training"][int(number) - 1]
            assert entry["labels"][document["classes"].index(finding)] == 1
        assert "blue outline" not in page_of(place)

    def test_prompts_of_the_classes(self, place, monkeypatch, caplog):
        edit(place, lambda document: document.update(classes=[f"unheard {i}" for i in range(6)]))
        monkeypatch.chdir(ROOT)
        base = ["--checkpoint", place / "models/model_pretrain.pt", "--dataset-dir", place / "data"]
        options = ["--output", place / "out/page.html", "--section", "training"]
        assert main([*map(str, base), *map(str, options)]) == 0
        assert "No prompts suit the classes unheard 0" in page_of(place)
        assert "has prompts for none of the classes" in caplog.text

    def test_matplotlib(self, place, monkeypatch):
        monkeypatch.setattr("monai_mgca.apps.card.compose_card.has_matplotlib", False)
        assert run(place, "--section", "training") == 0
        assert "monai-mgca[probe]" in page_of(place)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--limit", "1"], "--limit must be 2 or more"),
            (["--logdir", "none"], "There is no folder none"),
            (["--checkpoint", "none/model_pretrain.pt"], "There is no checkpoint file 'none/model_pretrain.pt'"),
            (["--dataset-dir", "none"], "does not exist"),
            (["--datalist", "none.json"], "no such datalist"),
            (["--section", "training", "--prompts", "none.json"], "no such file of prompts"),
        ],
    )
    def test_input(self, made, tmp_path, monkeypatch, options, words, capsys):
        monkeypatch.chdir(tmp_path)
        base = ["--checkpoint", made / "models/model_pretrain.pt", "--dataset-dir", made / "data"]
        assert main([*map(str, base), "--output", str(tmp_path / "out/page.html"), *options]) == 2
        error = capsys.readouterr().err
        assert "error: " in error
        assert words in error
        assert list(tmp_path.iterdir()) == []

    def test_a_section_that_is_not_there(self, place, capsys):
        edit(place, lambda document: document.pop("test"))
        assert run(place, "--section", "test") == 2
        assert "section 'test'" in capsys.readouterr().err

    def test_one_pair(self, place, capsys):
        edit(place, lambda document: document.update(test=document["test"][:1]))
        assert run(place, "--section", "test") == 2
        assert "needs two or more" in capsys.readouterr().err

    def test_a_broken_image_leaves_the_page_as_it_was(self, place, capsys):
        assert run(place, "--section", "training", "--limit", "2") == 0
        before = page_of(place)
        entry = entries_of(place)[1]
        (place / "data" / entry["image"]).write_bytes(b"no image")
        assert run(place, "--section", "training") == 2
        error = capsys.readouterr().err
        assert entry["image"] in error
        assert entry["patient"] not in error
        assert page_of(place) == before
        assert sorted(path.name for path in (place / "out").iterdir()) == ["page.html", "page.json", "page.md"]

    def test_labels_that_do_not_fit(self, place, capsys):
        edit(place, lambda document: document["training"][0].update(labels=[7] * 6))
        assert run(place, "--section", "training") == 2
        assert "the label 7 is none of" in capsys.readouterr().err

    def test_a_checkpoint_of_another_architecture(self, place, capsys):
        path = place / "models" / "model.json"
        path.write_text(path.read_text().replace('"embed_dim": 16', '"embed_dim": 32'))
        assert run(place) == 2
        assert "model_pretrain.pt" in capsys.readouterr().err
