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

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from ignite.engine import Engine, Events
from monai.utils import CommonKeys, ImageMetaKey

from monai_mgca.utils.files import replacing

__all__ = ["TableSaver"]


class TableSaver:
    """Writes a CSV table with a row an image: its path and what the network gave, under named columns.

    MONAI's ``ClassificationSaver`` writes the same without names.

    Args:
        path: of the table; it appears whole, at the end of the run.
        columns: names of the values.

    Example::

        TableSaver("eval/probabilities.csv", columns=["effusion", "nodule"]).attach(evaluator)
    """

    def __init__(self, path: str | os.PathLike, columns: Sequence[str]) -> None:
        self.path = Path(path)
        self.columns = list(columns)
        self.rows: list[list] = []

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's evaluator, with decollated outputs.
        """
        engine.add_event_handler(Events.STARTED, lambda: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _collect(self, engine: Engine) -> None:
        for item in engine.state.output:
            name = item[CommonKeys.IMAGE].meta[ImageMetaKey.FILENAME_OR_OBJ]
            self.rows.append([name, *(f"{value:.6f}" for value in item[CommonKeys.PRED].tolist())])

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", *self.columns])
            writer.writerows(self.rows)
