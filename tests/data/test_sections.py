# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import pytest

from monai_mgca.data import join_report, report_from_text, split_sections

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
