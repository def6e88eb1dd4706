# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Any CSV or TSV table of images with reports, masks, boxes or labels."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.tables.cells import clean_cell, id_problems, is_missing, refuse_list, text_in
from monai_mgca.data.sources.tables.rows import numbered_rows, read_rows
from monai_mgca.data.sources.tables.table_images import ImageColumns
from monai_mgca.data.sources.tables.table_join import ImageRows, join_rows
from monai_mgca.data.sources.tables.table_labels import LabelColumns, name_classes
from monai_mgca.data.split import SPLIT_NAMES, split_name
from monai_mgca.io import stem_of
from monai_mgca.text.report_reader import Reading, ReportReader
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import list_problems, many_objects, progress_bar

__all__ = ["collect_table", "read_rows"]


@many_objects()
def collect_table(
    table: str | os.PathLike,
    image: str | None = None,
    report: str | None = None,
    findings: str | None = None,
    impression: str | None = None,
    patient: str | None = None,
    split: str | None = None,
    id: str | None = None,
    where: Sequence[str] = (),
    dataset_dir: str | os.PathLike | None = None,
    annotations: LabelColumns | None = None,
    image_template: str | None = None,
    images: Sequence[str | os.PathLike] = (),
    encoding: str | None = None,
    headings: str | os.PathLike | None = None,
    letters: str = "ascii",
) -> Collection:
    """Collect the images of any table, rows of one image together, with their reports or annotations.

    Args:
        table: the CSV or TSV table.
        image: the column of image paths.
        report: the column of whole reports; section headings are recognized.
        findings: the column of findings, in place of `report`; that of impressions too, or alone.
        impression: the column of impressions.
        patient: the column of patients. Without it every image counts as its own patient.
        split: the column of splits (train, training, val, valid, validate, validation, test, testing).
        id: the column of ids. Defaults to the image path less its suffix.
        where: "column=value" filters. Those of one column widen the choice, those of several columns narrow it.
        dataset_dir: the folder that image paths are relative to. Defaults to the table's folder.
        annotations: the columns of masks, boxes and labels.
        image_template: in place of ``image``, see :class:`monai_mgca.data.sources.tables.table_images.ImageColumns`.
        images: folders that are searched for the images by name.
        encoding: of the table. Defaults to UTF-8, or UTF-16 or 32 where the file begins with their mark.
        headings: a JSON file of headings that the table of them lacks, see :class:`Headings`.
        letters: of the reports: "ascii" for English, "all" for other languages.

    Raises:
        DataError: when a column is not there or there twice, the report columns do not fit together, a split has
            another name, a cell cannot be parsed, rows of one image contradict each other, or ids were numbers.

    Example::

        collection = collect_table("reports.csv", image="path", report="text", patient="patient_id")
        print(collection.write("dataset.json"))
    """
    base, annotations = os.path.realpath(dataset_dir or Path(table).parent), annotations or LabelColumns()
    places, reader = ImageColumns(image, image_template, images, base), ReportReader(headings)
    columns = _Columns(places, report, findings, impression, patient, split, id, annotations, reader)
    wanted, collection = (
        _parse_where(where),
        Collection(f"csv {Path(table).name}", base, needs_report=bool(columns.texts), letters=letters),
    )
    rows = _choose(numbered_rows(table, [*columns.used, *wanted], encoding), wanted, collection)
    rows_of = _read(table, rows, columns, collection)
    _add(collection, join_rows(table, rows_of, annotations.labels, base), split)
    _name_splits(collection, split, table)
    name_classes(collection, annotations)
    return collection


def _add(
    collection: Collection, joined: Iterable[tuple[str, dict[str, str], dict[str, Any]]], split: str | None
) -> None:
    """Add the images, those whose patient is known."""
    for path, values, found in joined:
        if not values["patient"]:
            collection.drop("no patient", path)
            continue
        given = values["split"] if split else None
        collection.add(values["id"] or stem_of(path), path, values["report"], values["patient"], given, **found)


class _Columns(NamedTuple):
    """Which columns are read, and what a row says."""

    places: ImageColumns
    report: str | None
    findings: str | None
    impression: str | None
    patient: str | None
    split: str | None
    id: str | None
    annotations: LabelColumns
    reader: ReportReader

    @property
    def texts(self) -> list[str]:
        return _text_columns(self.report, self.findings, self.impression, self.annotations)

    @property
    def used(self) -> list[str]:
        others = (self.patient, self.split, self.id)
        return [c for c in dict.fromkeys((*self.places.columns, *self.texts, *others, *self.annotations.columns)) if c]

    def read(self, cells: dict[str, str]) -> tuple[str, dict[str, str], dict[str, Any], Reading | None]:
        """Path, what there is one of for an image, annotations, and how the report was read; no path, no report."""
        path = self.places.path(cells)
        if not path:
            return "", {}, {}, None
        for column in filter(None, (self.patient, self.split, self.id)):
            refuse_list(cells[column], column)
        reading = _report(cells, self.report, self.findings, self.impression, self.reader)
        values = {"patient": cells[self.patient] if self.patient else path, "report": reading.report}
        values |= {"split": cells[self.split] if self.split else "", "id": cells[self.id] if self.id else ""}
        return path, values, self.annotations.read(cells, path), reading


def _read(
    table: str | os.PathLike, rows: Iterable[tuple[int, dict[str, str]]], columns: _Columns, collection: Collection
) -> dict[str, ImageRows]:
    """The rows by image; the collection notes their number, and what is missing."""
    rows_of, patients, missing, number = dict[str, ImageRows](), dict[str, int](), Counter[str](), 0
    used, texts = columns.used, columns.texts
    for line, row in rows:
        number += 1
        try:
            cells = _clean(row, used, missing)
            path, values, found, reading = columns.read(cells | {column: text_in(cells[column]) for column in texts})
        except (DataError, ValueError) as error:
            raise DataError(f"{table} line {line}: {error}") from None
        if reading is None:
            collection.drop("no image path", f"line {line}")
            continue
        if columns.patient and values["patient"]:
            patients.setdefault(values["patient"], line)
        if path not in rows_of:
            collection.readings.take(reading)
        if not rows_of.setdefault(path, ImageRows()).add(line, values, found):
            collection.drop("same id as another entry", f"{path} (line {line})")
    if problems := id_problems(patients):
        title = f"{table}: column '{columns.patient}' holds ids that were taken for numbers"
        mend = "One patient may be two, or two may be one: write each id in one way, as text."
        raise DataError(list_problems(title, problems, mend))
    collection.notes.append(f"{number} rows made {len(rows_of)} images")
    collection.notes += [] if columns.patient else ["no patient column given: every image counts as its own patient"]
    counts = ", ".join(f"{count} of '{column}'" for column, count in missing.items() if count)
    collection.notes += [f"cells that say that a value is missing (nan, None, - ...): {counts}"] if counts else []
    return rows_of


def _clean(row: dict[str, str], used: Sequence[str], missing: Counter[str]) -> dict[str, str]:
    """The cells of the columns that are used, empty where a value is missing in whatever words, which are counted."""
    cells = {column: clean_cell(row[column]) for column in used}
    for column, cell in cells.items():
        if is_missing(cell):
            missing[column] += bool(cell)
            cells[column] = ""
    return cells


def _text_columns(
    report: str | None, findings: str | None, impression: str | None, annotations: LabelColumns
) -> list[str]:
    texts = [column for column in (report, findings, impression) if column]
    if (report and len(texts) > 1) or not (texts or annotations):
        raise DataError("name either the report column, or the findings and/or impression columns, or annotations.")
    return texts


def _choose(
    rows: Iterable[tuple[int, dict[str, str]]], wanted: dict[str, set[str]], collection: Collection
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows that all filters let pass; the collection notes how many they do not."""
    skipped = 0
    for line, row in progress_bar(rows, "reading the table"):
        if all(row[column].strip() in values for column, values in wanted.items()):
            yield line, row
        else:
            skipped += 1
    if wanted:
        filters = " ".join(f"{column}={value}" for column, values in wanted.items() for value in sorted(values))
        collection.notes.append(f"{skipped} rows not chosen by --where {filters}")


def _name_splits(collection: Collection, split: str | None, table: str | os.PathLike) -> None:
    """Replace the values of a split column by the datalist's names."""
    if not split:
        return
    unknown = Counter(value for value, _ in collection.entries if split_name(value or "") is None)
    if unknown:
        raise DataError(f"{table}: column '{split}' {_describe(unknown)}")
    collection.entries = [(split_name(value or ""), entry) for value, entry in collection.entries]


def _report(
    row: dict[str, str], report: str | None, findings: str | None, impression: str | None, reader: ReportReader
) -> Reading:
    if report:
        return reader.whole(row[report])
    return reader.parts(*(row[column] if column else "" for column in (findings, impression)))  # "" without columns


def report_or_text(text: str) -> str:
    """The impression and findings of a report with headings; any other text as it is, less markup."""
    return ReportReader().whole(text).report


def _describe(unknown_splits: Counter) -> str:
    """Name the values that look like a split; others may be patients, or text, where the column is another one."""
    if number := unknown_splits.pop("", 0):
        return f"names no split of {number} images: fill it, choose rows with --where, or leave the column out."
    known = "a split is train, training, val, valid, validate, validation, test or testing."
    similar = [
        value for value in unknown_splits if get_close_matches(value.lower(), [*SPLIT_NAMES, "dev", "holdout"], n=1)
    ]
    if len(similar) < len(unknown_splits):
        return f"has {len(unknown_splits)} values that are no split: is it the right column? {known}"
    values = ", ".join(f"'{value}' ({unknown_splits[value]} rows)" for value in similar)
    return f"has values that are no split: {values}; {known}"


def _parse_where(where: Sequence[str]) -> dict[str, set[str]]:
    wanted = defaultdict(set)
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals:
            raise DataError(f"a filter is column=value, got '{condition}'.")
        wanted[column].add(value)
    return dict(wanted)
