# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Reports of chest CTs: their sections, and lists that were written on one line."""

from __future__ import annotations

import pytest

from monai_mgca.text.report_reader import ReportReader
from monai_mgca.text.sentence_cleaner import SentenceCleaner

LINES = """CLINICAL INFORMATION: Cough for two weeks.
TECHNIQUE: Axial sections of 1.5 mm, without contrast.
COMPARISON: None.
FINDINGS: The airways are patent. Lungs: a nodule of 5 mm in the lingula.
Upper abdomen: a cyst of the liver.
IMPRESSION:
1. Nodule of 5 mm.
2. No effusion."""
ONE_LINE = (
    "Clinical Information: Cough. Technique: Thin sections. Findings: The airways are patent. Impressions: 1. Nodule in"
    " the lingula. 2. Hiatal hernia."
)


class TestSections:
    def test_lines(self):
        reading = ReportReader().whole(LINES)
        found = "The airways are patent. Lungs: a nodule of 5 mm in the lingula. Upper abdomen: a cyst of the liver."
        assert reading.report == f"1. Nodule of 5 mm. 2. No effusion. {found}"
        assert reading.left_out == {"CLINICAL INFORMATION": 4, "TECHNIQUE": 7, "COMPARISON": 1}

    def test_one_line(self):
        reading = ReportReader().whole(ONE_LINE)
        assert reading.report == "1. Nodule in the lingula. 2. Hiatal hernia. The airways are patent."
        assert reading.left_out == {"CLINICAL INFORMATION": 1, "TECHNIQUE": 2}

    @pytest.mark.parametrize("heading", ["Clinical data", "Scan protocol", "Imaging technique", "Radiation dose"])
    def test_left_out(self, heading):
        reading = ReportReader().whole(f"{heading}: as said before. Findings: Emphysema. Conclusion: No nodule.")
        assert reading.report == "No nodule. Emphysema."

    def test_no_headings(self):
        """Findings and impression in one, as translated reports have them: nothing is lost."""
        text = "No nodule. As far as can be seen: no mass. Note: the base is cut off. \u2022 Emphysema"
        assert ReportReader().whole(text).report == text


@pytest.mark.parametrize("letters", ["ascii", "all"])
class TestSentences:
    @pytest.mark.parametrize(
        ("text", "sentences"),
        [
            ("Clear lungs \u2022 Mild emphysema \u2022Hiatal hernia", 3),
            ("Clear lungs. \u2022 Mild emphysema. \u00b7 Hiatal hernia", 3),
            ('Clear lungs " Mild emphysema. " Hiatal hernia', 3),
            ('"Clear lungs." Mild emphysema." Hiatal hernia."', 3),
            ("\u201cClear lungs.\u201d Mild emphysema.\u201dHiatal hernia", 3),
            ("Clear lungs \u2022 no effusion", 1),
            ('The "crazy paving" pattern of both lungs', 1),
            ('A sign called "Halo" in the lung', 1),
            ("Nodule of 3\u00b75 mm", 1),
        ],
    )
    def test_marks_of_lists(self, text, sentences, letters):
        assert len(SentenceCleaner(letters=letters)(text)) == sentences

    def test_words_stay(self, letters):
        found = SentenceCleaner(letters=letters)("Nodule (cyst?) \u2022 Plaques, 50 % \u2022 Clear bases")
        assert found == ["nodule cyst", "plaques 50", "clear bases"]
