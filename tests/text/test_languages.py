# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Reports that are not English: letters, sentence ends, words and headings."""

from __future__ import annotations

import json

import pytest

from monai_mgca.data import load_datalist, report_letters
from monai_mgca.data.check.check_datalist import check_datalist
from monai_mgca.data.sources.report_folder import collect_folder
from monai_mgca.text import split_sections
from monai_mgca.text.letters import keep_letters
from monai_mgca.text.sentence_cleaner import SentenceCleaner
from monai_mgca.text.words import count_words, find_words
from monai_mgca.transforms import CleanReport, CleanReportd
from monai_mgca.utils import DataError

REPORTS = [
    ("Corazón de tamaño normal. Opacidad de 1.5 cm.", ["corazón de tamaño normal", "opacidad de 1.5 cm"]),
    ("1. Opacité de 2,5 cm env. à gauche.\n2. Cœur normal.", ["opacité de 2,5 cm env à gauche", "cœur normal"]),
    ("Größe ca. 1½ cm, z. B. basal. Kein Erguß.", ["größe ca 1.5 cm z b basal", "kein erguß"]),
    ("Fraktur der 3. Rippe li. Kein Erguss.", ["fraktur der 3 rippe li", "kein erguss"]),
    ("Sin derrame p. ej. basal izq. ni nódulos. Normal.", ["sin derrame p ej basal izq ni nódulos", "normal"]),
    ("a) Coração normal. b) Sem lesões. (3) Ossos íntegros.", ["coração normal", "sem lesões", "ossos íntegros"]),
    ("Conclusione invariata, cfr. esame prec. Non è dx.", ["conclusione invariata cfr esame prec", "non è dx"]),
    (
        "Beeld o.a. passend bij decompensatie.Geen infiltraat.",
        ["beeld o a passend bij decompensatie", "geen infiltraat"],
    ),
    ("1、心影大小正常。2、两肺清晰，未见3．5cm结节；无积液！", ["心影大小正常", "两肺清晰 未见3.5cm结节 无积液"]),
    ("心影正常\n两肺清晰", ["心影正常", "两肺清晰"]),
    ("Легкие без изменений. Очаг 1,5 см.", ["легкие без изменений", "очаг 1,5 см"]),
    ("फेफड़े साफ हैं। हृदय सामान्य है।", ["फेफड़े साफ हैं", "हृदय सामान्य है"]),
    ("هل القلب طبيعي؟ لا يوجد انصباب.", ["هل القلب طبيعي", "لا يوجد انصباب"]),
    ("İnfiltrasyon yok ___ XXXX. Kalp [** Ad **] normal.", ["infiltrasyon yok", "kalp normal"]),
    ("Cora\u0301zon ﬁbrosis cm².", ["corázon fibrosis cm2"]),
    ("Sí.", []),
]


@pytest.mark.parametrize(("text", "expected"), REPORTS)
def test_sentences_in_all_letters(text, expected):
    clean = CleanReport(letters="all")
    assert clean(text) == expected
    assert clean.has_words(text) == bool(expected)
    assert clean.why_dropped(text) == (None if expected else "report too short")


def test_english_is_the_same_in_both():
    for text in (
        "No effusion.  Lungs ARE clear!",
        "1. Mild edema.\n2. 1.8 cm mass.\n3.No rib fracture.",
        "Compared to ___, XXXX lungs. [** Name 3 **] clear. Mild edema.No pneumothorax.",
        "tube_tip at T8. A 2.5 cm nodule, was .8 cm. 1. 2. 3. No focal consolidation",
    ):
        assert SentenceCleaner(letters="all")(text) == SentenceCleaner()(text)


def test_ill_letters():
    with pytest.raises(ValueError, match="letters must be one of ascii, all, got 'latin'"):
        CleanReport(letters="latin")
    with pytest.raises(ValueError, match="official cleaning keeps ASCII alone"):
        CleanReport(official=True, letters="all")
    assert CleanReportd("report", letters="all")({"report": "Cœur très normal"})["report"] == ["cœur très normal"]
    with pytest.raises(DataError, match="--report_letters all"):
        CleanReportd("report")({"report": "Легкие без изменений"})


def test_letters_have_one_form():
    assert keep_letters("Gro\u0308ße ﬂach Ａ１") == "Größe flach A1"
    assert keep_letters("plain") == "plain"


def test_words():
    def words(text: str) -> list[str]:
        return [text[begin:end] for begin, end in find_words(text)]

    assert words("Herz: 1.5 x 2,5cm (T8), .5, v1.2; 3. हृदय") == [
        "Herz",
        "1.5",
        "x",
        "2,5cm",
        "T8",
        ".5",
        "v1.2",
        "3",
        "हृदय",
    ]
    assert words("...") == []
    assert (count_words("sin derrame"), count_words("无胸腔积液"), count_words("")) == (2, 5, 0)


SECTIONS = [
    ("TÉCNICA: PA y lateral.\nHALLAZGOS: Corazón normal.\nIMPRESIÓN: Normal.", "Corazón normal.", "Normal."),
    ("Befund:\nHerz normal groß.\nBeurteilung:\nUnauffällig.", "Herz normal groß.", "Unauffällig."),
    ("Résultats : Cœur normal.\nConclusion : Normal.", "Cœur normal.", "Normal."),
    ("Achados: Coração normal.\nImpressão: Normal.", "Coração normal.", "Normal."),
    ("Reperto: Cuore nei limiti.\nConclusioni: Normale.", "Cuore nei limiti.", "Normale."),
    ("Bevindingen: Hart normaal.\nConclusie: Normaal.", "Hart normaal.", "Normaal."),
    ("检查所见：双肺清晰，心影不大。印象：未见异常。", "双肺清晰，心影不大。", "未见异常。"),
    ("姓名：张三\n临床病史：咳嗽\n【影像所见】双肺清晰。\n【诊断意见】：正常。", "双肺清晰。", "正常。"),
    ("影像所见\n双肺清晰\n印象\n未见异常", "双肺清晰", "未见异常"),
    ("影像學表現：雙肺清晰。\n建議：隨訪。\n診斷：正常。", "雙肺清晰。", "正常。"),
]


@pytest.mark.parametrize(("text", "findings", "impression"), SECTIONS)
def test_headings(text, findings, impression):
    sections = split_sections(text)
    assert (sections["findings"], sections["impression"]) == (findings, impression)


def test_a_datalist_says_which_letters_its_reports_keep(tmp_path):
    """Made with all letters, it is checked and loaded with them; without, the same reports are dropped."""
    for number, report in enumerate(("双肺清晰，心影不大。", "Легкие без изменений.", "Sin derrame pleural.")):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([number]) * 80)
        (tmp_path / f"{number}.txt").write_text(report, encoding="utf-8")
    path = tmp_path / "datalist.json"
    printed = collect_folder(tmp_path, tmp_path, letters="all").write(path, fractions=(1, 0, 0))
    assert "dropped: 0" in printed
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["letters"] == report_letters(path) == "all"
    reasons = {problem.reason for problem in check_datalist(path)}
    assert not any("Latin" in reason for reason in reasons)
    with pytest.raises(DataError) as error:  # no image can be read, but the reports can
        load_datalist(path, "training")
    assert "Latin" not in str(error.value)
    document["letters"] = "ascii"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError, match="not in Latin letters: Chinese"):
        load_datalist(path, "training")
    path.write_text(json.dumps({**document, "letters": "some"}), encoding="utf-8")
    with pytest.raises(DataError, match="'letters', of the reports, must be one of ascii, all"):
        load_datalist(path, "training")
    assert report_letters(tmp_path / "none.json") == "ascii"
    assert "letters" not in json.loads(_written(collect_folder(tmp_path, tmp_path), path))


def _written(collection, path):
    collection.write(path, fractions=(1, 0, 0))
    return path.read_text(encoding="utf-8")
