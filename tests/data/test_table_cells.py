# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""Cells and files of tables as programs write them."""

from __future__ import annotations

import pytest

from monai_mgca.data.sources.tables.cells import id_problems, is_missing, names_in, parse_value
from monai_mgca.data.sources.tables.rows import numbered_rows, read_rows
from monai_mgca.utils import DataError

TEXT = "The lungs are clear. No effusion."
BOXES = ("--box-columns", *"xywh", "--box-format", "xywh")


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
        entries, document, output = collect(header, rows, *options, images=images)
        assert document["dropped"] == {"no patient": 1, "empty report": 1, "no image path": 1}
        assert list(entries) == ["a.png", "d.png"]
        assert "labels" not in entries["d.png"]
        assert document["classes"] == ["edema"]
        assert ("say that a value is missing (nan, None, - ...)" in output) == bool(cell.strip())
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

    @pytest.mark.parametrize(
        "cell", ["['edema' 'mass']", "[edema, mass]", "array(['edema'])", "['edema', 1]", "['edema'", "{'edema': 1}"]
    )
    def test_lists_that_cannot_be_understood(self, collect, cell):
        if cell.endswith(("]", "}")):
            output = collect("image f", [["a.png", cell]], "--label", "f", fails=True)
            assert "t.csv line 2: the names of a.png in column 'f' cannot be parsed" in output

    def test_a_split_is_missing(self, collect):
        rows = [["a.png", TEXT, "train"], ["b.png", TEXT, "nan"]]
        output = collect("image r s", rows, "--report", "r", "--split", "s", fails=True)
        assert "column 's' names no split of 1 images: fill it" in output

    def test_names_that_are_nearly_one(self, collect):
        _, _, output = collect(
            "image f", [["a.png", "Edema|pleural_effusion"], ["b.png", "edema|Pleural effusion"]], "--label", "f"
        )
        assert "classes of nearly one name: Edema, edema;" in output
        assert "classes of nearly one name: Pleural effusion, pleural_effusion;" in output

    def test_an_empty_list(self, collect):
        _, document, output = collect("image f", [["a.png", "[]"], ["b.png", "['x']"]], "--label", "f")
        assert document["classes"] == ["x"]
        assert "dropped: 1 (no annotation)" in output

    def test_another_separator_is_hinted_at(self, collect):
        _, _, output = collect("image f", [["a.png", "edema;mass"]], "--label", "f")
        assert "1 classes have a separator in their name, 'edema;mass' say: is --separator right?" in output

    def test_a_report_in_a_list(self, collect):
        rows = [["a.png", "['The lungs are clear.', 'No effusion.']"], ["b.png", '["The lungs are clear."]']]
        entries, _, _ = collect("image r", rows, "--report", "r")
        assert [entry["report"] for entry in entries.values()] == [TEXT, "The lungs are clear."]
        output = collect("image r", [["a.png", "['The lungs' 'are clear']"]], "--report", "r", fails=True)
        assert "line 2" in output
        assert "lungs" not in output

    @pytest.mark.parametrize(
        "cell",
        [
            "{'Findings': 'The lungs are clear.', 'Impression': 'No effusion.', 'Technique': 'AP'}",
            '{"indication": null, "findings": ["The lungs are", "clear."], "impression": "No effusion."}',
        ],
    )
    def test_a_report_in_a_dictionary(self, collect, cell):
        entries, _, _ = collect("image r", [["a.png", cell]], "--report", "r")
        assert entries["a.png"]["report"] == "No effusion. The lungs are clear."
        output = collect("image r", [["a.png", "{'lungs': {'right': 'clear'}}"]], "--report", "r", fails=True)
        assert "line 2: texts were expected" in output
        assert "lungs" not in output

    @pytest.mark.parametrize("column", ["image", "patient", "split"])
    def test_a_list_where_one_value_is_expected(self, collect, column):
        row = {"image": "a.png", "patient": "p", "split": "train", "r": TEXT} | {column: "['secret', 'b.png']"}
        options = ("--patient", "patient", "--split", "split", "--report", "r")
        output = collect("image patient split r", [list(row.values())], *options, images=["a.png"], fails=True)
        assert f"line 2: column '{column}' holds a list" in output
        assert "secret" not in output

    @pytest.mark.parametrize(
        ("ids", "lines"),
        [(("007", "7"), "2 and 3"), (("7", "7.0"), "2 and 3"), (("A", "0012", "12.0"), "3 and 4"), (("1.2E+11",), "2")],
    )
    def test_ids_that_were_taken_for_numbers(self, collect, ids, lines):
        rows = [[f"{i}.png", name, TEXT] for i, name in enumerate(ids)]
        output = collect("image p r", rows, "--patient", "p", "--report", "r", fails=True)
        assert (
            f"column 'p' holds ids that were taken for numbers:\n  line{'s' if 'and' in lines else ''} {lines}"
            in output
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
            with pytest.raises(ValueError):  # noqa: PT011
                parse_value(cell)

    def test_a_box_without_a_class(self, collect):
        rows = [["a.png", 1, 2, 3, 4, "nan"]]
        output = collect("image x y w h kind", rows, "--box-label", "kind", *BOXES, fails=True)
        assert "line 2: a box of a.png has no class" in output

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
        output = collect("image r", [["a.png", "Größe normal."]], "--report", "r", encoding="latin-1", fails=True)
        assert "is not UTF-8 (at or after line" in output
        assert "--encoding" in output
        options = ("--report", "r", "--encoding", "latin-1")
        entries, _, _ = collect("image r", [["a.png", "Die Größe ist normal."]], *options, encoding="latin-1")
        assert "Größe" in entries["a.png"]["report"]
        options = ("--report", "r", "--encoding", "utf9")
        assert "no encoding 'utf9'" in collect("image r", [["a.png", TEXT]], *options, fails=True)

    def test_utf_16_without_its_mark(self, tmp_path):
        (tmp_path / "t.csv").write_bytes(f"image,r\na.png,{TEXT}\n".encode("utf-16-le"))
        with pytest.raises(DataError, match=r"is not UTF-8 .*--encoding"):
            list(numbered_rows(tmp_path / "t.csv", ["image"]))
        assert len(list(numbered_rows(tmp_path / "t.csv", ["image"], "utf-16-le"))) == 1

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
        with pytest.raises(DataError, match=r"line 2: . fields, the header has 3"):
            list(read_rows(tmp_path / "t.csv"))
