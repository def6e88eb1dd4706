# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from monai_mgca.data import load_labeled
from monai_mgca.io import decode_rle

from .labeled_sets import HEIGHT, WIDTH, everything, save_dicom, save_png, write_table


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
        document, output = collect("siim_acr", folder, "--fractions", "1", "0", "0")
        assert "absolute starts" in output
        assert "the split is by image" in output
        entries = everything(document)
        np.testing.assert_array_equal(decode_rle(entries["1.2.0"]["mask"]), self.mask())
        assert not decode_rle(entries["1.2.2"]["mask"]).any()
        assert [entries[f"1.2.{i}"]["labels"] for i in range(4)] == [[1], [1], [0], [0]]

    def test_relative_is_found_out(self, make, collect):
        folder = make([self.RELATIVE, "-1"])  # as absolute starts the second run would lie before the first
        document, output = collect("siim_acr", folder, "--fractions", "1", "0", "0")
        assert "relative starts" in output
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
