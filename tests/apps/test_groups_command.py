# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""``mgca data csv --group`` and ``mgca groups``, on a table of sixty images."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from monai_mgca.__main__ import main
from monai_mgca.data.sources.tables.table_groups import group_value


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(rows)


@pytest.fixture
def place(tmp_path):
    """Images, a table of their labels, another one of their groups, and the probabilities of some classifier."""
    rng = np.random.default_rng(0)
    names = [f"{i:02d}.png" for i in range(60)]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / name)
    labels = rng.integers(0, 2, 60)
    rows = [[name, f"zzp{name}", label, "val"] for name, label in zip(names, labels, strict=True)]
    write(tmp_path / "labels.csv", [["path", "patient", "edema", "split"], *rows])
    people = [[f"./{name}", "FM"[i % 2], f"{20 + i:03d}Y", "" if i < 3 else "PA"] for i, name in enumerate(names)]
    write(tmp_path / "people.csv", [["path", "sex", "PatientAge", "view"], *people])
    scores = np.where(np.arange(60) % 2, labels, rng.random(60))  # of M always right
    table = [[name, f"{score:.6f}", "a word"] for name, score in zip(names, scores, strict=True)]
    write(tmp_path / "scores.csv", [["image", "edema", "comment"], *table])
    return tmp_path


def make_datalist(place, *options):
    base = ["data", "csv", place / "labels.csv", "--image", "path", "--labels", "edema", "--patient", "patient"]
    groups = ["--split", "split", "--group", "sex", "age=PatientAge", "view"]
    return main([*map(str, [*base, *groups, *options, "--output", place / "datalist.json"])])


def run(place, *options):
    base = [
        "groups",
        "--scores",
        place / "scores.csv",
        "--dataset-dir",
        place,
        "--output",
        place / "out" / "groups.csv",
    ]
    return main([*map(str, [*base, *options])])


def test_groups_of_another_table_come_into_the_datalist(place, capsys):
    assert make_datalist(place, "--group-table", place / "people.csv") == 0
    entries = json.loads((place / "datalist.json").read_text())["validation"]
    assert entries[0]["groups"] == {"sex": "F", "age": 20}
    assert entries[5]["groups"] == {"sex": "M", "age": 25, "view": "PA"}
    assert "groups known, of 60 images: sex of 60, age of 60, view of 57" in capsys.readouterr().out


def test_figures_table_and_picture(place, capsys):
    make_datalist(place, "--group-table", place / "people.csv")
    assert run(place, "--by", "sex", "age", "sex+view", "--bootstrap", "20") == 0
    printed = capsys.readouterr().out
    with open(place / "out" / "groups.csv", newline="") as file:
        rows = {(row["by"], row["group"]): row for row in csv.DictReader(file)}
    assert float(rows["sex", "M"]["auroc"]) == 1
    assert float(rows["sex", "F"]["auroc"]) < 1
    assert float(rows["sex", "gap"]["auroc"]) == pytest.approx(1 - float(rows["sex", "F"]["auroc"]), abs=1e-5)
    assert set(rows) == {
        *(("sex", name) for name in ("F", "M", "gap")),
        *(("age", name) for name in ("18-39", "40-64", "gap")),
        *(("sex+view", name) for name in ("F PA", "M PA", "gap")),
    }
    assert (place / "out" / "groups.png").stat().st_size > 10_000
    assert "Groups of fewer than 20 images" in printed  # of 65 and more
    assert "zzp" not in printed + (place / "out" / "groups.csv").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--by", "weight"), "--by weight: no entry of the section has it; there is age, sex, view"),
        (("--by", "sex", "--classes", "mass"), "--classes mass: both"),
        (("--by", "sex", "--age-bands", "40", "18"), "--age-bands must be ascending"),
        (("--by", "sex", "--section", "test"), "no section 'test'"),
    ],
)
def test_wrong_options_are_named(place, capsys, options, message):
    make_datalist(place, "--group-table", place / "people.csv")
    assert run(place, *options) == 2
    assert message in capsys.readouterr().err
    assert not (place / "out" / "groups.csv").exists()


def test_images_that_the_scores_lack_are_named(place, capsys):
    make_datalist(place, "--group-table", place / "people.csv")
    lines = (place / "scores.csv").read_text().splitlines()
    (place / "scores.csv").write_text("\n".join(lines[:-2]))
    assert run(place, "--by", "sex") == 2
    assert "lacks 2 of 60 images of the section: 58.png, 59.png" in capsys.readouterr().err


def test_a_column_that_is_not_there_and_rows_that_differ_are_refused(place, capsys):
    assert make_datalist(place) == 2
    assert "sex" in capsys.readouterr().err
    with open(place / "people.csv", "a") as file:
        file.write("./07.png,F,099Y,PA\n")
    assert make_datalist(place, "--group-table", place / "people.csv") == 2
    assert "line 62: another row of the same image has other groups" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cell", "value"),
    [("F", "F"), ("045Y", 45), ("018M", 1), ("003W", 0), ("63", 63), ("63.5", 63.5), ("", None), ("NaN", None)],
)
def test_values(cell, value):
    assert group_value(cell) == value
