# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import re
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.handlers import ClassificationSaver
from PIL import Image

from monai_mgca.apps.ground.regions import COLUMNS as GROUNDING
from monai_mgca.apps.ground.regions import GroundingFigures
from monai_mgca.apps.probe.probe_encoders import _write as write_probe
from monai_mgca.apps.retrieve.search import _Set
from monai_mgca.apps.retrieve.search import _write as write_search
from monai_mgca.data.sources.left_out import write_left_out
from monai_mgca.data.sources.tables.rows import read_rows
from monai_mgca.handlers import FigureSaver, RowSaver, TableSaver
from monai_mgca.io.csv_file import cell_text, csv_cell, safe_cell, write_csv
from monai_mgca.visualize.gallery import Hit, Ranking

ROOT = Path(__file__).resolve().parents[2]
FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "''@", "＝1+1", "－1"]
TEXTS = ["", "lung.png", "-0.5", "+1e-5", "-inf", "nan", "'quoted'", "a=b", "1-2", " =1", "ä-ö"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_formula(text):
    assert safe_cell(text) == f"'{text}"
    assert cell_text(safe_cell(text)) == text


@pytest.mark.parametrize("value", [*TEXTS, -0.5, 3, None])
def test_texts_and_numbers_stay(value):
    assert safe_cell(value) is value


@given(st.text())
def test_every_text_comes_back(text):
    assert cell_text(safe_cell(text)) == text


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=2))
def test_a_table_reads_back(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    write_csv(path, [("name", "=also"), *((text, text) for text in texts)])
    assert [(row["name"], row["=also"]) for row in read_rows(path)] == [(text, text) for text in texts]


def cells(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def no_formulas(path):
    found = [cell for row in cells(path) for cell in row]
    assert any(cell.startswith("'=") for cell in found), found
    return all(safe_cell(cell) == cell or cell.startswith("'") for cell in found)


def test_names_that_are_no_utf_8(tmp_path):
    write_csv(tmp_path / "new" / "t.csv", [("\udc80",)])
    assert cells(tmp_path / "new" / "t.csv") == [["\\udc80"]]
    assert csv_cell("=\udc80,") == '"\'=\\udc80,"'


def run(items, *handlers, metrics=None):
    engine = Engine(lambda engine, batch: batch)

    @engine.on(Events.STARTED)
    def _(engine):
        engine.state.metrics |= metrics or {}
        engine.state.metric_details = {"dice": torch.ones(len(items), 1)}

    for handler in handlers:
        handler.attach(engine)
    engine.run([items])


def image(name):
    return MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": name})


def test_every_table_that_the_package_writes(tmp_path):
    write_left_out(tmp_path / "dropped.csv", [("=1.png", "empty")])
    write_probe(tmp_path / "probe.csv", [{"encoder": "=1.pt", "class": "@x", "auroc": 0.5}])
    figures = GroundingFigures()
    figures.rows.append({"encoder": "e", "image": "=1.png", "class": "-x"} | dict.fromkeys(GROUNDING, -0.5))
    figures.write(tmp_path / "grounding.csv")
    items = [{"image": image("=1,2.png"), "pred": torch.tensor([-0.5])}]
    meta = {"batch_transform": lambda batch: [item["image"].meta for item in batch]}
    rows = ClassificationSaver(
        saver=RowSaver(str(tmp_path), "rows.csv"), output_transform=lambda o: [i["pred"] for i in o], **meta
    )
    folder = tmp_path / "eval"
    saver = FigureSaver(str(folder), metrics="*", metric_details="*", **meta)
    run(items, TableSaver(tmp_path / "table.csv", ["@a"]), rows, saver, metrics={"=val,x": -0.5})
    for name in ("dropped", "probe", "grounding", "table", "rows", "eval/metrics", "eval/dice_raw"):
        assert no_formulas(tmp_path / f"{name}.csv"), name
    assert cells(tmp_path / "rows.csv") == [["'=1,2.png", "-0.5"]]
    assert cells(tmp_path / "table.csv") == [["image", "'@a"], ["'=1,2.png", "-0.500000"]]
    assert ["'=val,x", "-0.5"] in cells(folder / "metrics.csv")
    assert next(read_rows(tmp_path / "table.csv")) == {"image": "=1,2.png", "@a": "-0.500000"}


def test_the_table_of_a_search(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "=1.png")
    hits = [Hit(-0.5, str(tmp_path / "=1.png"), "=1.png", "-report")]
    data = _Set([{"image": hits[0].image}], [hits[0].image], ["=1.png"], ["-report"], [""], "images")
    args = Namespace(output=str(tmp_path), with_text=True, target="images")
    table, _ = write_search([Ranking("=query", hits)], data, args, {})
    assert cells(Path(table))[1] == ["'=query", "1", "-0.500000", "'=1.png", "'-report"]


def test_nothing_else_writes_tables():
    sources = {path: path.read_text() for path in (ROOT / "monai_mgca").rglob("*.py") if path.name != "csv_file.py"}
    assert [str(path) for path, text in sources.items() if re.search(r"csv\.(Dict)?[wW]riter|to_csv", text)] == []
    for path in (ROOT / "bundles/mgca/configs").glob("*.json"):
        text = path.read_text()
        assert "monai.handlers.MetricsSaver" not in text, path
        assert ("monai.handlers.ClassificationSaver" in text) == ("RowSaver" in text), path


def test_an_earlier_table_stays_until_the_new_one_is_there(tmp_path):
    (tmp_path / "rows.csv").write_text("before")
    saver = RowSaver(str(tmp_path), "rows.csv")
    assert (tmp_path / "rows.csv").read_text() == "before"
    saver.save(torch.ones(2), {"filename_or_obj": "1.png"})
    saver.finalize()
    assert (tmp_path / "rows.csv").read_bytes() == b"1.png,1.0,1.0\n"
