# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import gzip
import json

import numpy as np
import pytest
from PIL import Image

from monai_mgca.__main__ import main
from monai_mgca.data import load_datalist
from monai_mgca.data.sources.mimic_cxr import CHEXPERT_CLASSES
from monai_mgca.data.sources.open_i import read_report_xml
from monai_mgca.data.sources.tables.csv_table import collect_table, read_rows
from monai_mgca.utils import DataError

TEXT = "FINDINGS: The lungs are clear. IMPRESSION: No acute disease."
REPORT = "No acute disease. The lungs are clear."


def save_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)


def write_table(path, rows, delimiter=","):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def run(*args):
    return main([*([] if args[0] == "check" else ["data"]), *map(str, args)])


def make_rows(folder, number=10):
    for i in range(number):
        save_image(folder / "images" / f"{i}.png")
    row = {"report": TEXT, "kind": "a"}
    return [{"path": f"images/{i}.png", **row, "who": f"secret{i}", "part": "train"} for i in range(number)]


class TestCsv:
    OPTIONS = ("--image", "path", "--report", "report")

    def test_split_does_not_depend_on_the_order(self, tmp_path, capsys):
        rows = make_rows(tmp_path)
        one, two = write_table(tmp_path / "1.csv", rows), write_table(tmp_path / "2.csv", rows[::-1])
        assert run("csv", one, *self.OPTIONS, "--patient", "who", "--output", tmp_path / "1.json") == 0
        assert run("csv", two, *self.OPTIONS, "--patient", "who", "--output", tmp_path / "2.json") == 0
        first, second = (json.loads((tmp_path / f"{i}.json").read_text()) for i in (1, 2))
        assert first["hash"] == second["hash"]
        assert first["counts"] == {"training": 8, "validation": 1, "test": 1}
        assert load_datalist(tmp_path / "1.json", "training")[0]["report"] == REPORT
        printed = capsys.readouterr().out
        assert "training: 8 entries of 8 patients" in printed
        assert first["hash"] in printed
        assert "secret" not in printed
        assert "clear" not in printed

    def test_split_column_where_and_drops(self, tmp_path, capsys):
        rows = make_rows(tmp_path)
        rows[1]["part"], rows[2]["part"], rows[3]["part"] = "valid", "test", "Validation"
        rows[4]["report"], rows[5]["report"] = "", "IMPRESSION: Normal."
        rows[6]["path"], rows[7]["kind"], rows[8]["kind"] = "images/none.png", "b", "c"
        rows.append(rows[0])
        table = write_table(tmp_path / "t.tsv", rows, delimiter="\t")
        where = ("--where", "kind=a", "--where", "kind=b")
        out = tmp_path / "list.json"
        assert run("csv", table, *self.OPTIONS, "--patient", "who", "--split", "part", *where, "--output", out) == 0
        document = json.loads(out.read_text())
        assert document["counts"] == {"training": 3, "validation": 2, "test": 1}
        assert document["dropped"] == {
            "empty report": 1,
            "report too short": 1,
            "image: missing": 1,
            "same id as another entry": 1,
        }
        printed = capsys.readouterr().out
        for line in ("1 rows not chosen", "images/none.png: missing", "dropped: 1 (empty report)", f"wrote {out}"):
            assert line in printed

    def test_findings_and_impression_columns(self, tmp_path):
        rows = [
            {"p": f"images/{i}.png", "f": "The lungs are clear.", "i": "Normal."}
            for i in range(len(make_rows(tmp_path)))
        ]
        table = write_table(tmp_path / "t.csv.gz", rows, delimiter=";")
        collection = collect_table(table, image="p", findings="f", impression="i")
        assert {entry["report"] for _, entry in collection.entries} == {"Normal. The lungs are clear."}
        assert "every image counts as its own patient" in collection.write(tmp_path / "list.json")

    def test_text_without_headings_and_absolute_paths(self, tmp_path):
        rows = make_rows(tmp_path, 3)
        for row in rows:
            row.update(report="Clear lungs, no effusion.", path=str(tmp_path / row["path"]))
        collection = collect_table(write_table(tmp_path / "t.csv", rows), image="path", report="report")
        assert collection.entries[0][1]["report"] == "Clear lungs, no effusion."
        assert collection.entries[0][1]["image"] == "images/0.png"

    def test_errors(self, tmp_path, capsys):
        rows = make_rows(tmp_path)
        rows[0]["part"] = "dev"
        rows[1].update(who="secret2", part="val")
        table = write_table(tmp_path / "t.csv", rows)

        def error(*options):
            assert run("csv", table, *options, "--output", tmp_path / "out.json") == 2
            assert not (tmp_path / "out.json").exists()
            return capsys.readouterr().err

        message = error("--image", "paths", "--report", "report")
        assert "no column 'paths'. Did you mean 'path'? The columns are: path, report" in message
        assert "'dev' (1 rows)" in error(*self.OPTIONS, "--split", "part")
        rows[0]["part"] = "train"
        write_table(tmp_path / "t.csv", rows)
        message = error(*self.OPTIONS, "--patient", "who", "--split", "part")
        assert "1 patients are in more than one split" in message
        assert "secret" not in message
        message = error(*self.OPTIONS, "--split", "report")
        assert "is it the right column" in message
        assert "clear" not in message
        assert "nothing is left" in error(*self.OPTIONS, "--where", "kind=z")
        assert "name either" in error("--image", "path")
        assert "column=value" in error(*self.OPTIONS, "--where", "kind")
        assert "does not exist" in error(*self.OPTIONS, "--dataset-dir", tmp_path / "nowhere")

    def test_images_may_not_leave_the_folder(self, tmp_path, capsys):
        rows = make_rows(tmp_path)
        save_image(tmp_path.parent / "outside.png")
        rows[0]["path"] = "../outside.png"
        table = write_table(tmp_path / "t.csv", rows)
        assert run("csv", table, *self.OPTIONS, "--output", tmp_path / "list.json") == 2
        assert "outside the dataset folder" in capsys.readouterr().err

    def test_broken_tables(self, tmp_path):
        (tmp_path / "t.csv").write_text('a,b\n1,2\n3,"4\n5,6\n')
        with pytest.raises(DataError, match="line 3: "):
            list(read_rows(tmp_path / "t.csv"))
        (tmp_path / "t.csv").write_text("a,b\n1,2,3\n")
        with pytest.raises(DataError, match="line 2: 3 fields, the header has 2"):
            list(read_rows(tmp_path / "t.csv"))
        (tmp_path / "t.csv").write_bytes(b"a,b\n1,\xe9\n")
        with pytest.raises(DataError, match="not UTF-8"):
            list(read_rows(tmp_path / "t.csv"))
        (tmp_path / "t.csv.gz").write_bytes(b"no gzip")
        with pytest.raises(DataError, match=r"t.csv.gz cannot be read"):
            list(read_rows(tmp_path / "t.csv.gz"))

    def test_real_table(self, shared, tmp_path):
        collection = collect_table(
            shared / "data" / "cxr" / "manifest.csv",
            **{"image": "image_path", "report": "text", "patient": "patient_id", "split": "split"},
            where=["source=iu_xray"],
        )
        collection.write(tmp_path / "list.json")
        document = json.loads((tmp_path / "list.json").read_text())
        assert sum(document["counts"].values()) + sum(document["dropped"].values()) == 3068 + 359
        assert document["counts"] == {"training": 3068, "validation": 359}


XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{uid}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="FINDINGS">The lungs are clear.</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText>
</Abstract></Article></MedlineCitation>
<parentImage id="CXR{uid}_IM-00{uid}-1001"/><parentImage id="CXR{uid}_IM-00{uid}-2001"/></eCitation>"""


class TestOpenI:
    def make(self, folder, kaggle=False):
        (folder / "xml").mkdir()
        for uid in range(10, 14):
            (folder / "xml" / f"{uid}.xml").write_text(XML.format(uid=uid, impression="No acute disease."))
            for view in (1001, 2001):
                name = f"{uid}_IM-00{uid}-{view}.dcm.png" if kaggle else f"CXR{uid}_IM-00{uid}-{view}.png"
                save_image(folder / "png" / name)
        return ("open_i", "--reports", folder / "xml", "--images", folder / "png", "--output", folder / "list.json")

    def test_first_image_of_each(self, tmp_path, capsys):
        args = self.make(tmp_path)
        (tmp_path / "png" / "CXR10_IM-0010-1001.png").unlink()
        for view in (1001, 2001):
            (tmp_path / "png" / f"CXR11_IM-0011-{view}.png").unlink()
        assert run(*args, "--fractions", 1, 0, 0) == 0
        data = load_datalist(tmp_path / "list.json", "training", dataset_dir=tmp_path / "png")
        assert [d["id"] for d in data] == ["CXR10_IM-0010-2001", "CXR12_IM-0012-1001", "CXR13_IM-0013-1001"]
        assert {d["report"] for d in data} == {REPORT}
        printed = capsys.readouterr().out
        assert "the first image of each report is kept" in printed
        assert "dropped: 1 (no image file)" in printed

    def test_projections(self, tmp_path):
        args = self.make(tmp_path, kaggle=True)
        rows = [
            {"uid": u, "filename": f"{u}_IM-00{u}-{v}.dcm.png", "projection": "Frontal" if v == 2001 else "Lateral"}
            for u in range(10, 13)
            for v in (1001, 2001)
        ]
        assert run(*args, "--projections", write_table(tmp_path / "p.csv", rows), "--fractions", 1, 0, 0) == 0
        document = json.loads((tmp_path / "list.json").read_text())
        assert [e["image"] for e in document["training"]] == [f"{u}_IM-00{u}-2001.dcm.png" for u in range(10, 13)]
        assert document["dropped"] == {"no frontal image": 1}

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_entities_are_refused(self, tmp_path, encoding):
        bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><x>&e;</x>'
        (tmp_path / "1.xml").write_bytes(bomb.encode(encoding))
        with pytest.raises(DataError, match=r"1.xml has a DOCTYPE"):
            read_report_xml(tmp_path / "1.xml")

    def test_broken_xml(self, tmp_path):
        (tmp_path / "1.xml").write_text("<eCitation>")
        with pytest.raises(DataError, match=r"1.xml is not XML"):
            read_report_xml(tmp_path / "1.xml")
        (tmp_path / "1.xml").write_text("<eCitation/>")
        with pytest.raises(DataError, match="no <uId"):
            read_report_xml(tmp_path / "1.xml")

    def test_real_reports(self, shared, tmp_path):
        folder = shared / "data"
        uid, report, names = read_report_xml(folder / "openi_xml" / "1.xml")
        assert (uid, names) == ("CXR1", ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"])
        assert report.startswith("Normal chest x-XXXX. The cardiac silhouette")
        images = folder / "cxr" / "images" / "iu_xray"
        out = tmp_path / "list.json"
        assert run("open_i", "--reports", folder / "openi_xml", "--images", images, "--output", out) == 0
        assert json.loads(out.read_text())["counts"] == {"training": 32, "validation": 4, "test": 4}


class TestMimicCxr:
    def make(self, folder, suffix=".csv.gz"):
        meta, split, labels = [], [], []
        for i, (view, part) in enumerate(
            [
                ("PA", "train"),
                ("AP", "train"),
                ("LATERAL", "train"),
                ("PA", "validate"),
                ("AP", "test"),
                ("PA", "train"),
            ]
        ):
            who = {"subject_id": f"1000{i:04d}", "study_id": f"5000{i:04d}"}
            study = f"files/p10/p{who['subject_id']}/s{who['study_id']}"
            save_image(folder / "jpg" / study / f"d{i}.jpg")
            text = folder / "text" / f"{study}.txt"
            text.parent.mkdir(parents=True)
            text.write_text(" FINAL REPORT\n INDICATION: Cough.\n" + ("" if i == 5 else TEXT.replace(". ", ".\n\n ")))
            meta.append({"dicom_id": f"d{i}", **who, "ViewPosition": view})
            split.append({"dicom_id": f"d{i}", **who, "split": part})
            labels.append({**who, **dict.fromkeys(CHEXPERT_CLASSES, ""), "Edema": "1.0", "Pneumonia": "-1.0"})
        for name, rows in (("metadata", meta), ("split", split), ("chexpert", labels[1:])):
            write_table(folder / "jpg" / f"mimic-cxr-2.0.0-{name}{suffix}", rows)
        out = folder / "jpg" / "list.json"
        return "mimic_cxr", "--dataset-dir", folder / "jpg", "--reports", folder / "text", "--output", out

    def test_official_split(self, tmp_path):
        assert run(*self.make(tmp_path)) == 0
        document = json.loads((tmp_path / "jpg" / "list.json").read_text())
        assert document["counts"] == {"training": 2, "validation": 1, "test": 1}
        assert document["dropped"] == {
            "not a frontal view (PA, AP)": 1,
            "report has neither findings nor impression": 1,
        }
        assert document["training"][0] == {
            **{"id": "d0", "image": "files/p10/p10000000/s50000000/d0.jpg", "report": REPORT},
            **{"patient": "10000000", "view": "PA"},
        }

    def test_labels_and_plain_tables(self, tmp_path):
        assert run(*self.make(tmp_path, ".csv"), "--labels") == 0
        document = json.loads((tmp_path / "jpg" / "list.json").read_text())
        assert document["dropped"]["not in the table of labels"] == 1
        labels = dict(zip(document["classes"], document["training"][0]["labels"], strict=True))
        assert [name for name, value in labels.items() if value] == ["Edema"]

    def test_missing_parts(self, tmp_path, capsys):
        args = self.make(tmp_path)
        (tmp_path / "text/files/p10/p10000000/s50000000.txt").unlink()
        assert run(*args) == 0
        assert "dropped: 1 (no report file)" in capsys.readouterr().out
        (tmp_path / "jpg" / "mimic-cxr-2.0.0-split.csv.gz").unlink()
        assert run(*args) == 2
        assert "no mimic-cxr-2.0.0-split.csv" in capsys.readouterr().err


class TestFolder:
    def make(self, folder):
        for i in range(6):
            save_image(folder / "images" / f"patient{i % 3}" / f"{i}.png")
            report = folder / "reports" / f"patient{i % 3}" / f"{i}.txt"
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(TEXT)
        out = folder / "images" / "list.json"
        return "folder", "--images", folder / "images", "--reports", folder / "reports", "--output", out

    def test_pairs_by_name(self, tmp_path):
        args = self.make(tmp_path)
        (tmp_path / "images/patient0/0.png").unlink()
        (tmp_path / "reports/patient1/1.txt").unlink()
        assert run(*args, "--patient", "folder", "--fractions", 1, 0, 0) == 0
        document = json.loads((tmp_path / "images" / "list.json").read_text())
        assert document["dropped"] == {"image without a report": 1, "report without an image": 1}
        assert [(e["id"], e["patient"]) for e in document["training"]] == [
            *(("patient0/3", "patient0"), ("patient1/4", "patient1")),
            *(("patient2/2", "patient2"), ("patient2/5", "patient2")),
        ]

    def test_dicom(self, shared, tmp_path, capsys):
        source = shared / "data" / "formats" / "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm"
        args = self.make(tmp_path)
        assert run(*args, "--patient", "dicom") == 2
        assert "is not DICOM" in capsys.readouterr().err
        (tmp_path / "d").mkdir()
        (tmp_path / "t").mkdir()
        (tmp_path / "d" / "1.2.3.dcm").write_bytes(source.read_bytes())
        (tmp_path / "t" / "1.2.3.txt").write_text("Clear lungs, no effusion.")
        args = (
            "folder",
            "--images",
            tmp_path / "d",
            "--reports",
            tmp_path / "t",
            "--output",
            tmp_path / "d" / "l.json",
        )
        assert run(*args, "--patient", "dicom", "--fractions", 1, 0, 0) == 0
        (entry,) = load_datalist(tmp_path / "d" / "l.json", "training")
        assert entry["id"] == "1.2.3"
        assert entry["patient"] not in ("", "1.2.3")
        assert run("check", tmp_path / "d" / "l.json") == 0
