# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_mgca.apps import EmbeddingIndex, load_pretrained
from monai_mgca.apps.retrieve.retrieve_command import main
from monai_mgca.utils import DataError
from monai_mgca.visualize.gallery import Hit, Ranking, public_names, write_gallery

from ..tiny_pretraining import make_pretraining, write_network

SETTINGS = {"image_encoder": "resnet_compact", "max_length": 40}
TEXT = "small left pleural effusion"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The sample, small, and a network with weights of its own seed."""
    return make_pretraining(tmp_path_factory.mktemp("retrieve"), seed=7, **SETTINGS)


@pytest.fixture
def place(made, tmp_path):
    """A copy of both, which a test may change."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    return tmp_path


def run(place, *options):
    base = ["--checkpoint", str(place / "models" / "model_pretrain.pt"), "--output", str(place / "out")]
    if "--images" not in options and "--datalist" not in options:
        base += ["--dataset-dir", str(place / "data")]
    return main([*base, *map(str, options)])


def rows_of(place):
    newest = max((place / "out").glob("results*.csv"), key=lambda path: path.stat().st_mtime_ns)
    with newest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def entries_of(place, *sections):
    document = json.loads((place / "data" / "datalist.json").read_text())
    return [entry for name in sections or ("training", "validation", "test") for entry in document[name]]


def slow_ranking(query, keys, names):
    """(name, similarity), by one product after the other."""
    scores = [float(torch.dot(query, key)) for key in keys]
    return sorted(zip(names, scores, strict=True), key=lambda pair: -pair[1])


def assert_ranks(rows, wanted):
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, len(wanted) + 1)]
    assert [row["image"] for row in rows] == [name for name, _ in wanted]
    assert [float(row["similarity"]) for row in rows] == pytest.approx([score for _, score in wanted], abs=2e-6)


class TestResults:
    @pytest.mark.parametrize("backend", ["exact", "faiss"])
    def test_of_texts_and_images_among_images(self, place, backend, capsys):
        if backend == "faiss":
            pytest.importorskip("faiss")
        image = place / "data" / entries_of(place)[5]["image"]
        options = ["--text", TEXT, "clear lungs", "--image", image, "--top", "4", "--backend", backend]
        assert run(place, *options) == 0
        model = load_pretrained(place / "models" / "model_pretrain.pt")
        names = [entry["image"] for entry in entries_of(place)]
        keys = model.embed_images([place / "data" / name for name in names])
        rows = rows_of(place)
        assert list(rows[0]) == ["query", "rank", "similarity", "image"]
        for number, text in enumerate((TEXT, "clear lungs")):
            found = rows[4 * number : 4 * number + 4]
            assert {row["query"] for row in found} == {text}
            assert_ranks(found, slow_ranking(model.embed_texts([text])[0], keys, names)[:4])
        found = rows[8:]
        assert {row["query"] for row in found} == {str(image)}
        itself, *others = slow_ranking(keys[5], keys, names)
        assert itself[0] == names[5]
        assert_ranks(found, others[:4])
        printed = capsys.readouterr().out
        assert f"Images most like '{TEXT}':" in printed
        assert f"Images most like {image}:" in printed
        assert all(row["image"] in printed for row in rows)
        assert "Written: " in printed
        assert "gallery.html" in printed

    def test_among_reports(self, place, capsys):
        entries = entries_of(place, "validation", "training")
        image = place / "data" / entries[0]["image"]
        sections = ["--sections", "validation", "training"]
        assert run(place, "--image", image, "--text", TEXT, "--target", "reports", "--top", "99", *sections) == 0
        model = load_pretrained(place / "models" / "model_pretrain.pt")
        keys = model.embed_reports([entry["report"] for entry in entries])
        names = [entry["image"] for entry in entries]
        rows = rows_of(place)
        assert len(rows) == 2 * len(entries), "all there are, also the image's own"
        assert_ranks(rows[: len(entries)], slow_ranking(model.embed_texts([TEXT])[0], keys, names))
        assert_ranks(rows[len(entries) :], slow_ranking(model.embed_images([image])[0], keys, names))
        shown = capsys.readouterr().out + (place / "out" / "gallery.html").read_text() + str(rows)
        assert not any(entry["report"][:20] in shown for entry in entries)

    def test_reports_are_shown_when_asked_for(self, place, capsys, caplog):
        caplog.set_level("INFO")
        assert run(place, "--text", TEXT, "--target", "reports", "--with-text", "--top", "3") == 0
        reports = {entry["image"]: entry["report"] for entry in entries_of(place)}
        printed, page = capsys.readouterr().out, (place / "out" / "gallery.html").read_text()
        for row in rows_of(place):
            assert row["report"] == reports[row["image"]]
            assert row["report"][:60] in printed
            assert row["report"] in page
            assert row["report"][:20] not in caplog.text

    def test_of_a_folder_of_images(self, place):
        assert run(place, "--text", TEXT, "--images", place / "data" / "images", "--top", "2") == 0
        assert len(rows_of(place)) == 2
        with np.load(place / "out" / "embeddings.npz", allow_pickle=False) as file:
            assert set(file) == {"image", "names", "fingerprint"}
            names = sorted(Path(entry["image"]).name for entry in entries_of(place))
            assert np.char.decode(file["names"], "utf-8").tolist() == names

    def test_images_without_reports(self, place, capsys):
        path = place / "data" / "datalist.json"
        document = json.loads(path.read_text())
        del document["training"][0]["report"]
        path.write_text(json.dumps(document))
        assert run(place, "--text", TEXT) == 0
        assert run(place, "--text", TEXT, "--target", "reports") == 2
        assert "empty report" in capsys.readouterr().err

    def test_a_datalist_elsewhere(self, place):
        path = place / "data" / "some.json"
        path.write_text(json.dumps({"test": entries_of(place, "test")}))
        assert run(place, "--text", TEXT, "--top", "99", "--datalist", path) == 0
        assert sorted(row["image"] for row in rows_of(place)) == sorted(e["image"] for e in entries_of(place, "test"))

    def test_runs_on_the_sample(self, made, tmp_path, monkeypatch):
        shutil.copytree(made / "models", tmp_path / "models")
        monkeypatch.chdir(tmp_path)
        assert main(["--text", TEXT, "--sample-size", "12"]) == 0
        assert {file.name for file in Path("eval/retrieval").iterdir()} == {
            "embeddings.npz",
            "results.csv",
            "gallery.html",
        }


class TestEvaluation:
    @pytest.fixture(autouse=True)
    def evaluated(self, place, capsys):
        assert run(place, "--evaluate", "--sections", "training") == 0
        self.table = [line for line in capsys.readouterr().out.splitlines() if line]

    def test_figures(self, place):
        entries = entries_of(place, "training")
        model = load_pretrained(place / "models" / "model_pretrain.pt")
        images = model.embed_images([place / "data" / entry["image"] for entry in entries])
        reports = model.embed_reports([entry["report"] for entry in entries])
        assert len({entry["report"] for entry in entries}) == len(entries)
        assert f"Retrieval among {len(entries)} pairs (training):" in self.table
        for name, scores in (("image to report", images @ reports.T), ("report to image", reports @ images.T)):
            ranks = np.array([int((row > row[i]).sum()) + 1 for i, row in enumerate(scores)])
            wanted = [*(f"{(ranks <= k).mean():.3f}" for k in (1, 5, 10)), f"{sorted(ranks)[len(ranks) // 2]:g}"]
            line = next(line for line in self.table if line.startswith(name))
            assert line.removeprefix(name).split()[:3] == wanted[:3]
            assert float(line.split()[-1]) == np.median(ranks)
        chance = next(line for line in self.table if line.startswith("chance")).split()
        assert float(chance[1]) == pytest.approx(1 / len(entries), abs=6e-4)
        assert not (place / "out" / "gallery.html").exists()

    def test_random_weights_have_a_file_of_their_own(self, place, capsys):
        before = (place / "out" / "embeddings.npz").read_bytes()
        assert run(place, "--evaluate", "--sections", "training", "--random") == 0
        other = [line for line in capsys.readouterr().out.splitlines() if line]
        assert other[-1] == self.table[-1]
        assert other[-3:-1] != self.table[-3:-1]
        assert (place / "out" / "embeddings.npz").read_bytes() == before
        assert (place / "out" / "embeddings_random.npz").exists()


class TestReuse:
    def answers(self, place, capsys, *options):
        """Whether the embeddings were computed, and the results."""
        assert run(place, "--text", TEXT, *options) == 0
        return "computed earlier" not in capsys.readouterr().out, rows_of(place)

    def test_the_same_set_is_not_computed_again(self, place, capsys, monkeypatch):
        computed, rows = self.answers(place, capsys)
        assert computed
        state = (place / "out" / "embeddings.npz").stat().st_mtime_ns
        monkeypatch.setattr("monai_mgca.apps.PretrainedModel.embed_images", None)
        assert self.answers(place, capsys) == (False, rows)
        assert (place / "out" / "embeddings.npz").stat().st_mtime_ns == state

    def test_another_checkpoint(self, place, capsys):
        _, rows = self.answers(place, capsys)
        write_network(place, seed=8, **SETTINGS)
        computed, other = self.answers(place, capsys)
        assert computed
        assert other != rows
        assert not self.answers(place, capsys)[0]

    def test_another_datalist_section_report_or_image(self, place, capsys):
        self.answers(place, capsys)
        assert self.answers(place, capsys, "--sections", "training")[0]
        self.answers(place, capsys)
        path = place / "data" / "datalist.json"
        path.write_text(path.read_text().replace(entries_of(place)[0]["report"], "Clear lungs. No effusion."))
        assert self.answers(place, capsys)[0]
        first, second = (place / "data" / entry["image"] for entry in entries_of(place)[:2])
        shutil.copy(first, second)
        assert self.answers(place, capsys)[0]
        assert not self.answers(place, capsys)[0]

    def test_a_damaged_file_is_made_again(self, place, capsys, caplog):
        _, rows = self.answers(place, capsys)
        path = place / "out" / "embeddings.npz"
        path.write_bytes(path.read_bytes()[:-100])
        assert self.answers(place, capsys) == (True, rows)
        assert "is damaged" in caplog.text
        assert not self.answers(place, capsys)[0]


class TestPage:
    def test_shows_neither_the_machine_nor_the_patients(self, place):
        document = json.loads((place / "data" / "datalist.json").read_text())
        for section in ("training", "validation", "test"):
            for number, entry in enumerate(document[section]):
                entry["patient"] = f"Doe_{section}_{number}"
                name = f"studies/{entry['patient']}/{number}.png"
                (place / "data" / name).parent.mkdir(parents=True)
                (place / "data" / entry["image"]).rename(place / "data" / name)
                entry["image"] = name
        (place / "data" / "datalist.json").write_text(json.dumps(document))
        image = place / "data" / document["training"][0]["image"]
        for options in (["--image", image], ["--image", image, "--images", place / "data" / "studies"]):
            assert run(place, "--text", TEXT, *options, "--top", "5") == 0
        pages = sorted((place / "out").glob("gallery*.html"))
        assert [page.name for page in pages] == ["gallery.html", "gallery_2.html"]  # the first is kept
        assert (place / "out" / "results_2.csv").is_file()
        for page in pages:
            text = page.read_text()
            assert "Doe_" not in text
            assert str(place) not in text
            assert ".png" in text
        assert all("Doe_" in row["image"] for row in rows_of(place))  # the table has the paths

    @pytest.mark.parametrize(
        ("names", "patients", "shown"),
        [
            (["images/1.png", "images/2.png"], ["a", "b"], ["images/1.png", "images/2.png"]),
            (["p1/x.png", "p2/x.png"], ["p1", "p2"], ["no. 1, x.png", "no. 2, x.png"]),
            (["f/p1/x.png", "f/p2/y.png"], ["", ""], ["f/x.png", "f/y.png"]),
            (["f/p1/x.png", "f/p1/y.png"], ["p1", "p1"], ["x.png", "y.png"]),
            (["Doe/x.png", "Doe/y.png"], ["Doe", "Doe"], ["x.png", "y.png"]),
            (["f/1006_IM-7.jpg", "f/2.jpg"], ["CXR1006", "CXR2"], ["no. 1", "f/2.jpg"]),
            (["../../data/x.png", "/mnt/p1/y.png"], ["", ""], ["x.png", "y.png"]),
        ],
    )
    def test_public_names(self, names, patients, shown):
        assert public_names(names, patients) == shown

    def test_opens_from_disk_without_an_error(self, place, open_page):
        image = place / "data" / entries_of(place)[0]["image"]
        options = ["--text", TEXT, "--image", image, "--top", "3", "--target", "reports", "--with-text"]
        assert run(place, *options) == 0
        seen = open_page(place / "out" / "gallery.html")
        assert seen["errors"] == []
        assert all(url.startswith(("file:", "data:")) for url in seen["requests"])
        assert seen["widths"] == [64] * 7, "three results of each query, and the image that was asked for"
        rows = rows_of(place)
        for row in rows:
            assert row["image"] in seen["text"]
            assert row["report"] in seen["text"]
            assert f"{row['rank']}. {float(row['similarity']):.3f}" in seen["text"]

    def test_the_check_sees_errors_requests_and_broken_pictures(self, tmp_path, open_page):
        page = tmp_path / "bad.html"
        page.write_text('<img src="data:image/png;base64,AAAA"><img src="none.png"><script>undefined_name()</script>')
        seen = open_page(page)
        assert seen["widths"] == [0, 0]
        assert any("undefined_name" in error for error in seen["errors"])
        assert any(url.endswith("none.png") for url in seen["requests"])

    def test_names_and_texts_are_escaped(self, made, tmp_path):
        image = str(next((made / "data" / "images").iterdir()))
        write_gallery(tmp_path / "g.html", "t", [Ranking("<b>q</b>", [Hit(0.5, image, "<i>n</i>", "<script>r")])])
        page = (tmp_path / "g.html").read_text()
        assert "&lt;b&gt;q" in page
        assert "&lt;i&gt;n" in page
        assert "&lt;script&gt;r" in page
        assert "<script>" not in page

    def test_pictures_keep_their_shape(self, tmp_path, open_page):
        from PIL import Image

        Image.new("L", (600, 300), 90).save(tmp_path / "wide.png")
        write_gallery(tmp_path / "g.html", "t", [Ranking("q", [Hit(0.5, str(tmp_path / "wide.png"), "wide")])])
        assert open_page(tmp_path / "g.html")["widths"] == [192]


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ([], "Nothing to look for"),
            (["--text", "  "], "has no word"),
            (["--text", "xqzvw qqxzj"], "knows no word"),
            (["--text", "left pleural effusion " * 40], "longer than the 40"),
            (["--image", "none.png"], "no image none.png"),
            (["--text", TEXT, "--top", "0"], "--top must be 1 or more"),
            (["--text", TEXT, "--checkpoint", "none/model_pretrain.pt"], "no checkpoint file 'none/model"),
            (["--text", TEXT, "--datalist", "none.json"], "no such datalist"),
            (["--text", TEXT, "--dataset-dir", "none"], "does not exist"),
            (["--text", TEXT, "--images", "none"], "No such folder"),
            (["--text", TEXT, "--images", ".", "--target", "reports"], "has no reports"),
            (["--evaluate", "--images", "."], "has no reports"),
        ],
    )
    def test_input(self, made, tmp_path, monkeypatch, options, words, capsys):
        monkeypatch.chdir(tmp_path)
        base = ["--checkpoint", made / "models" / "model_pretrain.pt", "--output", tmp_path / "out"]
        assert main([*map(str, base), *options]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert words in error
        assert list(tmp_path.iterdir()) == []

    def test_a_broken_image_is_named(self, place, capsys):
        entry = entries_of(place)[3]
        (place / "data" / entry["image"]).write_bytes(b"no image")
        assert run(place, "--text", TEXT) == 2
        error = capsys.readouterr().err
        assert entry["image"] in error
        assert entry["patient"] not in error
        assert not (place / "out").exists()

    def test_a_query_that_is_no_image(self, place, capsys):
        (place / "note.png").write_text("no image")
        assert run(place, "--image", place / "note.png") == 2
        assert "note.png" in capsys.readouterr().err

    def test_a_checkpoint_of_another_architecture(self, place, capsys):
        path = place / "models" / "model.json"
        path.write_text(path.read_text().replace('"embed_dim": 16', '"embed_dim": 32'))
        assert run(place, "--text", TEXT) == 2
        assert "model_pretrain.pt" in capsys.readouterr().err

    def test_faiss_that_is_not_installed(self, place, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "faiss", None)
        (place / "models" / "model_pretrain.pt").unlink()  # nothing is read before
        assert run(place, "--text", TEXT, "--backend", "faiss") == 2
        assert 'pip install "monai-mgca[faiss]"' in capsys.readouterr().err
        with pytest.raises(DataError, match=r"monai-mgca.faiss"):
            EmbeddingIndex(torch.ones(2, 4), "faiss")
