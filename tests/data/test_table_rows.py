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


"""Tables as they are published and as programs write them: rows of one image, cells, and where the images are."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_mgca.data.__main__ import main
from monai_mgca.data.cells import id_problems, is_missing, names_in, parse_value
from monai_mgca.data.rows import numbered_rows, read_rows
from monai_mgca.transforms.rle import decode_rle, encode_rle
from monai_mgca.utils import DataError

ROOT = Path(__file__).resolve().parents[2]
TEXT = "The lungs are clear. No effusion."
BOXES = ("--box-columns", *"xywh", "--box-format", "xywh")


def save_image(path, size=(60, 40), value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path, format="PNG")


@pytest.fixture
def collect(tmp_path, capsys):
    """Writes a table, makes its datalist, and gives entries by image and the summary, or the error."""

    def run(header, rows, *options, images=None, fails=False, encoding="utf-8"):
        with (tmp_path / "t.csv").open("w", newline="", encoding=encoding) as file:
            csv.writer(file).writerows([header.split(), *rows])
        for name in images if images is not None else {row[0] for row in rows}:
            save_image(tmp_path / name)
        out = tmp_path / "list.json"
        out.unlink(missing_ok=True)
        where = () if "--image-template" in options else ("--image", header.split()[0])
        args = ["csv", tmp_path / "t.csv", *where, *options, "--output", out, "--fractions", 1, 0, 0]
        code = main([str(arg) for arg in args])
        told = capsys.readouterr()
        assert code == (2 if fails else 0), told.err
        if fails:
            assert not out.exists()
            return told.err
        document = json.loads(out.read_text())
        return {entry["image"]: entry for entry in document["training"]}, document, told.out

    return run


class TestRowsOfOneImage:
    def test_names_are_united(self, collect):
        rows = [["a.png", "edema"], ["b.png", "effusion"], ["a.png", "effusion|mass"], ["a.png", ""]]
        entries, document, told = collect("image finding", rows, "--label", "finding")
        assert document["classes"] == ["edema", "effusion", "mass"]
        assert entries["a.png"]["labels"] == [1, 1, 1] and entries["b.png"]["labels"] == [0, 1, 0]
        assert "4 rows made 2 images" in told and "dropped: 0" in told
        assert "3 classes of labels (images that have it): edema 1, effusion 2, mass 1" in told

    def test_boxes_and_labels_agree(self, collect):
        rows = [["a.png", 1, 2, 3, 4, "edema"], ["a.png", 5, 6, 7, 8, "effusion"], ["b.png", "", "", "", "", "none"]]
        options = ("--label", "kind", "--box-label", "kind", *BOXES)
        entries, document, told = collect("image x y w h kind", rows, *options, "--no-box", "none")
        assert entries["a.png"]["labels"] == [1, 1] and entries["a.png"]["box_labels"] == [0, 1]
        assert "labels" not in entries["b.png"] and entries["b.png"]["boxes"] == []
        assert "2 classes of boxes: edema 1, effusion 1" in told

    def test_a_box_that_two_readers_drew_alike(self, collect):
        rows = [["a.png", 1, 2, 3, 4, "x", "R1"], ["a.png", 1, 2, 3, 4, "x", "R2"], ["a.png", 1, 2, 3, 5, "x", "R1"]]
        entries, _, told = collect("image x y w h kind reader", rows, "--box-label", "kind", *BOXES)
        assert len(entries["a.png"]["boxes"]) == 2
        assert "dropped: 1 (same id as another entry)" in told

    def test_json_boxes(self, collect):
        rows = [["a.png", "[[1, 2, 3, 4]]"], ["a.png", "[[5, 6, 7, 8], (1, 2, 3, 4)]"]]
        entries, _, _ = collect("image boxes", rows, "--boxes", "boxes")
        assert entries["a.png"]["boxes"] == [[1, 2, 3, 4], [5, 6, 7, 8]]

    def test_no_finding_of_all_readers(self, collect):
        rows = [["a.png", "No finding"], ["a.png", "No finding"], ["b.png", "mass"]]
        entries, _, told = collect("image f", rows, "--label", "f")
        assert entries["a.png"]["labels"] == [1, 0] and "3 rows made 2 images" in told

    @pytest.mark.parametrize("name", ["No finding", "normal", "No_Finding"])
    def test_no_finding_beside_a_finding(self, collect, name):
        rows = [["b.png", "mass", "R1"], ["a.png", name, "R1"], ["a.png", "mass", "R2"]]
        told = collect("image f reader", rows, "--label", "f", fails=True)
        assert "a.png: lines 3, 4: a finding and 'no finding'" in told and "--where" in told
        entries, _, _ = collect("image f reader", rows, "--label", "f", "--where", "reader=R2")
        assert list(entries) == ["a.png"]

    def test_columns_of_labels(self, collect):
        rows = [["a.png", 1, ""], ["a.png", 1, 0], ["b.png", "", -1]]
        entries, _, _ = collect("image edema mass", rows, "--labels", "edema", "mass")
        assert entries["a.png"]["labels"] == [1, 0] and entries["b.png"]["labels"] == [None, -1]

    @pytest.mark.parametrize("values", [(1, 0), (0, 1), (1, -1)])
    def test_columns_that_contradict_each_other(self, collect, values):
        rows = [["b.png", 1], *(["a.png", value] for value in values)]
        told = collect("image edema", rows, "--labels", "edema", fails=True)
        assert "of 1 images" in told and "a.png: lines 3, 4: 2 different values of 'edema'" in told

    @pytest.mark.parametrize("column", ["patient", "split", "report", "id"])
    def test_what_an_image_has_one_of(self, collect, column):
        header = "image patient split report id"
        row = {"image": "a.png", "patient": "secret1", "split": "train", "report": TEXT, "id": "i1"}
        other = {"patient": "secret2", "split": "val", "report": "The secret lungs are not clear.", "id": "i2"}
        options = [text for name in header.split()[1:] for text in (f"--{name}", name)]
        rows = [list(row.values()), list((row | {column: ""}).values())]
        entries, _, told = collect(header, rows, *options)
        assert entries["a.png"]["patient"] == "secret1" and "2 rows made 1 images" in told
        rows[1] = list((row | {column: other[column]}).values())
        (told_path,) = [collect(header, rows, *options, fails=True)]
        assert f"a.png: lines 2, 3: 2 different values of the {column}" in told_path
        assert "secret" not in told_path

    def test_masks_are_united(self, collect, tmp_path):
        one, two = np.zeros((40, 60)), np.zeros((40, 60))
        one[:10], two[30:, 20:] = 1, 1
        Image.fromarray((two * 255).astype(np.uint8)).save(tmp_path / "two.png")
        rows = [
            ["a.png", json.dumps(encode_rle(one))],
            ["a.png", "two.png"],
            ["b.png", "two.png"],
            ["b.png", "two.png"],
        ]
        entries, _, told = collect("image m", rows, "--mask", "m")
        assert (decode_rle(entries["a.png"]["mask"]) == np.maximum(one, two)).all()
        assert entries["b.png"]["mask"] == "two.png"
        assert "images with masks: 2" in told

    def test_masks_of_classes_in_several_rows(self, collect):
        rle = json.dumps(encode_rle(np.eye(40, 60)))
        rows = [["a.png", rle, ""], ["a.png", "", rle], ["b.png", rle, ""]]
        entries, _, told = collect("image l h", rows, "--mask", "lung=l", "--mask", "heart=h")
        assert entries["a.png"]["mask"] == [json.loads(rle)] * 2
        assert "dropped: 1 (no annotation)" in told and "images with masks: 1 (lung, heart)" in told

    @pytest.mark.parametrize("other", ["none.png", json.dumps(encode_rle(np.zeros((4, 4))))])
    def test_masks_that_cannot_be_united(self, collect, other):
        rows = [["a.png", json.dumps(encode_rle(np.eye(40, 60)))], ["a.png", other]]
        assert "a.png: lines 2, 3: 2 masks that cannot be put together" in collect(
            "image m", rows, "--mask", "m", fails=True
        )

    def test_paths_that_are_written_in_two_ways(self, collect):
        rows = [["a.png", "edema"], ["./a.png", "mass"]]
        entries, _, _ = collect("image f", rows, "--label", "f")
        assert list(entries) == ["a.png"] and entries["a.png"]["labels"] == [1, 1]

    def test_names_of_what_was_dropped(self, collect, tmp_path):
        rows = [
            ["a.png", "secret", TEXT],
            ["b.png", "secret", ""],
            ["", "p", TEXT],
            ["c.png", "", TEXT],
            ["a.png", "secret", TEXT],
        ]
        options = ("--patient", "p", "--report", "r")
        _, document, told = collect("image p r", rows, *options, images=["a.png", "b.png", "c.png"])
        assert f"their names: {tmp_path / 'list.dropped.csv'}" in told
        lines = list(csv.reader((tmp_path / "list.dropped.csv").open(newline="")))
        assert sorted(lines[1:]) == [
            ["a.png (line 6)", "same id as another entry"],
            ["b.png", "empty report"],
            ["c.png", "no patient"],
            ["line 4", "no image path"],
        ]
        assert sum(document["dropped"].values()) == 4
        collect("image p r", rows[:1], *options)
        assert not (tmp_path / "list.dropped.csv").exists()


class TestCells:
    @pytest.mark.parametrize(
        "cell", ["nan", "NaN", "NULL", "None", "NA", "N/A", "-", " ", "<NA>", "#N/A", "null", "n/a"]
    )
    def test_missing(self, collect, cell):
        assert is_missing(cell.strip())
        rows = [
            ["a.png", "p1", TEXT, "edema", "1"],
            ["b.png", cell, TEXT, "edema", "1"],
            ["c.png", "p2", cell, "mass", "0"],
        ]
        rows += [[cell, "p3", TEXT, "mass", "0"], ["d.png", "p4", TEXT, cell, cell]]
        header, images = "image p r f n", ["a.png", "b.png", "c.png", "d.png"]
        options = ("--patient", "p", "--report", "r", "--label", "f")
        entries, document, told = collect(header, rows, *options, images=images)
        assert document["dropped"] == {"no patient": 1, "empty report": 1, "no image path": 1}
        assert list(entries) == ["a.png", "d.png"] and "labels" not in entries["d.png"]
        assert document["classes"] == ["edema"]
        assert ("say that a value is missing (nan, None, - ...)" in told) == bool(cell.strip())
        rows = [["a.png", "p1", TEXT, "edema", "1"], ["d.png", "p4", TEXT, cell, cell]]
        entries, _, _ = collect(header, rows, "--labels", "n")
        assert entries["d.png"]["labels"] == [None]

    @pytest.mark.parametrize(
        ("cell", "separator"),
        [
            ("['edema', 'pleural effusion']", "|"),
            ('["edema", "pleural effusion"]', "|"),
            ("('edema', 'pleural effusion')", "|"),
            ("{'edema', 'pleural effusion'}", "|"),
            ("edema|pleural effusion", "|"),
            ("edema; pleural effusion;", ";"),
            ("edema|nan|pleural effusion", "|"),
        ],
    )
    def test_names(self, collect, cell, separator):
        assert names_in(cell, separator) == {"edema", "pleural effusion"}
        _, document, _ = collect("image f", [["a.png", cell]], "--label", "f", "--separator", separator)
        assert document["classes"] == ["edema", "pleural effusion"]

    @pytest.mark.parametrize("cell", ["['edema' 'mass']", "[edema, mass]", "['edema', 1]", "['edema'", "{'edema': 1}"])
    def test_lists_that_cannot_be_understood(self, collect, cell):
        if cell.endswith(("]", "}")):
            told = collect("image f", [["a.png", cell]], "--label", "f", fails=True)
            assert "t.csv line 2: the names of a.png in column 'f' cannot be understood" in told

    def test_an_empty_list(self, collect):
        _, document, told = collect("image f", [["a.png", "[]"], ["b.png", "['x']"]], "--label", "f")
        assert document["classes"] == ["x"] and "dropped: 1 (no annotation)" in told

    def test_another_separator_is_hinted_at(self, collect):
        _, _, told = collect("image f", [["a.png", "edema;mass"]], "--label", "f")
        assert "1 classes have a separator in their name, 'edema;mass' say: is --separator right?" in told

    def test_a_report_in_a_list(self, collect):
        rows = [["a.png", "['The lungs are clear.', 'No effusion.']"], ["b.png", '["The lungs are clear."]']]
        entries, _, _ = collect("image r", rows, "--report", "r")
        assert [entry["report"] for entry in entries.values()] == [TEXT, "The lungs are clear."]
        told = collect("image r", [["a.png", "['The lungs' 'are clear']"]], "--report", "r", fails=True)
        assert "line 2" in told and "lungs" not in told

    @pytest.mark.parametrize("column", ["image", "patient", "split"])
    def test_a_list_where_one_value_is_expected(self, collect, column):
        row = {"image": "a.png", "patient": "p", "split": "train", "r": TEXT} | {column: "['secret', 'b.png']"}
        options = ("--patient", "patient", "--split", "split", "--report", "r")
        told = collect("image patient split r", [list(row.values())], *options, images=["a.png"], fails=True)
        assert f"line 2: column '{column}' holds a list" in told and "secret" not in told

    @pytest.mark.parametrize(
        ("ids", "lines"),
        [(("007", "7"), "2 and 3"), (("7", "7.0"), "2 and 3"), (("A", "0012", "12.0"), "3 and 4"), (("1.2E+11",), "2")],
    )
    def test_ids_that_were_taken_for_numbers(self, collect, ids, lines):
        rows = [[f"{i}.png", name, TEXT] for i, name in enumerate(ids)]
        told = collect("image p r", rows, "--patient", "p", "--report", "r", fails=True)
        assert (
            f"column 'p' holds ids that were taken for numbers:\n  line{'s' if 'and' in lines else ''} {lines}" in told
        )

    @pytest.mark.parametrize("ids", [("007", "008"), ("7", "70", "700"), ("1.0", "2.0"), ("1e10", "12e4"), ("0", "10")])
    def test_ids_that_are_apart(self, ids):
        assert id_problems({name: line for line, name in enumerate(ids)}) == []

    @pytest.mark.parametrize("cell", ["007 ", '="007"', "'007", " 007"])
    def test_what_surrounds_an_id(self, collect, cell):
        rows = [["a.png", "007", TEXT], ["b.png", cell, TEXT]]
        entries, _, _ = collect("image p r", rows, "--patient", "p", "--report", "r")
        assert {entry["patient"] for entry in entries.values()} == {"007"}

    def test_booleans(self, collect):
        entries, _, _ = collect("image e", [["a.png", "True"], ["b.png", "false"]], "--labels", "e")
        assert [entry["labels"] for entry in entries.values()] == [[1], [0]]

    def test_values_as_python_prints_them(self):
        assert parse_value("{'size': [1, 2], 'counts': (0, 2)}") == {"size": [1, 2], "counts": (0, 2)}
        for cell in ("__import__('os')", "[" * 9999, "1 + 1", "a"):
            with pytest.raises(ValueError):
                parse_value(cell)

    def test_a_box_without_a_class(self, collect):
        rows = [["a.png", 1, 2, 3, 4, "nan"]]
        told = collect("image x y w h kind", rows, "--box-label", "kind", *BOXES, fails=True)
        assert "line 2: a box of a.png has no class" in told

    def test_run_lengths_of_kaggle(self, collect):
        assert "siim_acr" in collect("image m", [["a.png", "12 3 40 5"]], "--mask", "m", fails=True)


class TestFiles:
    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    def test_encodings_and_separators(self, tmp_path, encoding, separator):
        text = f'image{separator} report \r\na.png{separator}"Größe, 1; 2\t3\r\nund ""so"""\r\n'
        text += f"b.png{separator}x{separator}{separator}\r\n"
        (tmp_path / "t.csv").write_bytes(text.encode(encoding))
        rows = list(numbered_rows(tmp_path / "t.csv", ["image", "report"]))
        report = 'Größe, 1; 2\t3\r\nund "so"'
        assert rows == [(2, {"image": "a.png", "report": report}), (4, {"image": "b.png", "report": "x"})]

    def test_latin_1(self, tmp_path, collect):
        told = collect("image r", [["a.png", "Größe normal."]], "--report", "r", encoding="latin-1", fails=True)
        assert "is not UTF-8 (at or after line" in told and "--encoding" in told
        options = ("--report", "r", "--encoding", "latin-1")
        entries, _, _ = collect("image r", [["a.png", "Die Größe ist normal."]], *options, encoding="latin-1")
        assert "Größe" in entries["a.png"]["report"]
        options = ("--report", "r", "--encoding", "utf9")
        assert "no encoding 'utf9'" in collect("image r", [["a.png", TEXT]], *options, fails=True)

    def test_excel_names_its_separator(self, tmp_path):
        (tmp_path / "t.csv").write_text("sep=;\nimage;text, long\na.png;1\n")
        assert list(numbered_rows(tmp_path / "t.csv")) == [(3, {"image": "a.png", "text, long": "1"})]

    def test_a_workbook(self, tmp_path):
        (tmp_path / "t.csv").write_bytes(b"PK\3\4" + bytes(99))
        with pytest.raises(DataError, match="workbook"):
            list(read_rows(tmp_path / "t.csv"))

    @pytest.mark.parametrize(
        "header", ["path,text,text", "path,text, text ", "path,text,\ufefftext".replace("\ufeff", " ")]
    )
    def test_a_column_twice(self, tmp_path, header):
        (tmp_path / "t.csv").write_text(f"{header}\na.png,1,2\n", encoding="utf-8-sig")
        with pytest.raises(DataError, match=r"'text' is there 2 times \(columns 2 and 3\)"):
            list(read_rows(tmp_path / "t.csv", ["text"]))
        assert len(list(read_rows(tmp_path / "t.csv", ["path"]))) == 1  # what is not used may be there twice

    def test_a_column_in_another_case(self, tmp_path):
        (tmp_path / "t.csv").write_text("Image Path,x\n1,2\n")
        with pytest.raises(DataError, match="Did you mean 'Image Path'"):
            list(read_rows(tmp_path / "t.csv", ["image_path"]))

    @pytest.mark.parametrize(
        ("header", "names"),
        [
            ("i,l,Bbox [x,y,w,h],,,", "i l x y w h"),
            ('i,l,"Bbox [x,y,w,h]",,,', "i l x y w h"),
            ('i,l,"Bbox [x,y,w,h]",Unnamed: 3,Unnamed: 4,Unnamed: 5', "i l x y w h"),
            ("i,l,x,a[mm],b [c],d,", "i l x a[mm] b_[c] d"),
            ("x,y,l,Box[x,y],e,f", "x y l Box[x y] e f"),
        ],
    )
    def test_names_in_brackets(self, tmp_path, header, names):
        (tmp_path / "t.csv").write_text(f"{header}\n{','.join('1234567'[: len(names.split())])}\n")
        (row,) = read_rows(tmp_path / "t.csv")
        assert row == dict(zip((n.replace("_", " ") for n in names.split()), "1234567", strict=False))

    def test_one_column_of_lists_keeps_its_name(self, tmp_path):
        (tmp_path / "t.csv").write_text('i,"Bbox [x,y,w,h]"\n1,"[1, 2, 3, 4]"\n')
        assert list(read_rows(tmp_path / "t.csv")) == [{"i": "1", "Bbox [x,y,w,h]": "[1, 2, 3, 4]"}]

    @pytest.mark.parametrize("row", ["a,1", "a,1,2,3", "a,1,2,3,4"])
    def test_rows_of_another_length(self, tmp_path, row):
        (tmp_path / "t.csv").write_text(f"i,x,y\n{row}\n")
        with pytest.raises(DataError, match="line 2: . fields, the header has 3"):
            list(read_rows(tmp_path / "t.csv"))


class TestWhereTheImagesAre:
    VINDR = (["50a4", "No finding", "", "", "", ""], ["9a5", "ILD", 1, 2, 30, 20], ["9a5", "Mass", 3, 2, 30, 20])

    @pytest.mark.parametrize("suffix", [".png", ".dicom", ".jpg", ""])
    def test_names_without_folder_and_suffix(self, collect, tmp_path, suffix):
        images = [f"train/{name}{suffix}" for name in ("50a4", "9a5")]
        options = ("--label", "f", "--box-label", "f", "--box-columns", *"xyzw", "--no-box", "none")
        entries, document, _ = collect(
            "image f x y z w", self.VINDR, *options, "--images", tmp_path / "train", images=images
        )
        assert list(entries) == images and document["classes"] == ["ILD", "Mass", "No finding"]
        assert [entry["labels"] for entry in entries.values()] == [[0, 0, 1], [1, 1, 0]]
        template = ("--image-template", f"train/{{image}}{suffix}")
        assert collect("image f x y z w", self.VINDR, *options, *template, images=images)[1]["hash"] == document["hash"]

    def test_folder_and_name_in_two_columns(self, collect):
        rows = [["0", "a.png", "['normal']"], ["1", "a.png", "['mass', 'edema']"], ["", "b.png", "['x']"]]
        options = ("--image-template", "images/{ImageDir}/{ImageID}", "--label", "Labels")
        images = ["images/0/a.png", "images/1/a.png"]
        entries, document, _ = collect("ImageDir ImageID Labels", rows, *options, images=images)
        assert list(entries) == ["images/0/a.png", "images/1/a.png"]
        assert document["dropped"] == {"no image path": 1}

    def test_several_folders(self, collect, tmp_path):
        images = [f"images_00{i}/images/{i}.png" for i in (1, 2)]
        rows = [["1.png", "a"], ["2.png", "b"], ["3.png", "b"]]
        folders = ("--images", tmp_path / "images_001", tmp_path / "images_002")
        entries, document, told = collect("image f", rows, "--label", "f", *folders, images=images)
        assert list(entries) == images and document["dropped"] == {"image: missing": 1} and "3.png: missing" in told
        entries, _, _ = collect("image f", rows, "--label", "f", "--images", tmp_path, images=())
        assert list(entries) == images

    @pytest.mark.parametrize("images", [["a/1.png", "b/1.png"], ["a/1.png", "a/1.jpg"]])
    def test_a_name_of_several_files(self, collect, tmp_path, images):
        told = collect("image f", [["1", "x"]], "--label", "f", "--images", tmp_path, images=images, fails=True)
        assert "line 2: 2 files are meant by '1'" in told and all(image in told for image in images)
        entries, _, _ = collect("image f", [[images[0], "x"]], "--label", "f", "--images", tmp_path, images=images)
        assert list(entries) == images[:1]

    def test_a_folder_of_the_path_must_be_right(self, collect, tmp_path):
        rows = [["p1/a.png", "x"], ["p2/a.png", "x"]]
        entries, document, _ = collect("image f", rows, "--label", "f", "--images", tmp_path, images=["data/p1/a.png"])
        assert list(entries) == ["data/p1/a.png"] and document["dropped"] == {"image: missing": 1}

    def test_names_with_dots(self, collect, tmp_path):
        names = ["1.2.840.7", "1.2.840.8"]
        entries, _, _ = collect("image f", [[name, "x"] for name in names], "--label", "f")
        assert [entry["id"] for entry in entries.values()] == names
        for name in names:
            save_image(tmp_path / "more" / f"{name}.png")
        entries, _, _ = collect(
            "image f", [[n, "x"] for n in names], "--label", "f", "--images", tmp_path / "more", images=()
        )
        assert list(entries) == [f"more/{name}.png" for name in names]

    def test_paths_of_windows(self, collect):
        entries, _, _ = collect("image f", [["images\\a.png", "x"]], "--label", "f", images=["images/a.png"])
        assert list(entries) == ["images/a.png"]

    @pytest.mark.parametrize("cell", ["../secret", "/etc/passwd", "images/../../secret"])
    def test_nothing_leads_out(self, collect, tmp_path, cell):
        save_image(tmp_path.parent / "secret.png")
        told = collect("name f", [[cell, "x"]], "--label", "f", "--image-template", "{name}.png", images=(), fails=True)
        assert "outside the dataset folder" in told or "nothing is left" in told

    def test_errors(self, collect, tmp_path):
        assert "names no column" in collect("image f", [["a", "x"]], "--image-template", "a.png", images=(), fails=True)
        told = collect("image f", [["a", "x"]], "--label", "f", "--image-template", "{imag}.png", images=(), fails=True)
        assert "no column 'imag'. Did you mean 'image'?" in told
        told = collect("image f", [["a.png", "x"]], "--label", "f", "--images", tmp_path / "no", fails=True)
        assert "there is no folder" in told
        told = collect("image f", [["b.png", "x"]], "--label", "f", images=(), fails=True)
        assert "--image-template or --images may find them" in told


class TestPublicTables:
    """The commands of docs/data.md, on the first rows of the tables as they are published."""

    NIH = "Image Index,Finding Labels,Follow-up #,Patient ID,OriginalImage[Width,Height],PixelSpacing[x,y]\n"
    TABLES = {
        "nih/Data_Entry_2017_v2020.csv": NIH + "1_0.png,Mass|Edema,0,1,9,9,1,1\n1_1.png,Mass,1,1,9,9,1,1\n"
        "2_0.png,No Finding,0,2,9,9,1,1\n3_0.png,Edema,0,3,9,9,1,1\n",
        "nih/BBox_List_2017.csv": "Image Index,Finding Label,Bbox [x,y,w,h],,,\n1_0.png,Mass,1.5,2,3,4\n"
        "1_0.png,Edema,2,2,5,5\n2_0.png,Mass,1,1,2,2\n3_0.png,Mass,1,1,2,2\n",
        "vindr/train.csv": "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n5a,No finding,14,R1,,,,\n"
        "5a,No finding,14,R2,,,,\n6b,ILD,5,R1,1,2,9,9\n6b,Mass,8,R2,2,2,8,8\n7c,Mass,8,R1,2,2,8,8\n",
        "padchest/PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv": ",ImageID,ImageDir,PatientID,Projection,"
        "Report,Labels\n0,a.png,0,1,PA,sin hallazg patolog .,['normal']\n1,a.png,12,2,L,sin hallazg,['normal']\n"
        "2,b.png,12,2,AP,cardiomegali y derram .,\"['cardiomegaly', 'pleural effusion']\"\n3,c.png,3,4,PA,None,nan\n"
        "4,d.png,3,5,PA,derram pleural derech .,['pleural effusion']\n",
    }
    IMAGES = ("nih/images_001/images/1_0.png", "nih/images_001/images/1_1.png", "nih/images_002/images/2_0.png")
    IMAGES += ("nih/images_012/images/3_0.png", "vindr/train/5a.dicom", "vindr/train/6b.dicom", "vindr/train/7c.dicom")
    IMAGES += ("padchest/0/a.png", "padchest/12/a.png", "padchest/12/b.png", "padchest/3/c.png", "padchest/3/d.png")
    LABELS = (
        ["Edema", "Mass", "No Finding"],
        ["ILD", "Mass", "No finding"],
        ["cardiomegaly", "normal", "pleural effusion"],
    )

    def test_commands_of_the_page(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in self.IMAGES:
            save_image(tmp_path / name)
        for name, text in self.TABLES.items():
            (tmp_path / name).write_text(text)
        page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").replace("\\\n", "")
        commands = re.findall(r"^python -m monai_mgca.data (csv (?:nih|vindr|padchest)/.*)$", page, flags=re.MULTILINE)
        documents = []
        for command in commands:
            assert main(shlex.split(command)) == 0
            documents.append(json.loads(Path(shlex.split(command)[-1]).read_text()))
        assert [sum(document["counts"].values()) for document in documents] == [4, 3, 3, 3]
        assert [d.get("classes") for d in documents] == [self.LABELS[0], None, *self.LABELS[1:]]
        assert documents[1]["box_classes"] == ["Edema", "Mass"] and documents[2]["box_classes"] == ["ILD", "Mass"]
        boxes = {e["image"]: e["boxes"] for part in ("training", "validation", "test") for e in documents[1][part]}
        assert boxes["images_001/images/1_0.png"] == [[1.5, 2, 4.5, 6], [2, 2, 7, 7]]


class TestCases:
    def run(self, shared, tmp_path, case, table, *options):
        args = [
            "csv",
            shared / "cases" / case / table,
            *options,
            "--output",
            tmp_path / "list.json",
            "--fractions",
            1,
            0,
            0,
        ]
        return main([str(arg) for arg in args])

    def test_rows(self, shared, tmp_path):
        options = (
            "--image",
            "image",
            "--box-columns",
            "x0",
            "y0",
            "x1",
            "y1",
            "--box-label",
            "finding",
            "--label",
            "finding",
        )
        assert self.run(shared, tmp_path, "csv_rows_of_one_image_lose_labels", "rows.csv", *options) == 0
        entry = json.loads((tmp_path / "list.json").read_text())["training"][0]
        assert entry["labels"] == [1, 1] and entry["box_labels"] == [0, 1]

    def test_twice(self, shared, tmp_path, capsys):
        assert self.run(shared, tmp_path, "csv_column_twice", "t.csv", "--image", "path", "--report", "text") == 2
        assert "'text' is there 2 times" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("table", "options"),
        [
            ("nih_Data_Entry_2017_v2020.csv", "--image|Image Index|--label|Finding Labels|--patient|Patient ID"),
            (
                "nih_BBox_List_2017.csv",
                "--image|Image Index|--box-columns|x|y|w|h|--box-format|xywh|--box-label|Finding Label",
            ),
            (
                "vindr_train.csv",
                "--image|image_id|--label|class_name|--box-columns|x_min|y_min|x_max|y_max|--no-box|none",
            ),
            ("ct_rate_valid_labels.csv", "--image|VolumeName|--labels|Emphysema|Atelectasis"),
            (
                "rsna_stage_2_train_labels.csv",
                "--image|patientId|--labels|Target|--box-columns|x|y|width|height|--no-box|none",
            ),
            ("rad_chestct_labels.csv", "--image|NoteAcc_DEID|--labels|Emphysema"),
        ],
    )
    def test_real_tables(self, shared, tmp_path, table, options):
        options = options.split("|")
        rows = list(read_rows(shared / "data" / "tables" / table))
        names = {row[options[1]] for row in rows}
        for name in names:  # empty headers are enough to be found
            (tmp_path / name).write_bytes(b"x")
        path = shared / "data" / "tables" / table
        args = [
            "csv",
            path,
            *options,
            "--images",
            tmp_path,
            "--dataset-dir",
            tmp_path,
            "--output",
            tmp_path / "list.json",
        ]
        assert main([str(arg) for arg in args]) == 0
        document = json.loads((tmp_path / "list.json").read_text())
        assert sum(document["counts"].values()) == len(names) and document["dropped"] == {}
        healthy = document.get("classes", []).index("No finding") if "vindr" in table else None
        for entry in document["training"] if "vindr" in table else ():
            assert entry["labels"][healthy] == (not entry["boxes"])
