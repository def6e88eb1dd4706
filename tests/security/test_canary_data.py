# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The data commands print no word of a report and no patient's id, whatever is wrong with a source or the call.

What they write, the datalist, holds both by purpose. File names are printed: they must not identify the patient.
"""

from __future__ import annotations

import csv
import json
import logging
import traceback

import numpy as np
import pytest
from PIL import Image

from monai_mgca.__main__ import main

WORDS, PATIENT = "zzcanarywordium", "zz-canary-4711"
TEXT = f"FINDINGS: {WORDS} lungs are clear. No pleural effusion is seen.\nIMPRESSION: {WORDS} normal chest."
COLUMNS = ["path", "text", "who", "split", "label", "boxes", "mask"]


@pytest.fixture
def run_command(caplog, capfd, recwarn):
    """Runs a command; gives its exit code and all that it said, also of an error that it did not expect."""
    caplog.set_level(logging.DEBUG)

    def run(*options):
        try:
            code, error = main([*([] if options[0] == "check" else ["data"]), *map(str, options)]), ""
        except SystemExit as left:
            code, error = left.code, ""
        except Exception as failed:
            code, error = 1, "".join(traceback.format_exception(failed))
        text = caplog.text + "".join(capfd.readouterr()) + "\n".join(str(w.message) for w in recwarn.list) + error
        return code, text

    return run


def secret(text):
    return [line for line in text.lower().splitlines() if WORDS in line or PATIENT in line]


def save(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(number).integers(0, 255, (40, 44), dtype=np.uint8)
    Image.fromarray(values).save(path)


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def table(tmp_path):
    """A table of eight images in data/, and the options to read it."""
    rows = [COLUMNS]
    for i in range(8):
        save(tmp_path / "data" / f"{i}.png", i)
        part = ("train", "val", "test", "train")[i % 4]
        rows.append([f"{i}.png", TEXT, f"{PATIENT}-{i}", part, i % 2, "[[1, 1, 9, 9]]", f"{i}.png"])
    path = write_table(tmp_path / "data" / "table.csv", rows)
    return path, ["csv", path, "--image", "path", "--output", tmp_path / "list.json"]


GOOD = ["--report", "text", "--patient", "who"]
# what one may get wrong about a table: an option that names a column of reports or patients
WRONG = {
    "a report is a split": [*GOOD, "--split", "text"],
    "a patient is a split": [*GOOD, "--split", "who"],
    "a report is a label": [*GOOD, "--labels", "text"],
    "a patient is a label": [*GOOD, "--labels", "who"],
    "a report is boxes": [*GOOD, "--boxes", "text", "--box-label", "label"],
    "a patient is a box's class": [*GOOD, "--boxes", "boxes", "--box-label", "who", "--classes", "a"],
    "a report is a number": [*GOOD, "--box-columns", "text", "who", "label", "label", "--box-label", "label"],
    "a report is a class": ["--label", "text", "--classes", "a", "b"],
    "no such column": ["--report", "txt"],
    "no such rows": [*GOOD, "--where", "split=nothing"],
    "no such id": [*GOOD, "--id", "identifier"],
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_call(table, run_command, mistake):
    code, text = run_command(*table[1], *WRONG[mistake])
    known_in_advance = "class" in mistake  # what no row has is a warning
    assert code == (0 if known_in_advance else 2), text
    assert secret(text) == []


def test_a_good_call(table, run_command, tmp_path):
    code, text = run_command(*table[1], *GOOD, "--split", "split", "--labels", "label")
    assert code == 0
    assert "training: 4 entries of 4 patients" in text
    assert secret(text) == []
    assert WORDS in (tmp_path / "list.json").read_text(), "datalists hold reports"


@pytest.mark.parametrize("harm", ["a quote", "a short row", "bytes", "a missing image", "no images", "one patient"])
def test_a_broken_table(table, run_command, harm):
    path, options = table
    content = path.read_text()
    if harm == "a quote":
        content = content.replace("chest.", 'chest."', 3)
    elif harm == "a short row":
        content += f"8.png,{WORDS},{PATIENT}\n"
    elif harm == "one patient":
        content = content.replace(f"{PATIENT}-1", f"{PATIENT}-2")
    path.write_bytes(content.encode() + (b"\xff\xfe" if harm == "bytes" else b""))
    for number in {"a missing image": [0], "no images": range(8)}.get(harm, []):
        (path.parent / f"{number}.png").unlink()
    code, text = run_command(*options, *GOOD, "--split", "split")
    assert (code == 0) == (harm == "a missing image")
    assert secret(text) == []


class TestSources:
    @pytest.mark.parametrize("harm", ["", "bytes", "empty", "no image", "patient"])
    def test_folder(self, tmp_path, run_command, save_dicom, harm):
        images, reports = tmp_path / "images", tmp_path / "reports"
        reports.mkdir()
        images.mkdir()
        for i in range(4):
            values = np.full((40, 44), 60 + i, np.uint8)
            save_dicom(images / f"{i}.dcm", values, PatientID=f"{PATIENT}-{i}", ImageComments=WORDS)
            (reports / f"{i}.txt").write_text(TEXT)
        if harm == "bytes":
            (reports / "0.txt").write_bytes(TEXT.encode() + b"\xff")
        elif harm == "empty":
            (reports / "0.txt").write_text("")
        elif harm == "no image":
            (images / "0.dcm").unlink()
        elif harm == "patient":
            (images / "0.dcm").write_bytes(f"{WORDS} {PATIENT}".encode() * 9)
        options = ["folder", "--images", images, "--reports", reports, "--patient", "dicom"]
        code, text = run_command(*options, "--output", tmp_path / "list.json", "--fractions", 1, 0, 0)
        assert (code == 0) == (harm in ("", "empty", "no image"))
        assert secret(text) == []

    @pytest.mark.parametrize("harm", ["", "broken", "entity", "no uid"])
    def test_open_i(self, tmp_path, run_command, harm):
        (tmp_path / "xml").mkdir()
        for i in range(1, 5):
            save(tmp_path / "png" / f"CXR{i}_IM-000{i}-1001.png", i)
            text = (
                f'<a><uId id="{PATIENT}-{i}"/><AbstractText Label="FINDINGS">{WORDS} lungs are clear.</AbstractText>'
                f'<AbstractText Label="IMPRESSION">No acute disease.</AbstractText>'
                f'<parentImage id="CXR{i}_IM-000{i}-1001"/></a>'
            )
            if i == 2 and harm == "broken":
                text = text.replace("</AbstractText>", "")
            elif i == 2 and harm == "entity":
                text = f"<!DOCTYPE a [<!ENTITY e '{WORDS}'>]>{text}"
            elif i == 2 and harm == "no uid":
                text = text.replace("<uId", "<patient")
            (tmp_path / "xml" / f"{i}.xml").write_text(text)
        options = ["open_i", "--reports", tmp_path / "xml", "--images", tmp_path / "png"]
        code, text = run_command(*options, "--output", tmp_path / "list.json", "--fractions", 1, 0, 0)
        assert (code == 0) == (not harm)
        assert secret(text) == []

    @pytest.mark.parametrize("harm", ["", "no report", "split", "labels"])
    def test_mimic_cxr(self, tmp_path, run_command, harm):
        """Its paths hold the patients' numbers, so that the error for a missing file holds one."""
        meta = [["dicom_id", "subject_id", "study_id", "ViewPosition"]]
        split, labels = [["dicom_id", "split"]], [["study_id"]]
        for i in range(4):
            who, study = f"1000{i}", f"5000{i}"
            save(tmp_path / "jpg" / "files" / "p10" / f"p{who}" / f"s{study}" / f"d{i}.jpg", i)
            report = tmp_path / "text" / "files" / "p10" / f"p{who}" / f"s{study}.txt"
            report.parent.mkdir(parents=True)
            report.write_text(TEXT)
            meta.append([f"d{i}", who, study, "PA"])
            split.append([f"d{i}", WORDS if harm == "split" else "train"])
            labels.append([study])
        if harm == "no report":
            report.unlink()
        for name, rows in (("metadata", meta), ("split", split), ("chexpert", labels)):
            write_table(tmp_path / "jpg" / f"mimic-cxr-2.0.0-{name}.csv", rows)
        options = ["mimic_cxr", "--dataset-dir", tmp_path / "jpg", "--reports", tmp_path / "text"]
        options += ["--labels"] if harm == "labels" else []
        code, text = run_command(*options, "--output", tmp_path / "list.json")
        assert (code == 0) == (harm in ("", "no report"))
        assert secret(text) == []

    @pytest.mark.parametrize("harm", ["", "target", "box"])
    def test_rsna_pneumonia(self, tmp_path, run_command, save_dicom, harm):
        """A patient's id is the name of the image's file: printed where the file is at fault, and else not."""
        rows = [["patientId", "x", "y", "width", "height", "Target"]]
        (tmp_path / "stage_2_train_images").mkdir()
        for i in range(4):
            save_dicom(tmp_path / "stage_2_train_images" / f"{PATIENT}-{i}.dcm", np.full((40, 44), 60 + i, np.uint8))
            rows.append([f"{PATIENT}-{i}", *((2, 2, 9, 9) if i % 2 else ("",) * 4), i % 2])
        if harm:
            rows[2][5 if harm == "target" else 1] = WORDS
        write_table(tmp_path / "stage_2_train_labels.csv", rows)
        code, text = run_command("rsna_pneumonia", "--dataset-dir", tmp_path, "--output", tmp_path / "list.json")
        assert (code == 0) == (not harm)
        assert secret(text) == []


class TestCheck:
    @pytest.fixture
    def datalist(self, table, run_command, tmp_path):
        """A datalist with everything wrong with it that the check knows, but for the files' names."""
        assert run_command(*table[1], *GOOD, "--split", "split", "--labels", "label")[0] == 0
        path = tmp_path / "list.json"
        document = json.loads(path.read_text())
        first, second, third, *_ = document["training"]
        first |= {"report": f"{WORDS}", "labels": WORDS, "boxes": WORDS, "box_labels": [PATIENT]}
        second |= {"report": "", "labels": [WORDS, PATIENT], "boxes": [[WORDS] * 4], "box_labels": PATIENT}
        third |= {"patient": document["validation"][0]["patient"], "report": {"text": TEXT}, "id": first["id"]}
        (tmp_path / "data" / third["image"]).write_bytes(TEXT.encode() + PATIENT.encode())
        document["test"][0]["report"] = (
            f"{WORDS} Mr. John Smith, born 12/03/1951, MRN 12345678, phone 555-123-4567. {TEXT} {PATIENT}"
        )
        path.write_text(json.dumps(document))
        return path

    @pytest.mark.parametrize("options", [[], ["--phi"], ["--write-clean", "{clean}"]], ids=str)
    def test_whatever_is_wrong(self, datalist, run_command, tmp_path, options):
        options = [option.format(clean=tmp_path / "clean.json") for option in options]
        code, text = run_command("check", datalist, "--dataset-dir", tmp_path / "data", *options)
        assert code == 1 and "one patient in two splits" in text, text  # noqa: PT018
        assert secret(text) == []
        assert "John" not in text
        assert "Smith" not in text
        assert "1951" not in text

    @pytest.mark.parametrize("harm", ["cut", "a list", "a text", "NaN"])
    def test_what_is_no_datalist(self, datalist, run_command, tmp_path, harm):
        content = {"cut": datalist.read_text()[:-99], "a list": f'["{WORDS}"]', "a text": f'"{PATIENT}"', "NaN": WORDS}
        datalist.write_text(content[harm])
        code, text = run_command("check", datalist, "--dataset-dir", tmp_path / "data")
        assert code == 2
        assert "error: " in text
        assert secret(text) == []
