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

from collections import Counter

import numpy as np
from PIL import Image

from monai_mgca.data import write_datalist
from monai_mgca.data.__main__ import main
from monai_mgca.data.check import check_datalist

REPORT = "Clear lungs. No effusion."


def make_datalist(folder, names):
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    entries = []
    for i, name in enumerate(names):
        Image.fromarray(pixels).save(folder / name)
        entries.append({"id": f"{i}", "image": name, "report": REPORT, "patient": f"secret{i}"})
    write_datalist(folder / "list.json", {"training": entries[:-1], "test": entries[-1:]}, "n", "s", {})
    return entries


def test_nothing_broken(tmp_path, capsys):
    make_datalist(tmp_path, ["a.png", "b.jpg", "c.tif"])
    assert main(["check", str(tmp_path / "list.json")]) == 0
    assert "nothing is broken" in capsys.readouterr().out


def test_every_kind_of_damage(tmp_path, capsys):
    names = [f"{i}.png" for i in range(12)]
    entries = make_datalist(tmp_path, names)
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:400])
    (tmp_path / "3.png").write_text("<html>Please log in</html>")
    Image.fromarray(np.full((8, 8), 7, dtype=np.uint8)).save(tmp_path / "4.png")
    values = np.ones((8, 8), dtype=np.float32)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "5.tif")
    entries[5]["image"] = "5.tif"
    entries[6]["report"], entries[7]["report"] = "", "Normal."
    entries[8]["image"] = "../list.json"
    entries[9]["id"] = entries[10]["id"]
    entries[11]["patient"] = entries[10]["patient"]
    entries[11]["lung_mask"] = "no-mask.png"
    write_datalist(tmp_path / "list.json", {"training": entries[:-1], "test": entries[-1:]}, "n", "s", {})
    assert Counter(check_datalist(tmp_path / "list.json", num_workers=2)) == Counter(
        {
            ("missing", "0.png"): 1,
            ("zero bytes", "1.png"): 1,
            ("unreadable or truncated", "2.png"): 1,
            ("not an image", "3.png"): 1,
            ("constant", "4.png"): 1,
            ("values that are not finite (NaN)", "5.tif"): 1,
            ("empty report", "6.png"): 1,
            ("report too short", "7.png"): 1,
            ("lies outside the dataset folder", "../list.json"): 1,
            ("duplicate id", "9.png"): 1,
            ("duplicate id", "10.png"): 1,
            ("one patient in two splits", "(1 patients)"): 1,
            ("mask: missing", "no-mask.png"): 1,
        }
    )
    assert main(["check", str(tmp_path / "list.json")]) == 1
    printed = capsys.readouterr().out
    assert "      2  duplicate id" in printed
    assert "constant:\n  4.png" in printed
    assert "secret" not in printed


def test_annotations(tmp_path, capsys):
    entries = make_datalist(tmp_path, [f"{i}.png" for i in range(8)])
    classes = {"classes": ["edema"], "box_classes": ["mass"]}
    for entry in entries[:-1]:
        del entry["report"]
    entries[0].update(labels=[1], boxes=[[0, 0, 32, 32]], box_labels=[0], mask={"size": [32, 32], "counts": [1024]})
    entries[1].update(labels=[2])
    entries[2].update(boxes=[[4, 4, 4, 8]], box_labels=[0])
    entries[3].update(boxes=[[0, 0, 33, 8]], box_labels=[0])
    entries[4].update(boxes=[[0, 0, 8, 8]], box_labels=[1])
    entries[5].update(lung_mask={"size": [16, 64], "counts": [1024]})
    entries[7].update(boxes=[[0, 0, 0, 0]], box_labels=[0])
    (tmp_path / "7.png").unlink()
    write_datalist(tmp_path / "list.json", {"training": entries}, "n", "s", {}, **classes)
    found = {(file, reason) for reason, file in check_datalist(tmp_path / "list.json")}
    assert found == {
        ("1.png", "the label 2 is none of 1 (present), 0 (absent), -1 (uncertain), null (unknown)"),
        ("2.png", "the box [4, 4, 4, 8] has no area (boxes are [x0, y0, x1, y1])"),
        ("3.png", "the box [0, 0, 33, 8] leaves the image of 32 x 32 pixels"),
        ("4.png", "the box label 1 is no index of the 1 classes"),
        ("5.png", "mask of 64 x 16 pixels on the image 5.png of 32 x 32"),
        ("6.png", "empty report"),
        ("7.png", "missing"),
    }
    assert main(["check", str(tmp_path / "list.json")]) == 1
    assert "5.png" in capsys.readouterr().out


def test_wrong_input(tmp_path, capsys):
    make_datalist(tmp_path, ["a.png", "b.png"])
    assert main(["check", str(tmp_path / "lst.json")]) == 2
    assert "Did you mean" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "list.json"), "--dataset-dir", str(tmp_path / "no")]) == 2
    assert "does not exist" in capsys.readouterr().err
