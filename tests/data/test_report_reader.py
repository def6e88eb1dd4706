# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

import csv
import json

import pytest
from PIL import Image

from monai_mgca.__main__ import main
from monai_mgca.data.sources.open_i import read_report_xml
from monai_mgca.data.sources.tables.csv_table import report_or_text
from monai_mgca.text.report_reader import ReportReader
from monai_mgca.transforms import CleanReport

STRUCTURED = (
    "EXAM: CHEST SECRETWORD\n\nTECHNIQUE: Two views.\nFINDINGS:<br/>LUNGS: opacity on the left\n"
    "PLEURA: Clear &amp; dry.\nBILDTEXT: here.\nIMPRESSION:\nPneumonia"
)
READ = "Pneumonia. LUNGS: opacity on the left. PLEURA: Clear & dry. BILDTEXT: here."
FREE = "The lungs are clear.<br>No effusion"


def run(*args):
    return main([*([] if args[0] == "check" else ["data"]), *map(str, args)])


@pytest.fixture
def place(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "text").mkdir()
    for i, text in enumerate([STRUCTURED, STRUCTURED, FREE, "双肺纹理清晰，心影大小正常。", "Легкие без изменений."]):
        Image.new("L", (20, 20), i).save(tmp_path / "images" / f"{i}.png")
        (tmp_path / "text" / f"{i}.txt").write_text(text, encoding="utf-8")
    return tmp_path


def check_printed(printed):
    for line in (
        "left out: 4 words under TECHNIQUE in 2 reports",
        "left out: 4 words under EXAM in 2 reports",
        "markup taken away: HTML in 3 reports",
        "dropped: 1 (report not in Latin letters: Chinese)",
        "dropped: 1 (report not in Latin letters: Cyrillic)",
    ):
        assert line in printed.splitlines()
    assert "SECRETWORD" not in printed
    assert "views" not in printed.lower()


def test_folder(place, capsys):
    out = place / "list.json"
    options = ("--images", place / "images", "--reports", place / "text", "--fractions", 1, 0, 0, "--output", out)
    assert run("folder", *options) == 0
    check_printed(capsys.readouterr().out)
    reports = [entry["report"] for entry in json.loads(out.read_text())["training"]]
    assert reports == [READ, READ, "The lungs are clear.\nNo effusion"]
    (place / "h.json").write_text('{"left_out": ["Bildtext"]}')
    assert run("folder", *options, "--headings", place / "h.json") == 0
    assert "left out: 2 words under BILDTEXT in 2 reports" in capsys.readouterr().out
    assert run("folder", *options, "--headings", place / "none.json") == 2


def test_csv(place, capsys):
    rows = [("image", "report", "f", "i")]
    for i in range(5):
        text = (place / "text" / f"{i}.txt").read_text(encoding="utf-8")
        rows += [(f"{i}.png", text, "Clear&nbsp;lungs", "No disease")] * (1 + (i == 0))  # a row twice counts once
    with (place / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    options = ("csv", place / "t.csv", "--image", "image", "--dataset-dir", place / "images", "--fractions", 1, 0, 0)
    out = place / "list.json"
    assert run(*options, "--report", "report", "--output", out) == 0
    check_printed(capsys.readouterr().out)
    assert run(*options, "--findings", "f", "--impression", "i", "--output", out) == 0
    assert "markup taken away: HTML in 5 reports" in capsys.readouterr().out
    assert json.loads(out.read_text())["training"][0]["report"] == "No disease. Clear lungs"


def test_open_i(place, capsys):
    labels = {"FINDINGS": "Clear lungs", "IMPRESSION": "Normal", "INDICATION": "Cough for days", "OTHER": "Old scar"}
    text = "".join(f'<AbstractText Label="{label}">{text}</AbstractText>' for label, text in labels.items())
    xml = f'<e><uId id="CXR1"/><a>{text}<AbstractText Label="FINDINGS"/></a><parentImage id="CXR1_1_IM-0001-3001"/></e>'
    (place / "xml").mkdir()
    (place / "xml" / "1.xml").write_text(xml)
    Image.new("L", (20, 20)).save(place / "images" / "CXR1_1_IM-0001-3001.png")
    assert read_report_xml(place / "xml" / "1.xml")[1] == "Normal. Clear lungs. Old scar"
    options = ("--reports", place / "xml", "--images", place / "images", "--fractions", 1, 0, 0)
    assert run("open_i", *options, "--output", place / "list.json") == 0
    assert "left out: 3 words under INDICATION in 1 reports" in capsys.readouterr().out


def test_check_reports_what_is_odd(place, capsys):
    texts = (FREE, "The lungs are clear, see 双肺.", "双肺纹理清晰，心影大小正常。")
    entries = [{"id": str(i), "image": f"{i}.png", "report": t, "patient": str(i)} for i, t in enumerate(texts)]
    (place / "images" / "list.json").write_text(json.dumps({"training": entries}))
    assert run("check", place / "images" / "list.json", "--keep", "constant") == 1
    printed = capsys.readouterr().out
    for line in ("1  report has markup", "1  report partly not in Latin letters", "1  report not in Latin letters"):
        assert line in printed
    assert "  0.png: HTML" in printed
    assert "  1.png: Chinese" in printed
    assert "  2.png: Chinese" in printed
    assert "clear" not in printed
    assert "双" not in printed


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("<report><findings>Clear lungs.</findings><impression>Normal.</impression></report>", "Normal. Clear lungs."),
        ("<p><b>FINDINGS</b></p><p>Clear lungs</p><p><b>IMPRESSION:</b> Normal</p>", "Normal. Clear lungs"),
        (r"{\rtf1\ansi {\b FINDINGS:}\par Clear lungs\par {\b IMPRESSION:}\par Normal}", "Normal. Clear lungs"),
        (r"TECHNIQUE: PA.\.br\FINDINGS:\.br\Clear lungs\.br\IMPRESSION:\.br\Normal", "Normal. Clear lungs"),
        ("FINDINGS:_x000D_\nClear lungs_x000D_\nIMPRESSION:_x000D_\nNormal", "Normal. Clear lungs"),
        (r"FINDINGS: Clear lungs.\nIMPRESSION: Normal.", "Normal. Clear lungs."),
        ("FINDINGS:\r\nClear lungs\r\nIMPRESSION:\rNormal", "Normal. Clear lungs"),
        ("Clear lungs, a < b", "Clear lungs, a < b"),
    ],
)
def test_headings_in_markup(text, report):
    assert report_or_text(text) == report
    assert ReportReader().whole(report).report in (report, report.strip())


def test_parts_are_not_glued():
    assert CleanReport()(ReportReader().parts("Clear lungs", "Normal chest").report) == ["normal chest", "clear lungs"]
    assert ReportReader().parts("", "Normal chest").report == "Normal chest"
    assert ReportReader().parts("Clear.", "").report == "Clear."


CASES = "report_subheadings_lose_the_findings"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("structured", ("consolidation", "effusion", "heart", "fracture", "pneumonia")),
        ("findings_only", ("nodules", "effusion", "wall", "bones")),
        ("final_impression", ("consolidation", "pneumonia")),
        ("opinion", ("consolidation", "pneumonia")),
        ("hallazgos", ("izquierdo", "cardiomegalia")),
        ("resultat", ("gauche", "abondance")),
    ],
)
def test_cases(shared, name, words):
    report = report_or_text((shared / "cases" / CASES / f"{name}.txt").read_text(encoding="utf-8")).lower()
    assert all(word in report for word in words)


@pytest.mark.parametrize(
    ("findings", "impression"),
    [
        ("FINDINGS: Clear lungs.", "IMPRESSION: Normal."),
        ("Findings:\nClear lungs.", " Impression -\n Normal."),
        ("Befund: Clear lungs.", "Beurteilung:\nNormal."),
        ("**FINDINGS**\nClear lungs.", "IMPRESSION\nNormal."),
        ("Clear lungs.", "Normal."),
    ],
)
def test_a_part_may_bear_its_heading(findings, impression):
    assert ReportReader().parts(findings, impression).report.split() == ["Normal.", "Clear", "lungs."]
    assert ReportReader().parts("No new findings: clear", "").report == "No new findings: clear"
