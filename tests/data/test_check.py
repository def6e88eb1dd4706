# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Every fault of the data is made for real, found by the check, and left out of the clean datalist."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_mgca.apps.check_command import main
from monai_mgca.data import write_datalist
from monai_mgca.data.check.check_datalist import check_datalist
from monai_mgca.data.check.problem import ERRORS, WARNINGS, CheckLimits
from monai_mgca.data.datalist import content_hash

REPORT = "Clear lungs. No effusion."


def pixels(seed, height=40, width=32):
    return np.random.default_rng(seed).integers(0, 255, (height, width), dtype=np.uint8)


def save(path, seed, **options):
    Image.fromarray(pixels(seed)).save(path, **options)


def make_entries(folder, names):
    """An image of its own for each name, and its entry; the reports and patients of all differ."""
    for i, name in enumerate(names):
        save(folder / name, i)
    words = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    numbers = [f"{words[i // 10]} {words[i % 10]}" for i in range(len(names))]
    return [
        {"id": f"{i}", "image": name, "report": f"{REPORT} Seen {numbers[i]}.", "patient": f"secret{i}"}
        for i, name in enumerate(names)
    ]


def write(folder, training, test=(), **extra):
    splits = {"training": list(training)} | ({"test": list(test)} if test else {})
    write_datalist(folder / "list.json", splits, "n", "s", {"empty report": 2}, **extra)
    return folder / "list.json"


def found(datalist, *args, **kwargs):
    """(reason, file) of all problems and how often."""
    return Counter((problem.reason, problem.file) for problem in check_datalist(datalist, *args, **kwargs))


def once(*pairs):
    return Counter(dict.fromkeys(pairs, 1))


def test_nothing_broken(tmp_path, capsys):
    entries = make_entries(tmp_path, ["a.png", "b.jpg", "c.tif"])
    assert main([str(write(tmp_path, entries[:-1], entries[-1:])), "--phi"]) == 0
    assert "nothing is broken" in capsys.readouterr().out


def break_files(folder, save_dicom):
    """Files that are broken in every way: name to reason."""
    (folder / "zero.png").write_bytes(b"")
    (folder / "page.png").write_text("<html>Please log in</html>")
    save(folder / "cut.png", 0)
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:400])
    save(folder / "cut.jpg", 0)
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-200])
    whole = save_dicom(folder / "cut.dcm", pixels(0)).read_bytes()
    (folder / "cut.dcm").write_bytes(whole[:-100])
    nibabel.save(nibabel.Nifti1Image(pixels(0), np.eye(4)), folder / "cut.nii.gz")
    (folder / "cut.nii.gz").write_bytes((folder / "cut.nii.gz").read_bytes()[:-90])
    (folder / "head.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    Image.fromarray(np.full((32, 32), 7, dtype=np.uint8)).save(folder / "flat.png")
    values = np.ones((32, 32), dtype=np.float32)
    values[0, 0] = np.nan
    Image.fromarray(values).save(folder / "nan.tif")
    Image.new("CMYK", (32, 32)).save(folder / "cmyk.jpg")
    pages = [Image.fromarray(pixels(i)) for i in range(2)]
    pages[0].save(folder / "film.gif", save_all=True, append_images=pages[1:])
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 8)), np.eye(4)), folder / "ct.nii.gz")
    Image.fromarray(pixels(50, 15, 20)).save(folder / "tiny.png")
    Image.fromarray(pixels(51, 20, 100)).save(folder / "strip.png")
    Image.new("1", (9000, 9000)).save(folder / "bomb.png")
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000))
    (folder / "bomb.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(4)))
    save_dicom(folder / "mr.dcm", pixels(52), Modality="MR")
    save_dicom(folder / "side.dcm", pixels(53), ViewPosition="LL")
    save_dicom(folder / "film.dcm", pixels(54), NumberOfFrames=2, Rows=20)
    save_dicom(folder / "bomb.dcm", pixels(55), Rows=60000, Columns=60000)
    save_dicom(folder / "rgb.dcm", pixels(56), SamplesPerPixel=3, PhotometricInterpretation="RGB", Rows=8, Columns=8)
    (folder / "folder").mkdir()
    reasons = {
        "missing": ["gone.png"],
        "zero bytes": ["zero.png"],
        "empty folder": ["folder"],
        "lies outside the dataset folder": ["../out.png", "link.png"],
        "not an image": ["page.png"],
        "unreadable": ["head.png"],
        "truncated": ["cut.png", "cut.jpg", "cut.dcm", "cut.nii.gz"],
        "decompression bomb": ["bomb.png", "bomb.nii.gz", "bomb.dcm"],
        "multi-frame": ["film.gif", "pages.tif", "film.dcm", "ct.nii.gz"],
        "wrong number of channels": ["cmyk.jpg", "rgb.dcm"],
        "values that are not finite (NaN)": ["nan.tif"],
        "constant": ["flat.png"],
        "too small": ["tiny.png"],
        "too elongated": ["strip.png"],
        "wrong modality": ["mr.dcm"],
        "lateral view": ["side.dcm"],
    }
    return {name: reason for reason, names in reasons.items() for name in names}


def test_every_broken_file(tmp_path, capsys, save_dicom):
    folder = tmp_path / "data"
    folder.mkdir()
    save(tmp_path / "out.png", 99)
    (folder / "link.png").symlink_to(tmp_path / "out.png")
    reasons = break_files(folder, save_dicom)
    good = make_entries(folder, ["a.png", "b.png"])
    bad = [
        {"id": name, "image": name, "report": f"{REPORT} {name.replace('.', ' ')}", "patient": f"secret {name}"}
        for name in reasons
    ]
    datalist = write(folder, [good[0], *bad], [good[1]])
    before = datalist.read_bytes()
    assert found(datalist, num_workers=2) == once(*((reason, name) for name, reason in reasons.items()))
    assert main([str(datalist), "--write-clean", str(folder / "clean.json")]) == 1
    captured = capsys.readouterr()
    assert "      4  truncated" in captured.out
    assert f"training: 1 of {len(bad) + 1} entries" in captured.out
    assert "link.png" in captured.out
    assert "secret" not in captured.out + captured.err
    assert datalist.read_bytes() == before
    clean = json.loads((folder / "clean.json").read_text())
    assert clean["training"] == [good[0]]
    assert clean["test"] == [good[1]]
    assert clean["counts"] == {"training": 1, "test": 1}
    assert clean["dropped"] == {"empty report": 2, **Counter(reasons.values())}
    assert clean["hash"] == content_hash({"training": [good[0]], "test": [good[1]]})
    assert main([str(folder / "clean.json")]) == 0


def test_file_that_cannot_be_opened(tmp_path):
    entries = make_entries(tmp_path, ["a.png", "b.png", "c.png"])
    entries[0]["image"], entries[1]["image"] = "a\0.png", None
    (tmp_path / "c.png").chmod(0)
    expected = [("cannot be opened", "a\0.png"), ("no path", "(an entry without an image)")]
    # root may read everything
    expected += [] if os.geteuid() == 0 else [("cannot be opened", "c.png")]
    assert found(write(tmp_path, entries)) == once(*expected)


def test_reports_views_and_colors(tmp_path):
    names = [f"{i}.png" for i in range(9)]
    entries = make_entries(tmp_path, names)
    entries[0]["report"], entries[1]["report"], entries[2]["report"] = "", "Normal.", None
    entries[3]["report"] = entries[4]["report"] = f"{REPORT} Twice."
    entries[5]["view"], entries[6]["view"] = "Lateral", "AP Supine"
    photo = np.stack([pixels(5), pixels(6), pixels(7)], axis=-1)
    Image.fromarray(photo).save(tmp_path / "7.png")
    Image.fromarray(np.stack([pixels(8)] * 3, axis=-1)).save(tmp_path / "8.png")
    assert found(write(tmp_path, entries)) == once(
        ("empty report", "0.png"),
        ("report too short", "1.png"),
        ("empty report", "2.png"),
        ("same report of several patients", "3.png"),
        ("lateral view", "5.png"),
        ("in color", "7.png"),
    )


def test_what_is_there_twice(tmp_path, save_dicom):
    """Of two, that in the test section stays, else the first."""
    entries = make_entries(tmp_path, [f"{i}.png" for i in range(8)])
    entries[1]["id"] = entries[0]["id"]
    entries[2]["patient"] = entries[6]["patient"]
    save(tmp_path / "3.png", 7)  # the pixels of a test image
    save_dicom(tmp_path / "5.dcm", pixels(4), WindowCenter=128, WindowWidth=256)  # those of 4.png, in another file
    entries[5]["image"] = "5.dcm"
    datalist = write(tmp_path, entries[:6], entries[6:])
    assert found(datalist) == once(
        ("duplicate id", "1.png"),
        ("one patient in two splits", "2.png"),
        ("same image in two splits", "3.png"),
        ("same image twice in a split", "5.dcm"),
    )
    details = {problem.file: problem.detail for problem in check_datalist(datalist)}
    assert details["3.png"] == "in training; 7.png in test stays"
    assert details["2.png"] == "in training; those in test stay"
    main([str(datalist), "--write-clean", str(tmp_path / "clean.json")])
    clean = json.loads((tmp_path / "clean.json").read_text())
    assert clean["training"] == [entries[0], entries[4]]
    assert clean["test"] == entries[6:]


def test_what_is_broken_does_not_stay_for_what_is_sound(tmp_path):
    """Else both would be left out."""
    entries = make_entries(tmp_path, [f"{i}.png" for i in range(7)])
    for broken in (0, 6):
        (tmp_path / f"{broken}.png").unlink()
    entries[1]["id"] = entries[0]["id"]
    entries[2]["patient"] = entries[3]["patient"] = entries[6]["patient"]
    datalist = write(tmp_path, entries[:5], entries[5:])
    assert found(datalist) == once(
        ("missing", "0.png"),
        ("missing", "6.png"),
        ("duplicate id", "0.png"),
        ("one patient in two splits", "6.png"),
    )
    main([str(datalist), "--write-clean", str(tmp_path / "clean.json")])
    clean = json.loads((tmp_path / "clean.json").read_text())
    assert clean["training"] == entries[1:5]
    assert clean["test"] == [entries[5]]


def test_the_reason_is_not_in_the_name_of_the_folder(tmp_path):
    folder = tmp_path / "bombs, not finite, truncated"
    folder.mkdir()
    (entry,) = make_entries(folder, ["a.png"])
    content = bytearray((folder / "a.png").read_bytes())
    content[45] ^= 255
    (folder / "a.png").write_bytes(content)
    assert found(write(folder, [entry])) == once(("unreadable", "a.png"))


def test_the_text_of_a_view_is_not_quoted(tmp_path):
    (entry,) = make_entries(tmp_path, ["a.png"])
    entry["view"] = "Frontal and lateral views of Jane Doe"
    (problem,) = check_datalist(write(tmp_path, [entry]))
    assert problem.reason == "lateral view"
    assert "Doe" not in problem.detail


def test_whatever_a_datalist_has_is_written(forks, tmp_path, capsys):
    entries = make_entries(tmp_path, ["a.png", "b.png", os.fsdecode(b"\xfc.png")])
    (tmp_path / "b.png").unlink()
    entries[0]["report"] += " \ud800"
    datalist = write(tmp_path, entries, path="x", entries_by_split=3)
    document = json.loads(datalist.read_text())
    datalist.write_text(json.dumps(document | {"dropped": {"missing": "many", "empty report": 2}}))
    assert main([str(datalist), "--write-clean", str(tmp_path / "clean.json")]) == 1
    clean = json.loads((tmp_path / "clean.json").read_text())
    assert clean["training"] == [entries[0], entries[2]]
    assert clean["path"] == "x"
    assert clean["entries_by_split"] == 3
    assert clean["dropped"] == {"missing": 1, "empty report": 2}
    (tmp_path / os.fsdecode(b"\xfc.png")).write_bytes(b"")
    process = forks.run("-m", "monai_mgca", "check", datalist)
    assert process.returncode == 1
    assert "\\udcfc.png" in process.stdout
    assert process.stderr == ""


def test_annotations(tmp_path, capsys):
    entries = make_entries(tmp_path, [f"{i}.png" for i in range(10)])
    classes = {"classes": ["edema"], "box_classes": ["mass"]}
    for entry in entries[:-1]:
        del entry["report"]
    whole = {"size": [40, 32], "counts": [1280]}
    entries[0].update(labels=[1], boxes=[[0, 0, 32, 40]], box_labels=[0], mask=whole)
    entries[1].update(labels=[2])
    entries[2].update(boxes=[[4, 4, 4, 8]], box_labels=[0])
    entries[3].update(boxes=[[0, 0, 33, 8]], box_labels=[0])
    entries[4].update(boxes=[[0, 0, 8, 8]], box_labels=[1])
    entries[5].update(lung_mask={"size": [16, 64], "counts": [1024]})
    entries[7].update(boxes=[[0, 0, 0, 0]], box_labels=[0])
    entries[8].update(mask="no-mask.png")
    (tmp_path / "7.png").unlink()
    problems = check_datalist(write(tmp_path, entries, **classes))
    assert {(problem.file, problem.reason, problem.detail) for problem in problems} == {
        (
            "1.png",
            "label out of range",
            "the label 2 is none of 1 (present), 0 (absent), -1 (uncertain), null (unknown)",
        ),
        ("2.png", "box out of range", "the box [4, 4, 4, 8] has no area (boxes are [x0, y0, x1, y1])"),
        ("3.png", "box out of range", "the box [0, 0, 33, 8] leaves the image of 32 x 40 pixels"),
        ("4.png", "box out of range", "the box label 1 is no index of the 1 classes"),
        ("5.png", "mask does not fit", "mask of 64 x 16 pixels on the image 5.png of 32 x 40"),
        ("6.png", "empty report", ""),
        ("7.png", "missing", ""),
        ("no-mask.png", "mask does not fit", "missing"),
    }
    assert main([str(tmp_path / "list.json"), "--write-clean", str(tmp_path / "clean.json")]) == 1
    assert "      3  box out of range" in capsys.readouterr().out
    assert json.loads((tmp_path / "clean.json").read_text())["training"] == [entries[0], entries[9]]


def test_limits_and_reasons_to_keep(tmp_path, capsys):
    entries = make_entries(tmp_path, ["a.png", "b.png"])
    entries[0]["view"] = "LL"
    datalist = write(tmp_path, entries)
    assert main([str(datalist), "--keep", "lateral view", "--write-clean", str(tmp_path / "c.json")]) == 0
    assert "warnings\n      1  lateral view" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "c.json").read_text())["training"]) == 2
    assert found(datalist, limits=CheckLimits(min_side=33, max_aspect=1.2)) == once(
        ("lateral view", "a.png"),
        *((reason, name) for reason in ("too small", "too elongated") for name in ("a.png", "b.png")),
    )
    assert main([str(datalist), "--keep", "lateral"]) == 2
    assert capsys.readouterr().err == "error: no reason 'lateral' to keep. Did you mean 'lateral view'?\n"


def test_modalities(tmp_path, save_dicom):
    names = ["mg.dcm", "none.dcm", "dx.dcm"]
    entries = make_entries(tmp_path, [f"{i}.png" for i in range(3)])
    for i, (entry, name, modality) in enumerate(zip(entries, names, ("MG", "", "DX"), strict=True)):
        save_dicom(tmp_path / name, pixels(i), Modality=modality)
        entry["image"] = name
    datalist = write(tmp_path, entries)
    assert found(datalist) == once(("wrong modality", "mg.dcm"), ("modality not given", "none.dcm"))
    assert found(datalist, limits=CheckLimits(modalities=("MG", "DX"))) == once(("modality not given", "none.dcm"))


@pytest.mark.parametrize("kind", ["lines", "lines of Windows", "list", "object", "absolute"])
def test_excluded_images(tmp_path, kind, capsys):
    entries = make_entries(tmp_path, ["a.png", "b.png", "c.png"])
    (tmp_path / "b.png").unlink()
    paths = ["b.png", "nowhere.png"]
    lines = "\n".join(paths)
    text = {
        "lines": lines,
        "lines of Windows": f"\ufeff{lines}",
        "list": json.dumps(paths),
        "object": json.dumps(dict.fromkeys(paths, 3)),
    }
    (tmp_path / "out").write_text(text.get(kind, str(tmp_path / "b.png")))
    clean = tmp_path / "clean.json"
    options = ["--exclude", str(tmp_path / "out"), "--write-clean", str(clean)]
    assert main([str(write(tmp_path, entries)), *options]) == 0
    assert "left out: 1 (excluded)" in capsys.readouterr().out
    assert json.loads(clean.read_text())["training"] == [entries[0], entries[2]]


def test_wrong_input(tmp_path, capsys):
    datalist = write(tmp_path, make_entries(tmp_path, ["a.png", "b.png"]))
    before = datalist.read_bytes()

    def refused(*options):
        assert main([*map(str, options)]) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        return message

    assert "Did you mean" in refused(tmp_path / "lst.json")
    assert "does not exist" in refused(datalist, "--dataset-dir", tmp_path / "no")
    assert "the datalist itself" in refused(datalist, "--write-clean", datalist)
    assert "give a list of image paths" in refused(datalist, "--exclude", tmp_path / "no.txt")
    assert "--num-workers" in refused(datalist, "--num-workers", -1)
    assert "the least side" in refused(datalist, "--min-side", 0)
    assert "got 16, nan" in refused(datalist, "--max-aspect", "nan")
    assert "a folder has its name" in refused(datalist, "--write-clean", tmp_path)
    for text in ("[1", "[1]", "a\0b", '["a\\u0000b"]'):
        (tmp_path / "out").write_text(text)
        assert "no list of image paths" in refused(datalist, "--exclude", tmp_path / "out")
    (tmp_path / "clean.json").write_text("as it was")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    assert "nothing would be left" in refused(datalist, "--write-clean", tmp_path / "clean.json")
    assert (tmp_path / "clean.json").read_text() == "as it was"
    assert datalist.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "clean.json", "list.json", "out"]


def test_command_line(forks, tmp_path):
    entries = make_entries(tmp_path, ["a.png", "b.png"])
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-300])
    run = forks.run("-m", "monai_mgca", "check", str(write(tmp_path, entries)))
    assert run.returncode == 1
    assert "truncated:\n  a.png" in run.stdout
    assert run.stderr == ""


def test_reasons_are_listed_once():
    assert len({*ERRORS, *WARNINGS}) == len(ERRORS) + len(WARNINGS)
