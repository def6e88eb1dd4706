# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Signs of personal data in reports, DICOM tags and pictures: found, reported by file, never quoted."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from monai_mgca.apps.check_command import main
from monai_mgca.data import make_sample, read_datalist, write_datalist
from monai_mgca.data.check.burned_in import has_corner_text
from monai_mgca.data.check.check_datalist import check_datalist
from monai_mgca.data.check.phi import report_signs
from monai_mgca.transforms import LoadRadiograph

REPORT = "Clear lungs. No effusion."
SIGNS = {
    "report: a name": [
        "Discussed with Dr. Canary at once.",
        "Mr Canary has no effusion.",
        "Seen by Prof. J. O'Canary.",
        "Patient: Jane Canary. Clear lungs.",
        "Electronically signed by Jane Canary.",
        "Jane Q. Canary, MD",
    ],
    "report: a date": [
        "Compared to 3/14/2019.",
        "Compared to 03/14/19.",
        "As of 14.03.2019, no effusion.",
        "Film of 2019-03-14.",
        "Film of 14 March.",
        "As on March 14th.",
        "As in mar 2019.",
        "The 2nd of May.",
    ],
    "report: a phone number": [
        "Called (410) 555-0123.",
        "410-555-0123",
        "+49 30 123 4567",
        "Pager: 12345",
        "tel. no 5550",
    ],
    "report: an identifier": ["MRN: 00123", "Accession number A-12345", "123-45-6789", "Case 0012345678.", "acc# 4711"],
    "report: an e-mail or web address": ["jane.canary@example.org", "see www.example.org"],
    "report: an age over 89": ["A 93-year-old woman.", "aged 101", "90 y/o man"],
}
HARMLESS = (
    "The heart is normal. There is a 2.5 x 3.1 cm nodule in the right upper lobe, 12 mm before.",
    "Compared to ___, the effusion may 2 times be larger. [** 2010-1 **]",
    "Dr. XXXX was told. XXXX year old man. Dr. ___ was told.",
    "T12-L1 and L4/5 degeneration, ribs 3/4/5 on the right. Grade 2-3. C3-4-5 fused.",
    "83-year-old man, aged 88. Pulse 95, 101 beats. Tube 3.5 cm above the carina.",
    "Level 3 may be enlarged. The march of events. MAY 3 be seen. 1. May represent edema.",
    "Port-A-Cath tip at the cavoatrial junction; MR Brain advised. Doctor informed. Page 3 of 4.",
    "1,000,000 cells. 0.123456 ratio. Swan-Ganz catheter. Kerley B lines. Read by XXXX.",
)


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason, texts in SIGNS.items() for text in texts])
def test_signs_in_reports(reason, text):
    assert reason in list(report_signs(text))


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_reports(text):
    assert list(report_signs(text)) == []


@pytest.mark.parametrize("piece", ["a", "A", "1", " ", "1 ", ".", "Aa'", "+1", "a@", "MRN ", "1/1/", "May "])
def test_long_texts_take_no_time(piece):
    """No pattern looks at a text again and again: it takes a fraction of a second, and else would take minutes."""
    list(report_signs(piece * 50_000))
    list(report_signs(f"{piece * 50_000}.1"))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The radiographs of a built-in sample, (H, W), 0..255."""
    datalist = make_sample(tmp_path_factory.mktemp("phi"), size=12, image_size=256, progress=False)
    entries = [entry for section in ("training", "validation", "test") for entry in read_datalist(datalist)[section]]
    return datalist, [LoadRadiograph()(datalist.parent / entry["image"])[0].numpy() for entry in entries]


def with_text(image, text, size, corner):
    picture = Image.fromarray(image.astype(np.uint8))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    x = {"left": 8 - left, "right": picture.width - right - 8}[corner.split()[1]]
    y = {"upper": 8 - top, "lower": picture.height - bottom - 8}[corner.split()[0]]
    draw.rectangle((x + left - 3, y + top - 3, x + right + 3, y + bottom + 3), fill=0)
    draw.text((x, y), text, fill=255, font=font)
    return np.asarray(picture, dtype=np.float32)


def test_reports_of_the_sample_are_harmless(sample):
    problems = check_datalist(sample[0], phi=True)
    assert problems == []


@pytest.mark.parametrize("corner", ["upper left", "upper right", "lower left", "lower right"])
@pytest.mark.parametrize("size", [12, 18])
def test_text_in_a_corner(sample, corner, size):
    texts = ("CANARY, JANE", "14.03.1961", "MRN 0012345")
    found = [
        has_corner_text(with_text(image, texts[i % 3], size, corner)) == corner for i, image in enumerate(sample[1])
    ]
    assert sum(found) >= 0.9 * len(found)


def test_a_marker_of_the_side_is_no_text(sample):
    for image in sample[1][:8]:
        assert has_corner_text(with_text(image, "L", 18, "upper right")) is None


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (16, 16), (20, 30)])
def test_small_pictures(shape):
    assert has_corner_text(np.random.default_rng(0).uniform(0, 255, shape)) is None


def test_noise_is_no_text():
    assert has_corner_text(np.random.default_rng(0).uniform(0, 255, (600, 600))) is None


def test_command(sample, tmp_path, save_dicom, capsys):
    """Counts and files; nothing of what was found; nothing is left out."""
    values = sample[1][0].astype(np.uint8)
    Image.fromarray(with_text(values, "CANARY, JANE", 14, "upper left").astype(np.uint8)).save(tmp_path / "a.png")
    tags = {"PatientName": "Canary^Jane", "ReferringPhysicianName": "Canary^Jim", "PatientID": "canary-7"}
    save_dicom(tmp_path / "b.dcm", sample[1][1].astype(np.uint8), BurnedInAnnotation="YES", **tags)
    kept = {"PatientName": "canary-8", "PatientID": "canary-8", "InstitutionName": "REMOVED", "AccessionNumber": ""}
    save_dicom(tmp_path / "c.dcm", sample[1][2].astype(np.uint8), BurnedInAnnotation="NO", **kept)
    entries = [
        {"id": name, "image": name, "report": f"{REPORT} {text}", "patient": f"canary {name}"}
        for name, text in (("a.png", "Left."), ("b.dcm", "Told Dr. Canary on 3/14/2019."), ("c.dcm", "Right."))
    ]
    write_datalist(tmp_path / "list.json", {"training": entries}, "n", "s", {})
    assert main([str(tmp_path / "list.json")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'list.json'}: nothing is broken\n"
    command = [str(tmp_path / "list.json"), "--phi", "--write-clean", str(tmp_path / "clean.json")]
    assert main(command) == 1
    captured = capsys.readouterr()
    for line in (
        "image: text near a corner:\n  a.png: upper left",
        "report: a name:\n  b.dcm",
        "report: a date:\n  b.dcm",
        "DICOM tag about a person:\n  b.dcm: PatientName, ReferringPhysicianName",
        "DICOM: BurnedInAnnotation is YES:\n  b.dcm",
        "training: 3 of 3 entries",
    ):
        assert line in captured.out
    assert "c.dcm" not in captured.out
    assert "canary" not in (captured.out + captured.err).lower()
    assert "2019" not in captured.out
