# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

import pytest

from monai_mgca.text.letters import foreign_scripts, to_latin
from monai_mgca.transforms import CleanReport, CleanReportd
from monai_mgca.utils import DataError

WRITTEN = [
    ("Größe GROẞ Straße", "Grosse GROSS Strasse"),
    ("Høyre øket væske på", "Hoyre oket vaeske pa"),
    ("Łagodny naciek w płucu", "Lagodny naciek w plucu"),
    ("Không thấy tràn dịch đáng kể", "Khong thay tran dich dang ke"),
    ("Þór það Œdème œuf ŋ ħ ŧ ı İ", "Thor thad OEdeme oeuf ng h t i I"),
    ("ağız akciğer ışık", "agiz akciger isik"),
    ("Plaučių ţesut žīvot", "Plauciu tesut zivot"),
    ("1½ cm", "1.5 cm"),
    ("1 ½ to 2¾ cm, ¼", "1.5 to 2.75 cm, 0.25"),
    ("T4½", "T4 0.5"),
    ("⅓ ⅛", "0.333 0.125"),
    ("10³/µl, cm², CO₂, x10⁹/L", "10 3/ul, cm2, CO2, x10 9/L"),
    ("１．５ ｃｍ", "1.5 cm"),
    ("lun\u00adgs z\u200bero a\u00a0b \ufeffc", "lungs zero a b c"),
    ("2·5 × 3 cm", "2.5 x 3 cm"),
    ("α1-antitrypsin, β-blocker", "alpha1-antitrypsin, beta-blocker"),
    ("e\u0301te\u0301 ﬁbrosis ١٢", "ete fibrosis 12"),
    ("plain", "plain"),
]


@pytest.mark.parametrize(("text", "written"), WRITTEN)
def test_to_latin(text, written):
    assert to_latin(text) == written
    assert to_latin(written) == written


def test_clean_report_keeps_letters_and_numbers():
    assert CleanReport()("Größe normal. 1½ cm Łagodny.") == ["grosse normal", "1.5 cm lagodny"]
    assert CleanReport(official=True)("Größe normal. 1½ cm Łagodny.") == ["gre normal", "1 cm agodny"]


SCRIPTS = [
    ("双肺纹理清晰，心影大小正常，未见胸腔积液。", "Chinese"),
    ("Легкие без очаговых изменений. CT 2.5 cm.", "Cyrillic"),
    ("Οι πνεύμονες είναι καθαροί", "Greek"),
    ("الرئتان صافيتان ١٢", "Arabic"),
    ("ריאות ללא ממצא", "Hebrew"),
    ("폐 야는 깨끗합니다", "Korean"),
    ("肺野に異常なし。 カタカナ ひらがな", "Japanese, Chinese"),
    ("ปอดปกติทั้งสองข้าง", "Thai"),
]


@pytest.mark.parametrize(("text", "script"), SCRIPTS)
def test_another_script_is_said_to_be_one(text, script):
    clean = CleanReport()
    assert clean(text) == []
    assert not clean.has_words(text)
    assert clean.why_dropped(text) == f"report not in Latin letters: {script}"
    with pytest.raises(DataError, match=f"not in Latin letters .{script}.") as error:
        CleanReportd("report")({"image": "a.png", "report": text})
    assert not set(text.split()) & set(str(error.value).split()) - {"CT", "cm."}


def test_the_share_decides():
    text = "The lungs are clear, no effusion is seen. 双肺清晰"
    assert CleanReport()(text) == ["the lungs are clear no effusion is seen"]
    assert CleanReport().why_dropped(text) is None
    assert foreign_scripts(to_latin(text))[0] == {"Chinese": 4}
    assert CleanReport().why_dropped("双肺清晰 CT") == "report not in Latin letters: Chinese"
    assert CleanReport().why_dropped("Clear.") == "report too short"
    assert CleanReport().why_dropped("12 34 5") is None
