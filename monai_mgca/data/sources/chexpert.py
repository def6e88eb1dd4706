# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""CheXpert: radiographs with the labels of 14 findings."""

from __future__ import annotations

import os
import re
from pathlib import Path

from monai.utils import look_up_option

from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.mimic_cxr import CHEXPERT_CLASSES
from monai_mgca.data.sources.tables.rows import read_rows
from monai_mgca.utils import DataError

__all__ = ["COMPETITION_CLASSES", "collect_chexpert"]

COMPETITION_CLASSES = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
_PATH = re.compile(r"(?:^|/)((?:train|valid)/(patient\d+)/study\d+/[^/]+)$")
_VALUES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}


def collect_chexpert(
    dataset_dir: str | os.PathLike, all_classes: bool = False, unmentioned: str = "unknown"
) -> Collection:
    """Collect the frontal radiographs of CheXpert; valid.csv, labeled by radiologists, is the test part.

    Args:
        dataset_dir: the folder CheXpert-v1.0-small (or CheXpert-v1.0, with train/ and valid/): train.csv and valid.csv
            with Path, Frontal/Lateral and a column a finding.
        all_classes: all 14 findings in place of the competition's five.
        unmentioned: an empty cell, a finding that the report does not mention: "unknown" (null) or "absent" (0).
            Uncertain findings stay -1; training chooses what they count as.

    Raises:
        DataError: when a table or column is not there, or a row is broken (by line).
        ValueError: when `unmentioned` is another word.

    Example::

        print(collect_chexpert("CheXpert-v1.0-small").write("dataset.json", fractions=(0.974, 0.026, 0)))
    """
    empty = {"unknown": None, "absent": 0}[look_up_option(unmentioned, ("unknown", "absent"))]
    values: dict[str, int | None] = {**_VALUES, "": empty}
    classes = CHEXPERT_CLASSES if all_classes else COMPETITION_CLASSES
    collection = Collection("chexpert", dataset_dir, needs_report=False)
    collection.header = {"classes": list(classes)}
    for name, split in (("train.csv", None), ("valid.csv", "test")):
        table = Path(dataset_dir) / name
        for line, row in enumerate(read_rows(table, ("Path", "Frontal/Lateral", *classes)), start=2):
            match = _PATH.search(row["Path"].strip())
            if match is None:
                raise DataError(f"{table} line {line}: Path is no .../train/patient00001/study1/view1_frontal.jpg.")
            if row["Frontal/Lateral"].strip() != "Frontal":
                collection.drop("not a frontal view", match[1])
                continue
            broken = [c for c in classes if row[c].strip() not in values]
            if broken:
                raise DataError(f"{table} line {line}: '{broken[0]}' is none of 1.0, 0.0, -1.0 and empty.")
            labels = [values[row[c].strip()] for c in classes]
            image, patient = match.groups()
            collection.add(os.path.splitext(image)[0], image, "", patient, split, labels=labels)
    collection.notes.append(f"labels: uncertain findings are -1, those not mentioned are {unmentioned}")
    return collection
