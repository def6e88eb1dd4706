# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import json
import os
import random

import pytest
from PIL import Image

from monai_mgca.data import load_datalist, split_by_patient, write_datalist
from monai_mgca.data.datalist import content_hash
from monai_mgca.data.paths import file_problem
from monai_mgca.data.split import count_shared_patients, split_name
from monai_mgca.utils import DataError

REPORT = "Clear lungs. No effusion."


def make_entries(folder, number):
    (folder / "images").mkdir(exist_ok=True)
    for i in range(number):
        Image.new("L", (8, 8)).save(folder / "images" / f"{i}.png")
    return [{"id": f"{i}", "image": f"images/{i}.png", "report": REPORT, "patient": f"p{i}"} for i in range(number)]


def write(folder, entries, section="training"):
    write_datalist(folder / "list.json", {section: entries}, name="n", source="s", dropped={"because": 2})
    return folder / "list.json"


def test_write_and_load(tmp_path):
    entries = make_entries(tmp_path, 3)
    document = write_datalist(
        tmp_path / "new" / "list.json",
        {"test": entries[:1], "training": entries[1:]},
        "n",
        "s",
        {"x": 1},
        classes=["a"],
    )
    assert json.loads((tmp_path / "new" / "list.json").read_text()) == document
    assert document["counts"] == {"test": 1, "training": 2}
    assert (document["dropped"], document["classes"], document["name"]) == ({"x": 1}, ["a"], "n")
    assert os.listdir(tmp_path / "new") == ["list.json"]  # no temporary file stays
    data = load_datalist(tmp_path / "new" / "list.json", "training", dataset_dir=tmp_path)
    assert [d["image"] for d in data] == [str(tmp_path / "images" / f"{i}.png") for i in (1, 2)]
    assert data[0]["report"] == REPORT


def test_hash_is_of_the_content(tmp_path):
    entries = make_entries(tmp_path, 2)

    def digest(entries):
        return write_datalist(tmp_path / "list.json", {"training": entries}, "n", "s", {})["hash"]

    assert digest(entries) == digest([dict(reversed(e.items())) for e in entries])
    assert digest(entries) != digest([{**entries[0], "report": "Edema of the lungs."}, entries[1]])


def test_hash_is_that_of_the_canonical_text():
    entry = {"id": "é", "z": [1.5, {"b": None, "a": True}], "report": "\ud800 lone"}
    for document in ({}, {"training": []}, {"validation": [entry], "training": [entry, {"id": "2"}], "test": []}):
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert content_hash(document) == "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def test_known_folders_change_no_answer(tmp_path):
    """A link may lead out of the dataset folder at any place of a path."""
    base, outside = tmp_path / "data", tmp_path / "outside"
    (base / "a").mkdir(parents=True)
    outside.mkdir()
    (base / "a" / "1.png").write_bytes(b"1")
    (base / "a" / "empty.png").write_bytes(b"")
    (outside / "2.png").write_bytes(b"2")
    (base / "out").symlink_to(outside)
    (base / "b").symlink_to(base / "a")
    (base / "a" / "out.png").symlink_to(outside / "2.png")
    (base / "a" / "in.png").symlink_to(base / "a" / "1.png")
    expected = {
        **dict.fromkeys(("a/1.png", "b/1.png", "a/in.png", "a/../a/1.png", str(base / "a" / "1.png")), None),
        **dict.fromkeys(("out/2.png", "a/out.png", "../outside/2.png", "a/..", "out/3.png"), "lies outside"),
        **dict.fromkeys(("a/3.png", "c/1.png", "a/1.png/2.png", "out.png"), "missing"),
        **{"a/empty.png": "zero bytes", "a/1.png\0": "cannot be read (ValueError)", "": "no path"},
    }
    folders = {}
    for path, reason in [*expected.items(), *expected.items()]:
        found = [file_problem(str(base), path), file_problem(str(base), path, folders)]
        assert found[0] == found[1] and (found[0] or "").startswith(reason or ""), path  # noqa: PT018
        assert (found[0] is None) == (reason is None), path
    assert folders["b"] == str(base / "a") + os.sep


def test_failed_write_leaves_the_old_file(tmp_path):
    path = write(tmp_path, make_entries(tmp_path, 1))
    before = path.read_text()
    with pytest.raises(TypeError):
        write(tmp_path, [{"id": object()}])
    with pytest.raises(DataError, match="unknown split val"):
        write(tmp_path, [], section="val")
    assert path.read_text() == before
    assert sorted(os.listdir(tmp_path)) == ["images", "list.json"]


def test_load_errors_name_the_mend(tmp_path):
    path = write(tmp_path, make_entries(tmp_path, 2))
    with pytest.raises(DataError, match=r"Did you mean .*list.json"):
        load_datalist(tmp_path / "lits.json", "training")
    with pytest.raises(DataError, match=r"no section 'validation'; it has training \(2\)"):
        load_datalist(path, "validation")
    with pytest.raises(DataError, match=r"does not exist: .*nowhere"):
        load_datalist(path, "training", dataset_dir=tmp_path / "nowhere")
    for text, message in (
        ("{", "is not JSON"),
        ("[]", "is not a datalist"),
        ('{"training": [1]}', "is not a datalist"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match=message):
            load_datalist(tmp_path / "bad.json", "training")
    (tmp_path / "bad.json").write_text('{"training": []}')
    with pytest.raises(DataError, match="an empty section"):
        load_datalist(tmp_path / "bad.json", "training")


def test_all_bad_files_are_listed_at_once(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    entries = make_entries(folder, 40)
    (folder / "images" / "0.png").unlink()
    (folder / "images" / "1.png").write_bytes(b"")
    (tmp_path / "secret.png").write_bytes(b"x")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    entries[2]["image"], entries[3]["image"], entries[4]["report"] = "../secret.png", "link.png", " "
    entries[5]["image"] = str(tmp_path / "secret.png")
    del entries[6]["image"]
    path = write(folder, entries)
    with pytest.raises(DataError) as e:
        load_datalist(path, "training")
    message = str(e.value)
    for line in (
        *("7 problems", "images/0.png: missing", "images/1.png: zero bytes", "../secret.png: lies outside"),
        *("link.png: lies outside", "images/4.png: empty report", "an entry without 'image'"),
    ):
        assert line in message
    assert "Clear lungs" not in message
    assert "p0" not in message
    for i in range(40):
        (folder / "images" / f"{i}.png").unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"and 21 more"):
        load_datalist(path, "training")


def test_reports_and_other_keys(tmp_path):
    entries = make_entries(tmp_path, 2)
    for entry in entries:
        entry.update(lung_mask=entry["image"], report="")
    path = write(tmp_path, entries)
    data = load_datalist(path, "training", keys=("image", "lung_mask"), report=False)
    assert data[0]["lung_mask"] == data[0]["image"] == str(tmp_path / "images" / "0.png")
    with pytest.raises(DataError, match="'finding_mask'"):
        load_datalist(path, "training", keys="finding_mask", report=False)


def test_split_by_patient_ignores_the_order():
    entries = [{"id": i, "patient": f"p{i % 50}"} for i in range(200)]
    splits = split_by_patient(entries, (0.8, 0.1, 0.1), seed=0)
    assert {k: len(v) for k, v in splits.items()} == {"training": 160, "validation": 20, "test": 20}
    assert count_shared_patients(splits) == 0
    shuffled = random.Random(0).sample(entries, len(entries))
    again = split_by_patient(shuffled, (0.8, 0.1, 0.1), seed=0)
    assert {k: sorted(e["id"] for e in v) for k, v in again.items()} == {
        k: sorted(e["id"] for e in v) for k, v in splits.items()
    }
    other = split_by_patient(entries, (0.8, 0.1, 0.1), seed=1)
    assert {e["id"] for e in other["test"]} != {e["id"] for e in splits["test"]}


def test_split_by_patient_small_and_wrong():
    entries = [{"patient": str(i)} for i in range(3)]
    assert {k: len(v) for k, v in split_by_patient(entries).items()} == {"training": 1, "validation": 1, "test": 1}
    assert list(split_by_patient(entries, (1, 0, 0))) == ["training"]
    with pytest.raises(DataError, match="2 patients cannot make 3 splits"):
        split_by_patient(entries[:2])
    for fractions in ((0.8, 0.1), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1)):
        with pytest.raises(DataError, match="sum to 1"):
            split_by_patient(entries, fractions)


def test_split_names_and_shared_patients():
    assert [split_name(s) for s in ("Train", "valid ", "validate", "TEST", "dev")] == [
        *("training", "validation", "validation", "test"),
        None,
    ]
    splits = {"training": [{"patient": "a"}, {"patient": "a"}, {"patient": "b"}, {}], "test": [{"patient": "a"}, {}]}
    assert count_shared_patients(splits) == 1
