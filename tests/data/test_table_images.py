# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""Where the images of a table are, and tables as they are published."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from monai_mgca.apps.data_command import main
from monai_mgca.data.sources.tables.rows import read_rows

ROOT = Path(__file__).resolve().parents[2]


def save_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (60, 40)).save(path, format="PNG")


class TestWhereTheImagesAre:
    VINDR = (["50a4", "No finding", "", "", "", ""], ["9a5", "ILD", 1, 2, 30, 20], ["9a5", "Mass", 3, 2, 30, 20])

    @pytest.mark.parametrize("suffix", [".png", ".dicom", ".jpg", ""])
    def test_names_without_folder_and_suffix(self, collect, tmp_path, suffix):
        images = [f"train/{name}{suffix}" for name in ("50a4", "9a5")]
        options = ("--label", "f", "--box-label", "f", "--box-columns", *"xyzw", "--no-box", "none")
        entries, document, _ = collect(
            "image f x y z w", self.VINDR, *options, "--images", tmp_path / "train", images=images
        )
        assert list(entries) == images
        assert document["classes"] == ["ILD", "Mass", "No finding"]
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
        entries, document, output = collect("image f", rows, "--label", "f", *folders, images=images)
        assert list(entries) == images
        assert document["dropped"] == {"image: missing": 1}
        assert "3.png: missing" in output
        entries, _, _ = collect("image f", rows, "--label", "f", "--images", tmp_path, images=())
        assert list(entries) == images

    @pytest.mark.parametrize("images", [["a/1.png", "b/1.png"], ["a/1.png", "a/1.jpg"]])
    def test_a_name_of_several_files(self, collect, tmp_path, images):
        output = collect("image f", [["1", "x"]], "--label", "f", "--images", tmp_path, images=images, fails=True)
        assert "line 2: 2 files are meant by '1'" in output
        assert all(image in output for image in images)
        entries, _, _ = collect("image f", [[images[0], "x"]], "--label", "f", "--images", tmp_path, images=images)
        assert list(entries) == images[:1]

    def test_a_folder_of_the_path_must_be_right(self, collect, tmp_path):
        rows = [["p1/a.png", "x"], ["p2/a.png", "x"]]
        entries, document, _ = collect("image f", rows, "--label", "f", "--images", tmp_path, images=["data/p1/a.png"])
        assert list(entries) == ["data/p1/a.png"]
        assert document["dropped"] == {"image: missing": 1}

    @pytest.mark.parametrize(("stored", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
    def test_accents_of_macos(self, collect, tmp_path, stored, written):
        file, name = unicodedata.normalize(stored, "Müller.png"), unicodedata.normalize(written, "Müller")
        images = ("--images", tmp_path)
        entries, _, _ = collect("image f", [[name, "x"]], "--label", "f", *images, images=[f"ö/{file}"])
        assert list(entries) == [f"ö/{file}"]

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
        output = collect(
            "name f", [[cell, "x"]], "--label", "f", "--image-template", "{name}.png", images=(), fails=True
        )
        assert "outside the dataset folder" in output or "nothing is left" in output

    def test_errors(self, collect, tmp_path):
        assert "names no column" in collect("image f", [["a", "x"]], "--image-template", "a.png", images=(), fails=True)
        output = collect(
            "image f", [["a", "x"]], "--label", "f", "--image-template", "{imag}.png", images=(), fails=True
        )
        assert "no column 'imag'. Did you mean 'image'?" in output
        output = collect("image f", [["a.png", "x"]], "--label", "f", "--images", tmp_path / "no", fails=True)
        assert "there is no folder" in output
        output = collect("image f", [["b.png", "x"]], "--label", "f", images=(), fails=True)
        assert "--image-template or --images may find them" in output


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
        commands = re.findall(r"^mgca data (csv (?:nih|vindr|padchest)/.*)$", page, flags=re.MULTILINE)
        documents = []
        for command in commands:
            assert main(shlex.split(command)) == 0
            documents.append(json.loads(Path(shlex.split(command)[-1]).read_text()))
        assert [sum(document["counts"].values()) for document in documents] == [4, 3, 3, 3]
        assert [d.get("classes") for d in documents] == [self.LABELS[0], None, *self.LABELS[1:]]
        assert documents[1]["box_classes"] == ["Edema", "Mass"]
        assert documents[2]["box_classes"] == ["ILD", "Mass"]
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
        assert entry["labels"] == [1, 1]
        assert entry["box_labels"] == [0, 1]

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
        assert sum(document["counts"].values()) == len(names)
        assert document["dropped"] == {}
        healthy = document.get("classes", []).index("No finding") if "vindr" in table else None
        for entry in document["training"] if "vindr" in table else ():
            assert entry["labels"][healthy] == (not entry["boxes"])
