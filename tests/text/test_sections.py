# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from monai_mgca.text import join_report, report_from_text, split_sections
from monai_mgca.text.headings import Headings
from monai_mgca.text.sections import parse_report
from monai_mgca.utils import DataError

MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough  // eval for infection

 COMPARISON:  None.

 FINDINGS:

 There is no focal consolidation.  Heart size: normal.

 IMPRESSION:

 AP chest compared to ___:  No acute process.

 RECOMMENDATION(S):  Follow up.
"""


def test_mimic_report():
    assert split_sections(MIMIC) == {
        "other": "CHEST (PA AND LAT) ___F with cough // eval for infection None. Follow up.",
        "findings": "There is no focal consolidation. Heart size: normal.",
        "impression": "AP chest compared to ___: No acute process.",
    }
    expected = "AP chest compared to ___: No acute process. There is no focal consolidation. Heart size: normal."
    assert report_from_text(MIMIC) == expected


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("FINDINGS: Clear lungs. IMPRESSION: Normal.", "Normal. Clear lungs."),
        ("Lungs are unremarkable IMPRESSION: Normal.", "Normal."),
        ("Findings: Clear lungs.\nImpression : Normal.", "Normal. Clear lungs."),
        ("Clear. Impression: Normal.", "Normal."),
        ("FINDINGS AND IMPRESSION: Clear lungs.", "Clear lungs."),
        ("CONCLUSION: Normal.", "Normal."),
        ("IMPRESSION:\n1. Edema.\nIMPRESSION: 2. Effusion.", "1. Edema. 2. Effusion."),
        (" PA AND LATERAL CHEST RADIOGRAPH:\n Clear lungs.\n\n IMPRESSION: Normal.", "Normal. Clear lungs."),
        (" WET READ: FINDINGS: edema.\n FINAL REPORT\n FINDINGS: No edema.", "No edema."),
        ("Indication: Cough Findings: Clear lungs Impression: Normal.", "Normal. Clear lungs"),
        ("The findings: none of note were our impression of it.", ""),
        ("INDICATION: Cough.", ""),
        ("", ""),
    ],
)
def test_report_from_text(text, report):
    assert report_from_text(text) == report


def test_join_report():
    assert join_report("Clear lungs.", " Normal. ") == "Normal. Clear lungs."
    assert join_report("", "Normal.") == "Normal."
    assert join_report("Clear lungs.", "") == "Clear lungs."


KEPT = {
    "sub-headings": (
        "EXAM: CHEST 2 VIEWS\n\nFINDINGS:\nLUNGS: Nodule.\nHEART/MEDIASTINUM: Normal.\nCHEST WALL: Mass.\n"
        "LINES AND TUBES: None.\nA B C D: here.\nPA CHEST: there.\n\nIMPRESSION:\nNodule.",
        "Nodule.",
        "LUNGS: Nodule. HEART/MEDIASTINUM: Normal. CHEST WALL: Mass. LINES AND TUBES: None. A B C D: here. "
        "PA CHEST: there.",
        {"EXAM": 3},
    ),
    "sub-headings alone": (
        "LUNGS: Nodules\nPLEURA: Effusion\nCHEST WALL: No mass",
        "",
        "LUNGS: Nodules. PLEURA: Effusion. CHEST WALL: No mass",
        {},
    ),
    "lines about a nodule": (
        "FINDINGS:\nNODULE 1:\nLOCATION: right upper lobe\nDATE: stable since 2010\nCONTRAST: enhances\nIMPRESSION: x.",
        "x.",
        "NODULE 1: LOCATION: right upper lobe. DATE: stable since 2010. CONTRAST: enhances",
        {},
    ),
    "no heading of findings": (
        "EXAM: CHEST\nHISTORY: cough\nLEFT SIDE: opacity\nLUNGS: clear\nIMPRESSION: pneumonia",
        "pneumonia",
        "LEFT SIDE: opacity. LUNGS: clear",
        {"EXAM": 1, "HISTORY": 1},
    ),
    "paragraphs": (
        "INDICATION: cough.\n\nCOMPARISON: None.\n\nThe lungs are clear.\nHeart normal.\n\nIMPRESSION: Normal.",
        "Normal.",
        "The lungs are clear. Heart normal.",
        {"INDICATION": 1, "COMPARISON": 1},
    ),
    "lines about the patient": (
        "Name: X Y\nAge: 50\nInvestigation: X-ray\n\nLung fields are clear.\nImpression: Normal.\nAdvice: none",
        "Normal.",
        "Lung fields are clear.",
        {"NAME": 2, "AGE": 1, "INVESTIGATION": 1, "ADVICE": 1},
    ),
    "before the impression": ("Two views. Lungs clear.\nIMPRESSION: Normal.", "Normal.", "Two views. Lungs clear.", {}),
    "before the findings": ("CHEST CT\nFINDINGS: Clear.", "", "Clear.", {"before the first heading": 2}),
    "preliminary": ("WET READ: edema.\n FINAL REPORT\n FINDINGS: No.", "", "No.", {"before FINAL REPORT": 3}),
    "findings again": ("FINDINGS: A.\nTECHNIQUE: PA view.\nLUNGS: clear", "", "A. LUNGS: clear", {"TECHNIQUE": 2}),
    "signature": (
        "FINDINGS: A.\nIMPRESSION: B.\n\nElectronically signed by: Dr X\nDate: 1/1/2010",
        "B.",
        "A.",
        {"ELECTRONICALLY SIGNED BY": 2, "DATE": 1},
    ),
    "words, no headings": (
        "Presentation: cough. Imaging Notes: Lungs clear. Suggestion: none. Discussion: A case.",
        "",
        "Presentation: cough. Imaging Notes: Lungs clear. Suggestion: none. A case.",
        {},
    ),
    "wrapped": ("No significant\nfindings in the prior\nexamination\nhere.", "", None, {}),
    "body": ("FINDINGS: A.\nVERTEBRAL BODY: T12. STERNAL BODY: ok", "", "A. VERTEBRAL BODY: T12. STERNAL BODY: ok", {}),
    "qualified": ("FINDINGS: A.\nCARDIAC FINDINGS: big.\nFINAL IMPRESSION: B.", "B.", "A. CARDIAC FINDINGS: big.", {}),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_and_what_is_counted(name):
    text, impression, findings, left_out = KEPT[name]
    parts = parse_report(text)
    assert (parts.impression, parts.findings) == (impression, text if findings is None else findings)
    assert dict(parts.left_out) == left_out


WRITINGS = (
    "FINDINGS: Clear lungs.\nIMPRESSION: Normal.",
    "findings: Clear lungs.\nimpression: Normal.",
    "Findings:\nClear lungs.\nImpression:\nNormal.",
    "FINDINGS\nClear lungs.\nIMPRESSION\nNormal.",
    "Findings\nClear lungs.\n\nImpression\nNormal.",
    "findings\nClear lungs.\nimpression\nNormal.",
    "FINDINGS - Clear lungs. IMPRESSION - Normal.",
    "Findings – Clear lungs.\nImpression – Normal.",
    "**FINDINGS:** Clear lungs.\n**IMPRESSION:** Normal.",
    "## Findings\nClear lungs.\n### Impression\nNormal.",
    "1. FINDINGS: Clear lungs.\n2. IMPRESSION: Normal.",
    "1) FINDINGS\nClear lungs.\n2) IMPRESSION\nNormal.",
    "I. FINDINGS\nClear lungs.\nII. IMPRESSION\nNormal.",
    "Indication: cough Findings: Clear lungs. Impression: Normal.",
    "1. Findings - Clear lungs.\n2. Impression - Normal.\n3. Recommendation - Follow up.",
    "Findings: Clear lungs.\nASSESSMENT/PLAN: Normal.",
    "[Indication] cough\n[Findings] Clear lungs. [Impression] Normal.",
    "C. Findings\nClear lungs.\nIV) Impression\nNormal.",
    "=== FINDINGS ===\nClear lungs.\n--- IMPRESSION ---\nNormal.",
    "[FINDINGS]\nClear lungs.\n[IMPRESSION]\nNormal.",
    "FINDINGS Clear lungs. IMPRESSION Normal.",
    "FINDINGS\tClear lungs.\nIMPRESSION\tNormal.",
    "REPORT: Clear lungs.\nOPINION: Normal.",
    "Body: Clear lungs.\nSummary: Normal.",
    "OBSERVATIONS: Clear lungs.\nDIAGNOSIS: Normal.",
    "Result: Clear lungs.\nConclusions: Normal.",
    "TECHNIQUE AND FINDINGS: Clear lungs.\nIMPRESSION/RECOMMENDATION: Normal.",
    "CT FINDINGS: Clear lungs.\nRadiologist's Impression: Normal.",
    "Indicación: tos\nHallazgos: Clear lungs.\nImpresión diagnóstica: Normal.",
    "Motivo: tos.\nINFORME:\nClear lungs.\nCONCLUSIÓN:\nNormal.",
    "Klinische Angaben: Husten\nBefund:\nClear lungs.\nBeurteilung:\nNormal.",
    "Fragestellung: ?\nTechnik: CT\nRöntgenbefund: Clear lungs.\nZusammenfassung: Normal.",
    "Indication : toux\nRésultats : Clear lungs.\nConclusion : Normal.",
    "Renseignements cliniques : toux\nCOMPTE-RENDU : Clear lungs.\nSynthèse : Normal.",
    "Técnica: TC\nAchados:\nClear lungs.\nImpressão diagnóstica:\nNormal.",
    "Indicação clínica: tosse\nLAUDO: Clear lungs.\nCONCLUSÃO: Normal.",
    "Técnica: RX\nANÁLISE:\nClear lungs.\nImpressão: Normal.",
    "Clinical History:\n cough\nReport:\n Clear lungs.\nImpression:\n Normal.\nPrimary Diagnostic Code: 1\nVerifier: A",
    "Radiologic findings:\nClear lungs.\nDiagnostic impression:\nNormal.",
    "IMAGE FINDINGS: Clear lungs.\nTHORACIC IMPRESSION: Normal.",
    "FINDINGS: Clear lungs.\nIMP: Normal.\nAdv: Clinical correlation.",
    "Quesito clinico: tosse\nReferto: Clear lungs.\nConclusioni: Normal.",
    "Klinische gegevens: hoest\nVerslag:\nClear lungs.\nConclusie:\nNormal.",
    "Klinische vraag: pneumonie?\nVerslag:\nClear lungs.\nConclusie: Normal.",
    "Fråga: feber\nUtlåtande:\nClear lungs.\nBedömning: Normal.",
    "Vraagstelling: ?\nBevindingen: Clear lungs.\nSamenvatting: Normal.",
)


@pytest.mark.parametrize("text", WRITINGS)
def test_headings_however_they_are_written(text):
    parts = parse_report(text)
    assert (parts.impression, parts.findings) == ("Normal.", "Clear lungs.")
    assert join_report(parts.findings, parts.impression) == report_from_text(text)


def test_capitals_within_a_line_take_nothing_away():
    text = "The heart is large Other Findings: small effusion"
    assert parse_report(text).findings.startswith("The heart is large")
    assert not parse_report(text).left_out
    assert not parse_report("FINDINGS: Chest Comparison: no change Plan: none").left_out


def test_mimic_takes_only_what_stands_under_a_heading():
    text = "INDICATION: cough.\n\nThe lungs are clear.\n\nIMPRESSION: Normal."
    parts = parse_report(text, named_only=True)
    assert (parts.impression, parts.findings) == ("Normal.", "")
    assert parts.left_out == {"INDICATION": 5}
    assert parse_report("Lungs clear.", named_only=True) == parse_report("", named_only=True)
    assert report_from_text(MIMIC) == join_report(*(getattr(parse_report(MIMIC, named_only=True), p) for p in PARTS))


PARTS = ("findings", "impression")


def test_users_add_headings(tmp_path):
    text = "BILDTEXT: Clear lungs.\nRECOMMENDATION: None."
    assert parse_report(text).findings == "BILDTEXT: Clear lungs."
    (tmp_path / "h.json").write_text('{"findings": ["Bildtext"], "impression": ["recommendation"]}')
    parts = parse_report(text, Headings.read(tmp_path / "h.json"))
    assert (parts.impression, parts.findings) == ("None.", "Clear lungs.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"finding": ["x"]}', "no kind of heading. Did you mean 'findings'"),
        ('{"findings": "x"}', "must be a list"),
        ('{"findings": ["-"]}', "must be a list of words"),
        ("[1]", "no JSON object"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_files_of_headings_that_are_none(tmp_path, text, message):
    path = tmp_path / "h.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        Headings.read(path)
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match=r"none.json"):
        Headings.read(tmp_path / "none.json")
