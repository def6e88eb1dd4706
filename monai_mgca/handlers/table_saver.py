# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes the metrics of every validation, the rows of every image, or single figures as CSV or JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ignite.engine import Engine, Events
from monai.data import CSVSaver
from monai.handlers import MetricsSaver
from monai.utils import CommonKeys, ImageMetaKey

from monai_mgca.io.csv_file import csv_cell, write_csv

__all__ = ["FigureSaver", "RowSaver", "TableSaver"]


class TableSaver:
    """Writes a CSV table with a row an image: its path and what the network gave, under named columns.

    MONAI's ``ClassificationSaver`` writes the same without names.

    Args:
        path: of the table; it appears whole, at the end of the run.
        columns: names of the values.
        thresholds: of some of them; each has a column NAME_present besides, 1 where the value is the threshold or more.

    Example::

        TableSaver("eval/probabilities.csv", columns=["effusion", "nodule"]).attach(evaluator)
    """

    def __init__(
        self, path: str | os.PathLike, columns: Sequence[str], thresholds: Mapping[str, float] | None = None
    ) -> None:
        self.path = Path(path)
        self.columns = list(columns)
        self.thresholds = {name: value for name, value in (thresholds or {}).items() if name in self.columns}
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
        output: Any = engine.state.output
        for item in output:
            name = item[CommonKeys.IMAGE].meta[ImageMetaKey.FILENAME_OR_OBJ]
            values = dict(zip(self.columns, item[CommonKeys.PRED].tolist(), strict=True))
            decisions = [int(values[column] >= threshold) for column, threshold in self.thresholds.items()]
            self.rows.append([name, *(f"{value:.6f}" for value in values.values()), *decisions])

    def _write(self) -> None:
        decided = [f"{name}_present" for name in self.thresholds]
        write_csv(self.path, [["image", *self.columns, *decided], *self.rows])


class RowSaver(CSVSaver):
    """:class:`monai.data.CSVSaver` whose rows are safe cells, whatever a file is called, and appear at the end at once.

    Give it as ``saver`` to :class:`monai.handlers.ClassificationSaver`.

    Args:
        output_dir: folder of the table.
        filename: of the table.

    Example::

        ClassificationSaver(saver=RowSaver("eval", "embeddings.csv"))
    """

    def __init__(self, output_dir: str | os.PathLike, filename: str) -> None:
        super().__init__(output_dir, filename, overwrite=False)

    def finalize(self) -> None:
        """Write the table, in place of an earlier one."""
        rows = ([name, *map(str, values.flatten())] for name, values in self._cache_dict.items())
        write_csv(self._filepath, rows, line_end="\n")
        self.reset_cache()


class FigureSaver(MetricsSaver):
    """:class:`monai.handlers.MetricsSaver` whose names, of metrics, classes and files, are safe cells of a table.

    It takes the arguments of ``MetricsSaver``.

    Example::

        FigureSaver("eval", metrics="*").attach(evaluator)
    """

    def __call__(self, engine: Engine) -> None:
        """
        Args:
            engine: MONAI's evaluator.
        """
        self._filenames = list(map(csv_cell, self._filenames))
        metrics = {csv_cell(name): value for name, value in engine.state.metrics.items()}
        renamed: Any = SimpleNamespace(state=SimpleNamespace(**{**vars(engine.state), "metrics": metrics}))
        super().__call__(renamed)
