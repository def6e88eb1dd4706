# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""COVIDx CXR: radiographs with the label of COVID-19."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from monai_mgca.data.sources.collection import Collection
from monai_mgca.utils import DataError

__all__ = ["collect_covidx"]

CLASSES = ("normal", "pneumonia", "COVID-19")
_BINARY = {"negative": [0], "positive": [1]}


class _Row(NamedTuple):
    patient: str
    image: str
    name: str  # of the class


def collect_covidx(
    dataset_dir: str | os.PathLike, train: str | os.PathLike | None = None, test: str | os.PathLike | None = None
) -> Collection:
    """Collect COVIDx CXR, in the split of its lists.

    Lists of normal, pneumonia and COVID-19 give exclusive classes (one-hot labels, label_mode multiclass); those of
    positive and negative one class, COVID-19.

    Args:
        dataset_dir: the folder of the images, in train/ and test/.
        train: the list of training images; lines of patient, file, class and perhaps the source, with spaces between.
            Defaults to train.txt in the dataset folder.
        test: the list of test images. Defaults to test.txt in the dataset folder.

    Raises:
        DataError: when a list or folder is not there, a line is broken (by number), or the lists mix both kinds.

    Example::

        print(collect_covidx("covidx-cxr2").write("dataset.json", fractions=(0.9, 0.1, 0)))
    """
    folder = Path(dataset_dir)
    collection = Collection("covidx", folder, needs_report=False)
    lists = {"train": Path(train or folder / "train.txt"), "test": Path(test or folder / "test.txt")}
    rows = {}
    for part, path in lists.items():
        if not (folder / part).is_dir():
            raise DataError(f"no folder {part} in {folder}; give the folder with train/ and test/.")
        rows[part] = _read_list(path)
    names = {row.name for part in rows.values() for row in part}
    binary = names <= set(_BINARY)
    if not binary and names & set(_BINARY):
        raise DataError(f"{lists['train']} and {lists['test']} mix positive, negative with other classes.")
    label_of = _BINARY if binary else {name: [int(name == c) for c in CLASSES] for name in CLASSES}
    collection.header = {"classes": ["COVID-19"] if binary else list(CLASSES)}
    collection.header["label_mode"] = "multilabel" if binary else "multiclass"
    tested = {row.patient for row in rows["test"]}
    for part, split in (("train", None), ("test", "test")):
        for row in rows[part]:
            if part == "train" and row.patient in tested:
                collection.drop("training image of a test patient", f"{part}/{row.image}")
                continue
            image = f"{part}/{row.image}"
            collection.add(os.path.splitext(image)[0], image, "", row.patient, split, labels=label_of[row.name])
    return collection


def _read_list(path: Path) -> list[_Row]:
    if not path.is_file():
        raise DataError(f"no such list: {path}; give it with --train or --test.")
    known = {name.lower(): name for name in (*CLASSES, *_BINARY)}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8; save it as UTF-8.") from None
    rows = []
    for number, words in enumerate(map(str.split, lines), start=1):
        # the class is last, or followed by the source; a file's name may have spaces
        at = next((i for i in (len(words) - 1, len(words) - 2) if i >= 2 and words[i].lower() in known), None)
        if at is not None:
            source = words[at + 1] if at + 1 < len(words) else ""  # patients of two sources may have one number
            patient = f"{source}/{words[0]}" if source else words[0]
            rows.append(_Row(patient, " ".join(words[1:at]), known[words[at].lower()]))
        elif words and not (number == 1 and "class" in [word.lower() for word in words]):
            raise DataError(f"{path} line {number}: no patient, file and class ({', '.join(known.values())}).")
    return rows
