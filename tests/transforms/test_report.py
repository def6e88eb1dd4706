# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

import json

import pytest
from monai.data import MetaTensor

from monai_mgca.transforms import CleanReport, CleanReportd
from monai_mgca.utils import DataError

REPORTS = [
    ("No effusion.  Lungs ARE clear!", ["no effusion", "lungs are clear"]),
    ("A 2.5 cm nodule, was .8 cm.", ["a 2.5 cm nodule was .8 cm"]),  # decimals stay whole
    ("1. Mild edema.\n2. 1.8 cm mass.\n3.No rib fracture.", ["mild edema", "1.8 cm mass", "no rib fracture"]),
    ("1. 2. 3. No focal consolidation", ["no focal consolidation"]),
    ("Compared to ___, XXXX lungs. [** Name 3 **] clear", ["compared to lungs", "clear"]),
    ("Opacité basale—naïve ﬁbrosis µ", ["opacite basale naive fibrosis"]),  # accents, dashes, ligatures
    ("Mild edema.No pneumothorax.", ["mild edema", "no pneumothorax"]),
    ("tube_tip at T8. Stable.", ["tube tip at t8", "stable"]),
    ("...  ?!  1. \n ___", []),
    ("Clear lungs.", []),  # fewer than 3 words
    ("", []),
    ("\ud800 正常胸部 \x00", []),  # any str is taken
]


@pytest.mark.parametrize(("text", "expected"), REPORTS)
def test_sentences(text, expected):
    assert CleanReport()(text) == expected


TEXTS = (
    "a b c",
    "A B C",
    "a b",
    "a.b.c",
    "[** a b c **]",
    "[** a b c",
    "XXXX a ___ b",
    "XXXXa b_c",
    "é à ü",
    "1. 2. 3.",
)


@pytest.mark.parametrize("text", [*TEXTS, "", "1. 2. 3.", "NO FOCAL OPACITY", "No\x1cfocal\topacity", "a 2.5 cm"])
@pytest.mark.parametrize("settings", [{}, {"official": True}, {"min_words": 1}, {"min_words": 2}])
def test_has_words_agrees_with_the_call(text, settings):
    clean = CleanReport(**settings)
    assert clean.has_words(text) == bool(clean(text))


def test_official_equals_the_goldens(shared):
    reports = json.loads((shared / "goldens" / "report_text.json").read_text())["reports"]
    assert len(reports) == 20
    for report in reports:
        sentences = CleanReport(official=True)(report["impression"] + " " + report["findings"])
        assert sentences == (report["sentences"] or []), report["id"]
        assert " ".join(sentences) == report.get("joined", "")


def test_official_defects_do_not_leak():
    text = "There is a 2.5 cm nodule near ___. Normal."
    assert CleanReport(official=True)(text) == ["there is a", "5 cm nodule near ___"]
    assert CleanReport()(text) == ["there is a 2.5 cm nodule near", "normal"]


def test_ill_arg():
    with pytest.raises(TypeError, match="got bytes") as error:
        CleanReport()(b"secret")
    assert "secret" not in str(error.value)


def test_dictionary():
    data = {"image": "a.png", "report": "Lungs are clear. No edema.", "note": "One two three."}
    output = CleanReportd(["report", "note", "absent"], allow_missing_keys=True)(data)
    assert output["report"] == ["lungs are clear", "no edema"]
    assert output["note"] == ["one two three"]
    assert data["report"] == "Lungs are clear. No edema."  # the input stays


@pytest.mark.parametrize("image", ["folder/a.png", MetaTensor([[0.0]], meta={"filename_or_obj": "folder/a.png"}), None])
@pytest.mark.parametrize("report", ["Doe smiles.", None])
def test_dropped_report_is_named_by_its_image_never_by_its_text(image, report):
    with pytest.raises(DataError, match="'report'") as error:
        CleanReportd("report")({"image": image, "report": report})
    assert "Doe" not in str(error.value)
    assert ("folder/a.png" in str(error.value)) == (image is not None)
