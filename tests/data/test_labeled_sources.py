# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import warnings

import numpy as np
import pydicom
import pytest
from PIL import Image

from monai_mgca.apps.data_command import main
from monai_mgca.data import load_labeled, read_datalist
from monai_mgca.data.check.check_datalist import check_datalist
from monai_mgca.data.sources.chexpert import COMPETITION_CLASSES
from monai_mgca.data.sources.mimic_cxr import CHEXPERT_CLASSES
from monai_mgca.data.sources.rsna_pneumonia import collect_rsna_pneumonia
from monai_mgca.io import decode_rle
from monai_mgca.utils import DataError

HEIGHT, WIDTH = 20, 30


def make_values(path):
    """Pixels of every file's own."""
    return np.random.default_rng(list(str(path).encode())).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


def save_png(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_values(path)).save(path)


def save_dicom(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = HEIGHT, WIDTH, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.Modality, dataset.PixelData = "CR", make_values(path).tobytes()
    with warnings.catch_warnings():  # pydicom 3 has other names for these, pydicom 2 needs them
        warnings.simplefilter("ignore")
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        dataset.save_as(path)


def write_table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def collect(tmp_path, capsys):
    """Runs a source on a folder, and gives its datalist and what was printed, or the error."""

    def run(source, folder, *options, fails=False):
        output = tmp_path / "datalist.json"
        code = main([source, "--dataset-dir", str(folder), "--output", str(output), *map(str, options)])
        told = capsys.readouterr()
        assert code == (2 if fails else 0), told.err
        if fails:
            return told.err
        assert check_datalist(output, folder) == []
        return read_datalist(output), told.out

    return run


def everything(document):
    return {e["id"]: e for part in ("training", "validation", "test") for e in document.get(part, [])}


class TestRsna:
    HEADER = ("patientId", "x", "y", "width", "height", "Target")

    @pytest.fixture
    def folder(self, tmp_path):
        folder = tmp_path / "rsna"
        for i in range(20):
            save_dicom(folder / "stage_2_train_images" / f"p{i}.dcm")
        rows = [("p0", 1.0, 2.0, 5.0, 6.0, 1), ("p0", 10.0, 3.0, 4.0, 4.0, 1), ("p1", 0, 0, 30, 20, 1)]
        rows += [(f"p{i}", "", "", "", "", 0) for i in range(2, 20)]
        write_table(folder / "stage_2_train_labels.csv", self.HEADER, rows)
        return folder

    def test_boxes_masks_labels(self, folder, collect, tmp_path):
        classes = [(f"p{i}", "Normal" if i > 1 else "Lung Opacity") for i in range(20)]
        write_table(folder / "stage_2_detailed_class_info.csv", ("patientId", "class"), classes)
        document, told = collect("rsna_pneumonia", folder)
        assert document["counts"] == {"training": 14, "validation": 3, "test": 3}  # 70 / 15 / 15 by patient
        entries = everything(document)
        assert entries["p0"]["boxes"] == [[1, 2, 6, 8], [10, 3, 14, 7]]
        assert entries["p0"]["box_labels"] == [0, 0]
        assert entries["p0"]["labels"] == [1]
        assert entries["p2"]["labels"] == [0]
        assert entries["p2"]["boxes"] == []
        assert entries["p2"]["detail"] == "Normal"
        mask = np.zeros((HEIGHT, WIDTH))
        mask[2:8, 1:6], mask[3:7, 10:14] = 1, 1
        np.testing.assert_array_equal(decode_rle(entries["p0"]["mask"]), mask)
        assert not decode_rle(entries["p2"]["mask"]).any()
        assert decode_rle(entries["p1"]["mask"]).all()
        assert "p7" not in told  # ids are patients

    def test_serves_three_tasks(self, folder, collect, tmp_path):
        collect("rsna_pneumonia", folder, "--fractions", "1", "0", "0")
        for task in ("detection", "segmentation", "classification"):
            assert len(load_labeled(tmp_path / "datalist.json", "training", task, folder)) == 20

    @pytest.mark.parametrize(
        ("row", "told"),
        [
            (("p3", 1, 1, 5, 0, 1), "line 2: a box must have a width"),
            (("p3", "a", 1, 5, 5, 1), "line 2: x, y, width and height must be numbers"),
            (("p3", 1, 1, 5, 5, 0), "line 2: Target is 0, but there is a box"),
            (("p3", "", "", "", "", 2), "line 2: Target is 0 or 1"),
        ],
    )
    def test_broken_rows(self, folder, collect, row, told):
        write_table(folder / "stage_2_train_labels.csv", self.HEADER, [row])
        error = collect("rsna_pneumonia", folder, fails=True)
        assert told in error
        assert "p3" not in error

    def test_missing_parts(self, folder, collect, tmp_path):
        (tmp_path / "empty").mkdir()
        assert "stage_2_train_images" in collect("rsna_pneumonia", tmp_path / "empty", fails=True)
        (folder / "stage_2_train_labels.csv").unlink()
        assert "no such table" in collect("rsna_pneumonia", folder, fails=True)

    def test_box_outside_is_told_by_the_check(self, folder, tmp_path):
        write_table(folder / "stage_2_train_labels.csv", self.HEADER, [("p0", 20, 2, 50, 6, 1)])
        output = tmp_path / "datalist.json"
        main(["rsna_pneumonia", "--dataset-dir", str(folder), "--output", str(output), "--fractions", "1", "0", "0"])
        (problem,) = check_datalist(output, folder)
        assert "p0.dcm" in problem.file
        assert "30 x 20" in problem.detail

    def test_a_box_outside_fills_what_is_inside(self, folder, tmp_path):
        write_table(folder / "stage_2_train_labels.csv", self.HEADER, [("p0", -2, 2, 6, 600, 1)])
        collection = collect_rsna_pneumonia(folder)
        mask = decode_rle(collection.entries[0][1]["mask"])
        assert mask[2:, :4].all()
        assert mask.sum() == 18 * 4

    def test_two_targets_of_one_patient(self, folder, collect):
        write_table(
            folder / "stage_2_train_labels.csv", self.HEADER, [("p0", 1, 2, 5, 6, 1), ("p0", "", "", "", "", 0)]
        )
        assert "line 3: Target is 0 or 1, and the same" in collect("rsna_pneumonia", folder, fails=True)

    def test_images_that_cannot_be_used(self, folder, collect):
        (folder / "stage_2_train_images" / "p3.dcm").unlink()
        (folder / "stage_2_train_images" / "p4.dcm").write_text("nothing")
        document, told = collect("rsna_pneumonia", folder)
        assert document["dropped"] == {"image: missing": 1, "image: unreadable": 1}
        assert "p3.dcm: missing" in told
        assert "p4.dcm: unreadable" in told


class TestSiim:
    # the same mask, pixels 25 to 27 and 45 to 46 down the columns, with starts that count from the run before ...
    RELATIVE = "25 3 17 2"
    # ... and from the first pixel
    ABSOLUTE = "25 3 45 2"

    @pytest.fixture
    def make(self, tmp_path):
        def make(runs):
            folder = tmp_path / "siim"
            for i in range(len(runs)):
                save_dicom(folder / "dicom-images-train" / f"study{i}" / "series" / f"1.2.{i}.dcm")
            rows = [(f"1.2.{i}", run) for i, cell in enumerate(runs) for run in cell.split(";")]
            write_table(folder / "train-rle.csv", ("ImageId", " EncodedPixels"), rows)
            return folder

        return make

    def mask(self):
        flat = np.zeros(HEIGHT * WIDTH)
        flat[25:28], flat[45:47] = 1, 1
        return flat.reshape(WIDTH, HEIGHT).T

    def test_absolute_is_found_out(self, make, collect):
        # as relative starts the second row would leave the image of 600 pixels
        folder = make([self.ABSOLUTE, "300 5 400 2", " -1", "-1"])
        document, told = collect("siim_acr", folder, "--fractions", "1", "0", "0")
        assert "absolute starts" in told
        assert "the split is by image" in told
        entries = everything(document)
        np.testing.assert_array_equal(decode_rle(entries["1.2.0"]["mask"]), self.mask())
        assert not decode_rle(entries["1.2.2"]["mask"]).any()
        assert [entries[f"1.2.{i}"]["labels"] for i in range(4)] == [[1], [1], [0], [0]]

    def test_relative_is_found_out(self, make, collect):
        folder = make([self.RELATIVE, "-1"])  # as absolute starts the second run would lie before the first
        document, told = collect("siim_acr", folder, "--fractions", "1", "0", "0")
        assert "relative starts" in told
        np.testing.assert_array_equal(decode_rle(everything(document)["1.2.0"]["mask"]), self.mask())

    def test_several_rows_are_one_mask(self, make, collect):
        document, _ = collect("siim_acr", make(["25 3;45 2", "-1"]), "--fractions", "1", "0", "0")
        np.testing.assert_array_equal(decode_rle(everything(document)["1.2.0"]["mask"]), self.mask())

    def test_ambiguous(self, make, collect):
        folder = make([self.ABSOLUTE, "-1"])
        assert "--encoding" in collect("siim_acr", folder, fails=True)
        document, _ = collect("siim_acr", folder, "--encoding", "absolute", "--fractions", "1", "0", "0")
        np.testing.assert_array_equal(decode_rle(everything(document)["1.2.0"]["mask"]), self.mask())

    def test_errors(self, make, collect):
        folder = make(["25 3 45", "-1"])
        assert "line 2 makes no sense" in collect("siim_acr", folder, fails=True)
        assert "line 2" in collect("siim_acr", folder, "--encoding", "relative", fails=True)
        write_table(folder / "train-rle.csv", ("ImageId", "pixels"), [("1.2.0", "-1")])
        assert "no column 'EncodedPixels'" in collect("siim_acr", folder, fails=True)

    def test_split_by_image(self, make, collect):
        document, _ = collect("siim_acr", make(["-1"] * 19 + ["25 3"]))
        assert document["counts"] == {"training": 14, "validation": 3, "test": 3}

    def test_serves_two_tasks(self, make, collect, tmp_path):
        folder = make(["-1", "25 3", "-1"])
        collect("siim_acr", folder, "--fractions", "1", "0", "0")
        masks, labels = (
            load_labeled(tmp_path / "datalist.json", "training", task, folder)
            for task in ("segmentation", "classification")
        )
        assert [decode_rle(item["label"]).sum() for item in masks] == [0, 3, 0]
        assert [item["label"] for item in labels] == [[0], [1], [0]]

    def test_a_mask_is_not_taken_for_its_image(self, make, collect):
        folder = make(["25 3", "-1"])
        save_png(folder / "masks" / "1.2.0.png")
        error = collect("siim_acr", folder, fails=True)
        assert "masks/1.2.0.png" in error
        assert "one file an image" in error
        options = ("--table", folder / "train-rle.csv", "--fractions", "1", "0", "0")
        document, _ = collect("siim_acr", folder / "dicom-images-train", *options)
        assert [entry["image"][-4:] for entry in document["training"]] == [".dcm", ".dcm"]

    @pytest.mark.parametrize(("run", "counts"), [("300 9 10 2", [3, 2, 6, 2]), ("300 9 400 2", [3, 2, 1, 2])])
    def test_one_row_that_fits_only_one_decides_for_all(self, make, collect, run, counts):
        document, _ = collect("siim_acr", make(["3 2 6 2", run]), "--fractions", "1", "0", "0")
        assert everything(document)["1.2.0"]["mask"]["counts"] == [*counts, HEIGHT * WIDTH - sum(counts)]

    def test_an_image_without_a_file_or_a_readable_one(self, make, collect):
        folder = make(["-1"] * 6)
        next(folder.rglob("1.2.3.dcm")).unlink()
        next(folder.rglob("1.2.4.dcm")).write_text("nothing")
        assert collect("siim_acr", folder)[0]["dropped"] == {"no image file": 1, "image: unreadable": 1}

    def test_images_in_one_folder(self, make, collect):
        folder = make(["-1", "25 3"])
        for i in range(2):
            next(folder.rglob(f"1.2.{i}.dcm")).unlink()
            save_png(folder / f"1.2.{i}.png")
        (folder / "train-rle.csv").rename(folder / "masks.csv")
        document, _ = collect("siim_acr", folder, "--table", folder / "masks.csv", "--fractions", "1", "0", "0")
        assert [entry["image"] for entry in document["training"]] == ["1.2.0.png", "1.2.1.png"]
        assert "no such table" in collect("siim_acr", folder, fails=True)


class TestObjectCxr:
    @pytest.fixture
    def folder(self, tmp_path):
        folder = tmp_path / "objects"
        for name in [*(f"train/{i:05d}.jpg" for i in range(10)), "dev/1.jpg"]:
            save_png(folder / name)
        rows = [("00000.jpg", "0 1 2 5 6;1 7 8 9 10"), ("00001.jpg", "2 3 4 9 5 6 11"), ("00002.jpg", "")]
        rows += [(f"{i:05d}.jpg", "") for i in range(3, 10)]
        write_table(folder / "train.csv", ("image_name", "annotation"), rows)
        write_table(folder / "dev.csv", ("image_name", "annotation"), [("1.jpg", "0 1 2 5 6;")])
        return folder

    def test_shapes_become_boxes(self, folder, collect):
        document, _ = collect("object_cxr", folder)
        assert document["counts"] == {"training": 8, "validation": 2, "test": 1}
        assert [entry["image"] for entry in document["test"]] == ["dev/1.jpg"]
        entries = everything(document)
        assert entries["train/00000"]["boxes"] == [[1, 2, 5, 6], [7, 8, 9, 10]]
        assert entries["train/00001"]["boxes"] == [[3, 4, 9, 11]]
        assert entries["train/00002"]["boxes"] == []
        assert entries["train/00002"]["labels"] == [0]
        assert document["box_classes"] == ["foreign object"]

    @pytest.mark.parametrize("annotation", ["0 1 2 5", "3 1 2 5 6", "2 1 2 3 4", "0 1 2 x 6", "2 1 2 3 4 5 6 7"])
    def test_broken_annotations(self, folder, collect, annotation):
        write_table(folder / "train.csv", ("image_name", "annotation"), [("00000.jpg", annotation)])
        error = collect("object_cxr", folder, fails=True)
        assert "train.csv line 2: object 1 is no shape" in error

    def test_serves_two_tasks(self, folder, collect, tmp_path):
        collect("object_cxr", folder, "--fractions", "1", "0", "0")
        for section, count in (("training", 10), ("test", 1)):
            for task in ("detection", "classification"):
                items = load_labeled(tmp_path / "datalist.json", section, task, folder)
                assert len(items) == count
                assert items[0]["image"].startswith(str(folder))

    def test_a_seed_gives_another_split_of_the_training_table(self, folder, collect):
        one, told = collect("object_cxr", folder)
        two, _ = collect("object_cxr", folder, "--seed", 1)
        assert "given: test; the other patients split 0.8 / 0.2 / 0 with seed 0" in told
        assert one["validation"] != two["validation"]
        assert one["test"] == two["test"]

    def test_box_outside_is_told_by_the_check(self, folder, tmp_path):
        write_table(folder / "dev.csv", ("image_name", "annotation"), [("1.jpg", "0 1 2 31 6")])
        output = tmp_path / "datalist.json"
        main(["object_cxr", "--dataset-dir", str(folder), "--output", str(output)])
        (problem,) = check_datalist(output, folder)
        assert problem.file == "dev/1.jpg"
        assert "[1, 2, 31, 6] leaves the image of 30 x 20" in problem.detail

    def test_missing_parts(self, folder, collect):
        write_table(folder / "dev.csv", ("image_name", "boxes"), [("1.jpg", "")])
        assert "dev.csv has no column 'annotation'" in collect("object_cxr", folder, fails=True)
        (folder / "dev.csv").unlink()
        assert "no such table" in collect("object_cxr", folder, fails=True)
        (folder / "train").rename(folder / "images")
        assert "no folder train" in collect("object_cxr", folder, fails=True)


class TestCheXpert:
    @pytest.fixture
    def folder(self, tmp_path):
        folder = tmp_path / "CheXpert-v1.0-small"
        header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_CLASSES)
        values = {"Edema": "-1.0", "Cardiomegaly": "1.0", "Atelectasis": "0.0"}
        labels = [values.get(name, "") for name in CHEXPERT_CLASSES]
        for part, first, count in (("train", 1, 40), ("valid", 64001, 3)):
            rows = []
            for i in range(first, first + count):
                for view in ("Frontal", "Lateral"):
                    path = f"{part}/patient{i:05d}/study1/view1_{view.lower()}.jpg"
                    save_png(folder / path)
                    rows.append((f"CheXpert-v1.0-small/{path}", "Female", 50, view, "AP", *labels))
            write_table(folder / f"{part}.csv", header, rows)
        return folder

    def test_splits_and_labels(self, folder, collect):
        document, told = collect("chexpert", folder, "--fractions", "0.9", "0.1", "0")
        assert document["counts"] == {"training": 36, "validation": 4, "test": 3}
        assert "43 (not a frontal view)" in told
        assert document["classes"] == list(COMPETITION_CLASSES)
        # Atelectasis, Cardiomegaly, Consolidation, Edema, Pleural Effusion
        assert document["training"][0]["labels"] == [0, 1, None, -1, None]
        assert all(entry["image"].startswith("valid/") for entry in document["test"])

    def test_validation_leaves_the_training(self, folder, collect):
        """In the official code the validation images stay among those of the training."""
        document, _ = collect("chexpert", folder, "--fractions", "0.9", "0.1", "0")
        images = [{entry["image"] for entry in document[part]} for part in ("training", "validation")]
        patients = [{entry["patient"] for entry in document[part]} for part in ("training", "validation")]
        assert not images[0] & images[1]
        assert not patients[0] & patients[1]
        assert len(images[0] | images[1]) == 40

    def test_options(self, folder, collect):
        document, _ = collect("chexpert", folder, "--all-classes", "--unmentioned", "absent")
        assert document["classes"] == list(CHEXPERT_CLASSES)
        assert set(document["training"][0]["labels"]) == {0, 1, -1}

    def test_errors(self, folder, collect):
        table = (folder / "train.csv").read_text()
        (folder / "train.csv").write_text(table.replace("-1.0", "2.0", 1))
        error = collect("chexpert", folder, fails=True)
        assert "line 2" in error
        assert "Edema" in error
        (folder / "train.csv").write_text(table.replace("Edema", "Oedema"))
        assert "no column 'Edema'" in collect("chexpert", folder, fails=True)
        (folder / "valid.csv").unlink()
        (folder / "train.csv").write_text(table)
        assert "valid.csv" in collect("chexpert", folder, fails=True)

    def test_serves_classification(self, folder, collect, tmp_path):
        collect("chexpert", folder)
        output, classes = tmp_path / "datalist.json", ["Cardiomegaly", "Edema"]
        assert load_labeled(output, "test", "classification", folder, classes)[0]["label"] == [1, -1]
        assert len(load_labeled(output, "training", "classification", folder, classes[:1])) == 39
        with pytest.raises(DataError, match="no positive example of Edema"):
            load_labeled(output, "training", "classification", folder, classes)

    def test_another_path(self, folder, collect):
        table = (folder / "valid.csv").read_text()
        (folder / "valid.csv").write_text(table.replace("valid/patient64001/study1", "valid/64001", 1))
        error = collect("chexpert", folder, fails=True)
        assert "valid.csv line 2: Path is no" in error
        assert "64001" not in error


class TestCovidx:
    @pytest.fixture
    def make(self, tmp_path):
        def make(train, test):
            folder = tmp_path / "covidx"
            for part, lines in (("train", train), ("test", test)):
                for line in lines:
                    save_png(folder / part / line.split()[1])
                (folder / f"{part}.txt").write_text("\n".join(lines) + "\n")
            return folder

        return make

    def test_three_classes(self, make, collect, tmp_path):
        kinds = ("normal", "pneumonia", "COVID-19")
        train = [f"{i} image{i}.png {kinds[i % 3]} rsna" for i in range(20)]
        folder = make(train, ["0 t0.png normal rsna", "90 t1.png COVID-19 cohen"])
        document, told = collect("covidx", folder)
        assert document["classes"] == ["normal", "pneumonia", "COVID-19"]
        assert document["label_mode"] == "multiclass"
        assert "dropped: 1 (training image of a test patient)" in told
        assert document["counts"] == {"training": 17, "validation": 2, "test": 2}
        entries = everything(document)
        assert entries["train/image1"]["labels"] == [0, 1, 0]
        assert entries["test/t1"]["labels"] == [0, 0, 1]
        assert len(load_labeled(tmp_path / "datalist.json", "training", "classification", folder)) == 17

    def test_two_classes(self, make, collect):
        train = [f"{i} image{i}.png {'positive' if i % 2 else 'negative'}" for i in range(10)]
        document, _ = collect("covidx", make(train, ["99 t.png positive"]))
        assert document["classes"] == ["COVID-19"]
        assert document["label_mode"] == "multilabel"
        assert everything(document)["test/t"]["labels"] == [1]

    def test_errors(self, make, collect):
        folder = make(["1 a.png normal", "2 b.png positive"], ["3 c.png normal"])
        assert "mix" in collect("covidx", folder, fails=True)
        (folder / "train.txt").write_text("1 a.png normal\n2 b.png healthy\n")
        assert "train.txt line 2" in collect("covidx", folder, fails=True)
        (folder / "train.txt").unlink()
        assert "no such list" in collect("covidx", folder, fails=True)

    def test_header_and_names_with_spaces(self, make, collect):
        folder = make([f"{i} a{i}.png normal" for i in range(4)], ["9 t.png COVID-19"])
        save_png(folder / "train" / "COVID-19 (1).png")
        lines = (folder / "train.txt").read_text()
        (folder / "train.txt").write_text(f"patientid filename class source\n5 COVID-19 (1).png COVID-19 sirm\n{lines}")
        entries = everything(collect("covidx", folder)[0])
        assert len(entries) == 6
        assert entries["train/COVID-19 (1)"]["image"] == "train/COVID-19 (1).png"
        assert entries["train/COVID-19 (1)"]["labels"] == [0, 0, 1]

    def test_patients_of_two_sources_with_one_number(self, make, collect):
        train = [*(f"{i} a{i}.png normal rsna" for i in range(4)), "4 b.png pneumonia cohen"]
        document, _ = collect("covidx", make(train, ["3 t.png normal cohen", "4 u.png normal cohen"]))
        assert document["dropped"] == {"training image of a test patient": 1}
        assert "train/a3" in everything(document)

    def test_lists_of_other_names(self, make, collect):
        folder = make([f"{i} a{i}.png normal" for i in range(4)], ["9 t.png COVID-19"])
        for part in ("train", "test"):
            (folder / f"{part}.txt").rename(folder / f"{part}_COVIDx9A.txt")
        options = ("--train", folder / "train_COVIDx9A.txt", "--test", folder / "test_COVIDx9A.txt")
        assert collect("covidx", folder, *options)[0]["counts"] == {"training": 3, "validation": 1, "test": 1}
        (folder / "test").rename(folder / "images")
        assert "no folder test" in collect("covidx", folder, *options, fails=True)
