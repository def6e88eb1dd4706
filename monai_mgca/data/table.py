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
import gzip
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from monai_mgca.data.many import many_objects, progress_bar
from monai_mgca.data.sections import join_report, report_from_text
from monai_mgca.data.source import Collection
from monai_mgca.data.split import SPLIT_NAMES, split_name
from monai_mgca.data.table_labels import LabelColumns
from monai_mgca.utils import DataError

__all__ = ["collect_table", "read_rows"]


def read_rows(path: str | os.PathLike, columns: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """Read a CSV or TSV table (comma, semicolon or tab; may be .gz) row by row.

    Args:
        path: the table, UTF-8.
        columns: the columns that must be there.

    Raises:
        DataError: when the table is not there or cannot be read, a row is broken (by line), or a column is missing
            (naming the nearest one).

    Example::

        for row in read_rows("reports.csv", columns=["image_path"]):
            print(row["image_path"])
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no such table: {path}")
    csv.field_size_limit(2**24)  # reports can be longer than csv's default of 128 kB
    line = 1
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            delimiter = max(",;\t", key=head.count)
            header = next(csv.reader([head], delimiter=delimiter), [])
            # strict: else a quote that is never closed would swallow all rows after it
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            _check_columns(path, header, columns)
            line = 2
            for fields in reader:
                if len(fields) != len(header) and fields:
                    raise csv.Error(f"{len(fields)} fields, the header has {len(header)}; is a quote missing?")
                if fields:
                    yield dict(zip(header, fields, strict=True))
                line = reader.line_num + 2  # where the next row begins: a row may span lines
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 (at or after line {line}); save it as UTF-8.") from None
    except (csv.Error, OSError, EOFError, zlib.error) as e:  # zlib's: a damaged .gz
        raise DataError(f"{path} cannot be read at line {line}: {e}") from None


def _check_columns(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    for column in columns:
        if column not in header:
            near = get_close_matches(column, header, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise DataError(f"{path} has no column '{column}'.{hint} The columns are: {', '.join(header)}.")


@many_objects()
def collect_table(
    table: str | os.PathLike,
    image: str,
    report: str | None = None,
    findings: str | None = None,
    impression: str | None = None,
    patient: str | None = None,
    split: str | None = None,
    id: str | None = None,
    where: Sequence[str] = (),
    dataset_dir: str | os.PathLike | None = None,
    annotations: LabelColumns | None = None,
) -> Collection:
    """Collect the rows of any table that has a column of images, and columns of report text or of annotations.

    Args:
        table: the CSV or TSV table.
        image: the column of image paths.
        report: the column of whole reports; section headings are understood. Either this, or `findings` and/or
            `impression`; none of them where there are annotations.
        findings: the column of findings.
        impression: the column of impressions.
        patient: the column of patients. Without it every image counts as its own patient.
        split: the column of splits (train, training, val, valid, validate, validation, test, testing).
        id: the column of ids. Defaults to the image path without its suffix.
        where: "column=value" filters. Those of one column widen the choice, those of several columns narrow it.
        dataset_dir: the folder that image paths are relative to. Defaults to the table's folder.
        annotations: the columns of masks, boxes and labels.

    Raises:
        DataError: when a column is not there, the report columns do not fit together, or a split has another name.

    Example::

        collection = collect_table("reports.csv", image="path", report="text", patient="patient_id")
        print(collection.write("dataset.json"))
    """
    annotations, rows, found_of = annotations or LabelColumns(), [], {}
    texts, wanted = _text_columns(report, findings, impression, annotations), _parse_where(where)
    columns = [c for c in (image, *texts, patient, split, id, *wanted, *annotations.columns) if c]
    base = os.path.realpath(dataset_dir or Path(table).parent)
    collection = Collection(f"csv {Path(table).name}", base, needs_report=bool(texts))
    for row in _choose(table, columns, wanted, collection):
        path = _relative(row[image].strip(), base)
        who = row[patient].strip() if patient else path
        if not path or not who:
            collection.drop("no image path" if not path else "no patient")
            continue
        found = annotations.read(row, path)
        if annotations.box_columns and _join_boxes(found_of, path, found):
            continue
        name, text = (id and row[id].strip()) or os.path.splitext(path)[0], _report(row, report, findings, impression)
        rows.append(((name, path, text, who, row[split] if split else None), found))
    for place, found in rows:
        collection.add(*place, **found)
    _name_splits(collection, split, table)
    _name_classes(collection, annotations)
    collection.notes += [] if patient else ["no patient column given: every image counts as its own patient"]
    return collection


def _text_columns(
    report: str | None, findings: str | None, impression: str | None, annotations: LabelColumns
) -> list[str]:
    texts = [column for column in (report, findings, impression) if column]
    if (report and len(texts) > 1) or not (texts or annotations):
        raise DataError("name either the report column, or the findings and/or impression columns, or annotations.")
    return texts


def _choose(
    table: str | os.PathLike, columns: Sequence[str], wanted: dict[str, set[str]], collection: Collection
) -> Iterator[dict[str, str]]:
    """The rows that all filters let pass; the collection notes how many they do not."""
    skipped = 0
    for row in progress_bar(read_rows(table, columns), "reading the table"):
        if all(row[column] in values for column, values in wanted.items()):
            yield row
        else:
            skipped += 1
    if wanted:
        filters = " ".join(f"{column}={value}" for column, values in wanted.items() for value in sorted(values))
        collection.notes.append(f"{skipped} rows not chosen by --where {filters}")


def _name_splits(collection: Collection, split: str | None, table: str | os.PathLike) -> None:
    """Replace the values of a split column by the datalist's names."""
    if not split:
        return
    unknown = Counter(value for value, _ in collection.entries if split_name(value) is None)
    if unknown:
        raise DataError(f"{table}: column '{split}' {_describe(unknown)}")
    collection.entries = [(split_name(value), entry) for value, entry in collection.entries]


def _name_classes(collection: Collection, annotations: LabelColumns) -> None:
    """Replace names of classes by indices, and note the classes that no entry has."""
    entries = [entry for _, entry in collection.entries]
    collection.header = annotations.number(entries)
    boxes = {index for entry in entries for index in entry.get("box_labels") or ()}
    labels = {i for entry in entries for i, value in enumerate(entry.get("labels") or ()) if value == 1}
    for key, seen in (("box_classes", boxes), ("classes", labels)):
        missing = [name for index, name in enumerate(collection.header.get(key, ())) if index not in seen]
        if missing:
            collection.notes.append(f"no entry has the class {', '.join(missing)}: is it written as in the table?")


def _join_boxes(found_of: dict[str, dict[str, Any]], image: str, found: dict[str, Any]) -> bool:
    """Whether an earlier row has the image; it gets the boxes of this one."""
    first = found_of.setdefault(image, found)
    if first is not found and "boxes" in found:
        first.setdefault("boxes", []).extend(found["boxes"])
    return first is not found


def _report(row: dict[str, str], report: str | None, findings: str | None, impression: str | None) -> str:
    if report:
        return report_or_text(row[report])
    return join_report(*(row[column] if column else "" for column in (findings, impression)))  # "" without columns


def report_or_text(text: str) -> str:
    """The impression and findings of a report with headings; any other text as it is."""
    return report_from_text(text) or text.strip()


def _describe(unknown_splits: Counter) -> str:
    """Name the values that look like a split; others may be patients, or text, where the column is another one."""
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


def _relative(path: str, base: str) -> str:
    """Tables often hold absolute paths; a datalist can be moved only with relative ones."""
    return os.path.relpath(os.path.realpath(path), base) if os.path.isabs(path) else path
