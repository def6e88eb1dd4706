# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from monai_mgca.visualize.plot_training_curves import draw_training_curves, read_training_curves


def write(folder, time, **curves):
    """An event file that was written at a time; each curve is a list of (epoch, value)."""
    before = set(folder.glob("*.tfevents.*")) if folder.exists() else set()
    with SummaryWriter(folder, filename_suffix=f".{time}") as writer:
        for name, pairs in curves.items():
            for epoch, value in pairs:
                writer.add_scalar(name, value, epoch)
    (file,) = set(folder.glob("*.tfevents.*")) - before
    os.utime(file, (time, time))
    return file


def pretraining(first, last, value):
    pairs = [(epoch, value + epoch) for epoch in range(first, last + 1)]
    return {"train_loss": pairs, "val_mean_recall": pairs}


def test_the_newest_pretraining_is_taken(tmp_path):
    write(tmp_path, 100, **pretraining(1, 5, 1000))
    write(tmp_path, 200, **pretraining(1, 3, 0), val_loss=[(1, 4.0)], learning_rate=[(1, 0.1)])
    write(tmp_path, 300, train_loss=[(1, 7.0)], val_mean_dice=[(1, 0.5)])  # of another task
    write(tmp_path / "segmentation", 400, **pretraining(1, 9, 2000))
    values = [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert read_training_curves(tmp_path) == {"train_loss": values, "val_loss": [(1, 4.0)], "val_mean_recall": values}


def test_a_resumed_training_has_its_beginning(tmp_path):
    write(tmp_path, 100, **pretraining(1, 9, 1000))  # another one
    write(tmp_path, 200, **pretraining(1, 4, 0))
    write(tmp_path, 300, **pretraining(4, 6, 0.5))
    wanted = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.5), (5, 5.5), (6, 6.5)]
    assert read_training_curves(tmp_path)["train_loss"] == wanted


def test_no_pretraining(tmp_path):
    assert read_training_curves(tmp_path / "none") == {}
    (tmp_path / "events.out.tfevents.1.host").write_bytes(b"no events at all")
    write(tmp_path, 300, val_mean_dice=[(1, 0.5)])
    assert read_training_curves(tmp_path) == {}


def test_a_file_that_ends_early(tmp_path):
    file = write(tmp_path, 100, **pretraining(1, 5, 0))
    file.write_bytes(file.read_bytes()[:-20])
    assert [epoch for epoch, _ in read_training_curves(tmp_path)["train_loss"]] == [1, 2, 3, 4, 5]
    assert [epoch for epoch, _ in read_training_curves(tmp_path)["val_mean_recall"]] == [1, 2, 3, 4]


def test_the_curves_are_drawn_where_they_are():
    pytest.importorskip("matplotlib")
    low, high = [(1, 1.0), (20, 1.0)], [(1, 9.0), (20, 9.0)]
    picture = draw_training_curves({"train_loss": high, "val_loss": low})
    assert isinstance(picture, Image.Image)
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    rows = [np.argwhere((pixels == color).all(2).sum(1) > 100).mean() for color in ((0, 114, 178), (230, 159, 0))]
    assert rows[0] < rows[1], "the higher curve, of the training, stands above"
    one, three = (draw_training_curves(dict.fromkeys(names, low)).width for names in (["val_loss"], WIDE))
    assert three == 3 * one


WIDE = ["train_loss", "val_instance_loss", "val_image_collapse"]
