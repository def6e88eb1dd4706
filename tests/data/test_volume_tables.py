# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The sample of volumes as a user's own table and folders: masks, boxes and DICOM series find their way."""

from __future__ import annotations

import csv
import json

import pytest

from monai_mgca.apps.data_command import main
from monai_mgca.data import load_labeled, make_volume_sample, read_datalist
from monai_mgca.data.check.check_datalist import check_datalist
from monai_mgca.data.entry import places_of


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return make_volume_sample(tmp_path_factory.mktemp("ct"), 8, 24, num_workers=1, progress=False).parent


@pytest.fixture(scope="module")
def studies(sample):
    entries = (entry for *_, entry in places_of(read_datalist(sample / "datalist.json")))
    return sorted(entries, key=lambda entry: entry["id"])


def collect(*arguments):
    assert main([*map(str, arguments), "--fractions", "1", "0", "0"]) == 0
    return read_datalist(arguments[arguments.index("--output") + 1])["training"]


class TestTable:
    @pytest.fixture
    def table(self, sample, studies, tmp_path):
        names = read_datalist(sample / "datalist.json")["box_classes"]
        with (tmp_path / "table.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "mask", "boxes", "patient", "report"])
            for entry in studies:
                pairs = zip(entry["boxes"], entry["box_labels"], strict=True)
                boxes = json.dumps([{"label": names[label], "box": box} for box, label in pairs])
                row = [entry["series"] if "series" in entry else entry["image"], entry["finding_mask"]]
                writer.writerow([*row, boxes if entry["boxes"] else "", entry["patient"], entry["report"]])
        return tmp_path / "table.csv"

    def test_masks_and_boxes(self, table, sample, studies, tmp_path):
        options = ["--mask", "finding=mask", "--boxes", "boxes", "--no-box", "none", "--report", "report"]
        output = tmp_path / "datalist.json"
        places = ["--image", "image", "--patient", "patient", "--dataset-dir", sample, "--output", output]
        entries = collect("csv", table, *places, *options)
        assert [entry["boxes"] for entry in entries] == [entry["boxes"] for entry in studies]
        assert [entry["mask"] for entry in entries] == [entry["finding_mask"] for entry in studies]
        assert check_datalist(output, sample, volumes=True) == []
        options = {"dataset_dir": sample, "spatial_dims": 3}
        boxes = load_labeled(output, "training", "detection", **options)
        assert [item["boxes"] for item in boxes] == [entry["boxes"] for entry in studies]
        masks = load_labeled(output, "training", "segmentation", **options)
        assert masks[0]["label"] == str(sample / studies[0]["finding_mask"])

    def test_columns_of_a_corner_and_sizes(self, table, tmp_path):
        table.write_text("image,x,y,z,w,h,d\na.nii.gz,-10,20,-30.5,4,5,6\n")
        (tmp_path / "a.nii.gz").write_bytes(b"any")
        options = ["--image", "image", "--output", tmp_path / "out.json", "--box-format", "xywh"]
        (entry,) = collect("csv", table, *options, "--box-columns", *"xyzwhd")
        assert entry["boxes"] == [[-10, 20, -30.5, -6, 25, -24.5]]

    def test_wrong_number_of_columns(self, table, tmp_path, capsys):
        options = ["--image", "image", "--output", str(tmp_path / "out.json"), "--box-columns", "x", "y", "z"]
        assert main(["csv", str(table), *options]) == 2
        assert "that of a volume six, got 3 columns" in capsys.readouterr().err


class TestFolder:
    def test_files_and_series(self, sample, studies, tmp_path):
        """Reports named as the volumes; each folder of slices is one of them."""
        reports = tmp_path / "reports"
        for entry in studies:
            for place in (entry["image"], entry.get("series", entry["image"])):
                path = reports / f"{place.removesuffix('.nii.gz')}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(entry["report"])
        for name, wanted in (
            ("volumes", [e["image"] for e in studies]),
            ("series", [e["series"] for e in studies[:3]]),
        ):
            places = ["--images", sample / name, "--reports", reports / name, "--output", tmp_path / "out.json"]
            entries = collect("folder", *places, "--volumes")
            assert [f"{name}/{entry['image']}" for entry in entries] == sorted(wanted)
            assert check_datalist(tmp_path / "out.json", sample / name, volumes=True) == []
        assert [entry["report"] for entry in entries] == [entry["report"] for entry in studies[:3]]
        (entry, *_) = collect("folder", *places, "--volumes", "--patient", "dicom")
        assert entry["patient"] == studies[0]["patient"]

    def test_one_report_a_study(self, sample, studies, tmp_path):
        """ct/1/series_a and ct/1/series_b go with text/1.txt."""
        for k in range(2):
            for name in ("a", "b"):
                folder = tmp_path / "ct" / str(k) / f"series_{name}"
                folder.mkdir(parents=True)
                for file in (sample / "series" / f"volume_0000{k}").iterdir():
                    (folder / file.name).write_bytes(file.read_bytes())
            (tmp_path / "text").mkdir(exist_ok=True)
            (tmp_path / "text" / f"{k}.txt").write_text("Nodule in the left lower lobe of the lung.")
        places = ["--images", tmp_path / "ct", "--reports", tmp_path / "text", "--output", tmp_path / "out.json"]
        entries = collect("folder", *places, "--volumes", "--one-per-folder", "--patient", "folder")
        assert [entry["image"] for entry in entries] == [f"{k}/series_{name}" for k in range(2) for name in "ab"]
        assert [entry["patient"] for entry in entries] == ["0", "0", "1", "1"]
