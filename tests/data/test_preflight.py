# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What a training finds before it begins, and all of it at once."""

from __future__ import annotations

import json

import numpy as np
import pytest
from monai.transforms import Compose, Lambdad
from PIL import Image

from monai_mgca.apps.check_command import main
from monai_mgca.data import load_datalist, make_dataset, write_datalist
from monai_mgca.data.dataset import MAX_UNUSABLE
from monai_mgca.data.preflight import chosen_for_a_look, header_reason
from monai_mgca.transforms import CleanReportd, LoadRadiographd
from monai_mgca.utils import DataError

REPORT = "Clear lungs. No effusion."


def make_entries(folder, count):
    for i in range(count):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (20, 20), dtype=np.uint8)).save(folder / f"{i}.png")
    return [{"id": f"{i}", "image": f"{i}.png", "report": REPORT, "patient": f"secret{i}"} for i in range(count)]


def error_of(folder, entries, section="training", **kwargs):
    write_datalist(folder / "list.json", entries, "n", "s", {})
    with pytest.raises(DataError) as caught:
        load_datalist(folder / "list.json", section, **kwargs)
    assert "--write-clean" in str(caught.value)
    assert "secret" not in str(caught.value)
    return str(caught.value)


def test_headers(tmp_path, save_dicom):
    entries = make_entries(tmp_path, 9)
    (tmp_path / "0.png").write_text("version https://git-lfs.github.com/spec/v1")
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    Image.new("1", (9000, 9000)).save(tmp_path / "2.png")
    Image.new("CMYK", (20, 20)).save(tmp_path / "3.jpg")
    entries[3]["image"] = "3.jpg"
    (tmp_path / "4.dcm").write_text("<html>")
    entries[4]["image"] = "4.dcm"
    save_dicom(tmp_path / "5.dcm", np.zeros((8, 8), np.uint8), Rows=60000, Columns=60000)
    entries[5]["image"] = "5.dcm"
    message = error_of(tmp_path, {"training": entries})
    some = (
        "0.png: not an image",
        "1.png: unreadable",
        "2.png: decompression bomb",
        "3.jpg: wrong number of channels",
    )
    for line in ("6 problems", *some, "4.dcm: not an image", "5.dcm: decompression bomb"):
        assert line in message


def test_volumes_are_left_to_their_reader(tmp_path):
    for name in ("a.nrrd", "a.nii.gz", "a"):
        (tmp_path / name).write_bytes(b"whatever ITK makes of it")
        assert header_reason(str(tmp_path), name) is None


def test_many_images_are_looked_at_here_and_there():
    chosen = list(chosen_for_a_look(range(400_000)))
    assert len(chosen) == 2000
    assert chosen[:2] == [0, 200]
    assert chosen[-1] == 399_800
    assert list(chosen_for_a_look([7, 8])) == [7, 8]


def test_reports(tmp_path):
    entries = make_entries(tmp_path, 4)
    entries[0]["report"], entries[1]["report"], entries[2]["report"] = "Normal.", "", 7
    message = error_of(tmp_path, {"training": entries})
    for line in ("3 problems", "0.png: report too short", "1.png: empty report", "2.png: empty report"):
        assert line in message
    assert len(load_datalist(tmp_path / "list.json", "training", report=False)) == 4


def test_patients_in_two_sections(tmp_path):
    entries = make_entries(tmp_path, 6)
    entries[0]["patient"] = entries[1]["patient"] = entries[4]["patient"]
    entries[2]["patient"] = entries[5]["patient"] = None  # whose they are is not known
    splits = {"training": entries[:3], "test": entries[3:]}
    for section in splits:
        assert "(1 patients): in another section too" in error_of(tmp_path, splits, section)
    entries[4]["patient"] = "secret4a"
    write_datalist(tmp_path / "list.json", splits, "n", "s", {})
    assert len(load_datalist(tmp_path / "list.json", "training")) == 3


@pytest.mark.parametrize("track_meta", [None, False])
def test_all_images_that_cannot_be_cached_are_reported(tmp_path, track_meta):
    entries = make_entries(tmp_path, 6)
    for i in (1, 4):
        (tmp_path / f"{i}.png").write_bytes((tmp_path / f"{i}.png").read_bytes()[:200])
    write_datalist(tmp_path / "list.json", {"training": entries}, "n", "s", {})
    data = load_datalist(tmp_path / "list.json", "training")
    data[2]["report"] = "Secret."
    transform = Compose([LoadRadiographd("image"), CleanReportd("report")])
    with pytest.raises(DataError) as caught:
        make_dataset(data, transform, "memory", progress=False, track_meta=track_meta, num_workers=2)
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 6 images cannot be used:"
    assert "--write-clean" in lines[-1]
    assert len(lines) == 5
    assert [line.split(":")[0].strip() for line in lines[1:4]] == [str(tmp_path / f"{i}.png") for i in (1, 2, 4)]
    assert "Secret" not in str(caught.value)


def test_very_many_unusable_images_end_the_filling(tmp_path):
    data = [{"image": str(tmp_path / f"{i}.png")} for i in range(MAX_UNUSABLE * 4)]
    with pytest.raises(DataError, match=f"more than {MAX_UNUSABLE - 1} images cannot be used") as caught:
        make_dataset(data, LoadRadiographd("image"), "memory", progress=False, num_workers=1)
    assert str(caught.value).count("there is no such file") == MAX_UNUSABLE


def test_another_error_is_no_fault_of_the_data(tmp_path):
    def fail(_):
        raise KeyError("a mistake in the transform")

    with pytest.raises(RuntimeError):
        make_dataset([{"image": "a"}], Lambdad("image", fail), "memory", progress=False)


def test_a_clean_datalist_trains(tmp_path, capsys):
    """What the preflight refuses, the check leaves out."""
    entries = make_entries(tmp_path, 5)
    (tmp_path / "0.png").write_bytes(b"no image")
    entries[1]["report"], entries[2]["patient"] = "Normal.", entries[4]["patient"]
    error_of(tmp_path, {"training": entries[:4], "test": entries[4:]})
    assert main([str(tmp_path / "list.json"), "--write-clean", str(tmp_path / "clean.json")]) == 1
    clean = json.loads((tmp_path / "clean.json").read_text())
    assert clean["training"] == [entries[3]]
    assert clean["test"] == [entries[4]]
    assert [item["id"] for item in load_datalist(tmp_path / "clean.json", "training")] == ["3"]
    assert "secret" not in capsys.readouterr().out
