# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""No path of a datalist, table, list, archive or folder leads out of the folder that the data are in."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import monai_mgca.apps.card.card_command
import monai_mgca.apps.ground.ground_command
import monai_mgca.apps.retrieve.retrieve_command
from monai_mgca.apps.data_command import main as data_main
from monai_mgca.apps.ground.regions import load_regions
from monai_mgca.data import load_datalist, load_labeled, write_datalist
from monai_mgca.data.check.check_datalist import check_datalist
from monai_mgca.data.paths import file_problem, find_files
from monai_mgca.transforms import LoadMask, LoadRadiograph
from monai_mgca.utils import DataError

SECRET = "zzsecretword of another patient. Small left pleural effusion."
TEXT = "The lungs are clear. No pleural effusion or pneumothorax is seen."


@pytest.fixture
def place(tmp_path):
    """The data in data/, and in secret/ what is not to be read, to which links in data/ lead."""
    for folder in ("data/images", "secret"):
        (tmp_path / folder).mkdir(parents=True)
    for path in ("data/images/1.png", "secret/1.png", "secret/CXR1_IM-0001-1001.png"):
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / path)
    (tmp_path / "secret" / "1.txt").write_text(SECRET)
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret" / "1.png")
    (tmp_path / "data" / "folder").symlink_to(tmp_path / "secret")
    (tmp_path / "data" / "again.png").symlink_to(tmp_path / "data" / "link.png")
    (tmp_path / "data-2").mkdir()
    shutil.copy(tmp_path / "secret" / "1.png", tmp_path / "data-2" / "1.png")
    return tmp_path


TRICKS = {
    "up": "../secret/1.png",
    "up from a folder": "images/../../secret/1.png",
    "up and back": "../data-2/1.png",
    "absolute": "{place}/secret/1.png",
    "a link": "link.png",
    "a link to a link": "again.png",
    "a linked folder": "folder/1.png",
    "a linked folder and up": "folder/../secret/1.png",
    "NUL": "images/1.png\0.png",
    "Windows": "..\\secret\\1.png",
    "a drive": "C:\\secret\\1.png",
    "a device": "/dev/zero",
    "the process": "/proc/self/environ",
    "an address": "file:///etc/hostname",
    "home": "~/1.png",
    "nothing": "",
    "the folder": ".",
    "a number": 7,
    "a list": ["images/1.png"],
}
REASONS = ("outside", "missing", "cannot be read", "no path", "without", "folder", "is no", "image", "neither")


@pytest.mark.parametrize("key", ["image", "mask", "masks"])
@pytest.mark.parametrize("trick", TRICKS)
def test_a_datalist(place, trick, key, monkeypatch):
    """Neither the loaders nor the check open it, and all name the file."""
    path = TRICKS[trick].format(place=place) if isinstance(TRICKS[trick], str) else TRICKS[trick]
    entry = {"id": "1", "image": "images/1.png", "report": TEXT, "patient": "1", "mask": "images/1.png"}
    entry |= {"boxes": [[1, 1, 9, 9]], "box_labels": [0]}
    if trick == "a list" and key == "mask":
        path = [[path]]
    entry |= {"mask": [path]} if key == "masks" else {key: path}
    header = {"mask_classes": ["a"], "box_classes": ["a"]}
    datalist = place / "data" / "datalist.json"
    write_datalist(datalist, {"training": [entry], "validation": [entry]}, "x", "by hand", {}, **header)
    opened = []
    for kind in (LoadRadiograph, LoadMask):
        load = kind.__call__
        monkeypatch.setattr(kind, "__call__", lambda self, p, load=load: opened.append(str(p)) or load(self, p))
    calls = [
        lambda: load_labeled(datalist, "training", "segmentation"),
        lambda: load_regions(datalist, "training", mask_key=None if key == "masks" else "mask"),
    ]
    if key == "image":
        calls += [lambda: load_datalist(datalist, "training")]
    for call in calls[: 1 if key == "masks" else None]:
        with pytest.raises(DataError) as error:
            call()
        assert any(reason in str(error.value) for reason in REASONS)
    assert check_datalist(datalist)
    assert not [name for name in opened if "secret" in name or name.startswith(("/dev", "/proc"))]


def write_rows(path, rows):
    """csv of Python 3.10 writes no NUL."""
    text = io.StringIO()
    csv.writer(text).writerows([[cell.replace("\0", "\ue000") for cell in row] for row in rows])
    path.write_bytes(text.getvalue().replace("\ue000", "\0").encode())


@pytest.mark.parametrize("trick", ["up", "absolute", "a link", "a linked folder", "NUL", "Windows", "a device"])
def test_tables_and_lists(place, trick, capsys):
    """csv, Object-CXR, COVIDx and CheXpert name images in a file."""
    name = TRICKS[trick].format(place=place)
    data, out = place / "data", place / "out.json"
    (data / "train").mkdir()
    (data / "dev").mkdir()
    (data / "test").mkdir()
    write_rows(data / "t.csv", [["path", "text"], [name, TEXT]])
    for part in ("train", "dev"):
        write_rows(data / f"{part}.csv", [["image_name", "annotation"], [f"../{name}", ""]])
    for part in ("train", "test"):
        (data / f"{part}.txt").write_text(f"1 ../{name} normal\n")
    for command in (
        ("csv", data / "t.csv", "--image", "path", "--report", "text"),
        ("object_cxr", "--dataset-dir", data),
        ("covidx", "--dataset-dir", data),
    ):
        assert data_main([*map(str, command), "--output", str(out)]) == 2
        output = capsys.readouterr().err
        # csv of Python 3.10 reads no NUL
        assert any(text in output for text in ("outside the dataset folder", "nothing is left", "line contains NUL"))
        assert not out.exists()


class TestSources:
    def run(self, place, *options):
        return data_main([*map(str, options), "--output", str(place / "out.json"), "--fractions", "1", "0", "0"])

    def test_a_folders_reports(self, place, capsys):
        reports = place / "reports"
        reports.mkdir()
        (reports / "1.txt").symlink_to(place / "secret" / "1.txt")
        assert self.run(place, "folder", "--images", place / "data" / "images", "--reports", reports) == 2
        output = capsys.readouterr().err
        assert "links out of the folder" in output
        assert "reports/1.txt" in output
        assert not (place / "out.json").exists()

    def test_a_link_inside_is_followed(self, place):
        reports = place / "reports"
        reports.mkdir()
        (reports / "text").write_text(TEXT)
        (reports / "1.txt").symlink_to(reports / "text")
        (place / "linked").symlink_to(reports)
        assert self.run(place, "folder", "--images", place / "data" / "images", "--reports", place / "linked") == 0
        assert TEXT in (place / "out.json").read_text()

    def test_open_i(self, place, capsys):
        xml = place / "xml"
        xml.mkdir()
        (place / "secret" / "1.xml").write_text(
            f'<a><uId id="1"/><AbstractText Label="FINDINGS">{SECRET}</AbstractText><parentImage id="1_IM-1"/></a>'
        )
        (xml / "1.xml").symlink_to(place / "secret" / "1.xml")
        Image.new("L", (9, 9), 5).save(place / "data" / "images" / "1_IM-1.png")
        assert self.run(place, "open_i", "--reports", xml, "--images", place / "data" / "images") == 2
        assert "links out of the folder" in capsys.readouterr().err

    @pytest.mark.parametrize("study", ["1/../../../../secret/1", "{place}/secret/1", "1\0"])
    def test_mimic_cxr(self, place, study):
        """A study's id is a part of its report's path."""
        study = study.format(place=place)
        jpg, text = place / "data", place / "text"
        row = {"dicom_id": "d", "subject_id": "1", "study_id": study, "ViewPosition": "PA", "split": "train"}
        (text / "p1" / "p1" / "s1").mkdir(parents=True)
        for name in ("metadata", "split"):
            write_rows(jpg / f"mimic-cxr-2.0.0-{name}.csv", [row, row.values()])
        command = ["mimic_cxr", "--dataset-dir", str(jpg), "--reports", str(text), "--output", str(place / "out.json")]
        assert data_main(command) == 2
        assert not (place / "out.json").exists()

    def test_find_files(self, place):
        assert [path.name for path in find_files(place / "data" / "images")] == ["1.png"]
        with pytest.raises(DataError, match=r"link.png"):
            find_files(place / "data", "*.png")
        assert find_files(place / "data", wanted=lambda path: path.suffix == ".txt") == []

    def test_a_folder_of_a_series(self, place):
        series, base = place / "data" / "series", str(place / "data")
        series.mkdir()
        (series / "1.dcm").write_bytes(b"x")
        (series / "2.dcm").symlink_to(series / "1.dcm")
        assert file_problem(base, "series") is None
        (series / "3.dcm").symlink_to(place / "secret" / "1.png")
        assert file_problem(base, "series") == "lies outside the dataset folder"


@pytest.mark.parametrize("command", ["retrieve", "ground", "report"])
def test_commands_refuse_a_datalist_that_leads_out(made, place, capsys, command):
    data = place / "sample"
    shutil.copytree(made / "data", data)
    document = json.loads((data / "datalist.json").read_text())
    document["validation"][0]["image"] = "../secret/1.png"
    (data / "datalist.json").write_text(json.dumps(document))
    options = ["--checkpoint", str(made / "models" / "model_pretrain.pt"), "--dataset-dir", str(data)]
    options += ["--output", str(place / "out")]
    if command == "retrieve":
        code = monai_mgca.apps.retrieve.retrieve_command.main([*options, "--text", "left pleural effusion"])
    elif command == "ground":
        code = monai_mgca.apps.ground.ground_command.main([*options, "--evaluate"])
    else:
        code = monai_mgca.apps.card.card_command.main([*options, "--logdir", str(place)])
    assert code == 2
    assert "../secret/1.png: lies outside the dataset folder" in capsys.readouterr().err
    assert not (place / "out").exists()
