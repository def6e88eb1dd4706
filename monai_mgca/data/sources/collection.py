# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The entries that a source collects, and how they become a datalist: cleaned, split, counted, written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_mgca.data.datalist import write_datalist
from monai_mgca.data.entry import ANNOTATIONS, SECTIONS, Entry, as_entry, has_value
from monai_mgca.data.paths import file_problem
from monai_mgca.data.sources.left_out import count_classes, write_left_out
from monai_mgca.data.split import count_shared_patients, split_by_patient
from monai_mgca.text.report_reader import Readings
from monai_mgca.text.sentence_cleaner import SentenceCleaner
from monai_mgca.utils import DataError
from monai_mgca.utils.console import Lines, visible
from monai_mgca.utils.progress import list_problems, many_objects, map_in_threads

__all__ = ["Collection"]


@dataclass
class Collection:
    """What a source found, on its way to a datalist: the entries, and what was dropped and why.

    Args:
        source: what the entries are made from, e.g. "csv reports.csv".
        dataset_dir: the folder that the entries' paths are relative to.
        needs_report: leave out what has no report that is long enough to train on; else what has no annotation.
        header: top-level fields of the datalist, such as the names of the classes.
        letters: of the reports, as :class:`monai_mgca.transforms.CleanReport` has them; the datalist says so.

    Example::

        collection = Collection("by hand", "/data/cxr")
        collection.add("1", image="1.png", report="Clear lungs. No effusion.", patient="1")
        print(collection.write("dataset.json", fractions=(1, 0, 0)))
    """

    source: str
    dataset_dir: str | os.PathLike
    entries: list[tuple[str | None, dict[str, Any]]] = field(default_factory=list)  # split or None, entry
    dropped: Counter = field(default_factory=Counter)
    left_out: list[tuple[str, str]] = field(default_factory=list)  # name, reason
    notes: list[str] = field(default_factory=list)
    needs_report: bool = True
    header: dict[str, Any] = field(default_factory=dict)
    letters: str = "ascii"

    def __post_init__(self) -> None:
        self._clean = SentenceCleaner(letters=self.letters)
        self.readings = Readings()
        if not Path(self.dataset_dir).is_dir():
            raise DataError(f"the dataset folder does not exist: {self.dataset_dir}. Give the one with the images.")

    def drop(self, reason: str, *names: str) -> None:
        """Count what is left out.

        Args:
            reason: why.
            names: of the files, or lines of a table, that are left out; never a patient's id or a report's text.
        """
        if names:
            self.dropped[reason] += len(names)
        self.left_out += ((name, reason) for name in names)

    def add(self, id: str, image: str, report: str, patient: str, split: str | None = None, **extra: Any) -> None:
        """Add an entry, unless its report is empty or too short to train on (`SentenceCleaner` decides).

        Without ``needs_report`` the report may be empty, but not all of "labels", "boxes" and "mask" may be missing.
        """
        if not self.needs_report:
            if not any(has_value(extra, key) for key in ANNOTATIONS):
                self.drop("no annotation", image)
                return
            text = {"report": report} if report.strip() else {}
            self.entries.append((split, {"id": id, "image": image, **text, "patient": patient, **extra}))
        elif not report.strip():
            self.drop("empty report", image)
        elif dropped := self._clean.why_dropped(report):
            self.drop(dropped, image)
        else:
            self.entries.append((split, {"id": id, "image": image, "report": report, "patient": patient, **extra}))

    @many_objects()
    def write(
        self,
        output: str | os.PathLike,
        name: str | None = None,
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        seed: int = 0,
        **extra: Any,
    ) -> str:
        """Leave out what has no image, split by patient what has no split, and write the datalist.

        Args:
            output: the JSON file to write.
            name: the data set's name. Defaults to the name of the dataset folder.
            fractions: see :func:`split_by_patient`; of the patients to whom the source gives no split.
            seed: see :func:`split_by_patient`.
            extra: further top-level fields of the datalist.

        Returns:
            The summary for people: counts, also of the classes, what was dropped and why, the hash, where it was
            written. The names of what was dropped are in a table beside the datalist, with ".dropped.csv" in place of
            its suffix.

        Raises:
            DataError: when nothing is left, an image lies outside the dataset folder, or a given split has a patient
                twice.
        """
        base = os.path.realpath(self.dataset_dir)
        self._keep_with_image(base)
        self._keep_one_per_id()
        if not self.entries:
            lines = [f"nothing is left of {self.source}.", *self.notes, *self._drop_lines(), *self.readings.lines()]
            raise DataError(Lines("\n".join(map(visible, lines))))
        splits = self._split(fractions, seed)
        name = name or Path(base).name
        header = self.header if self.letters == "ascii" else {**self.header, "letters": self.letters}
        document = write_datalist(output, splits, name, self.source, dict(self.dropped), **{**header, **extra})
        folder = os.path.realpath(Path(output).parent)
        patients = {split: len({e["patient"] for e in entries}) for split, entries in splits.items()}
        names = Path(output).with_suffix(".dropped.csv")
        write_left_out(names, self.left_out)
        hint = [] if folder == base else [f"its paths are relative to another folder: load it with dataset_dir={base}"]
        return "\n".join(
            [
                *self.notes,
                *(f"{s}: {len(e)} entries of {patients[s]} patients" for s, e in splits.items()),
                *count_classes(self.header, [entry for entries in splits.values() for entry in entries]),
                *self._drop_lines(),
                *([f"their names: {names}"] if self.left_out else []),
                *self.readings.lines(),
                f"hash: {document['hash']}",
                f"wrote {output}",
                *hint,
            ]
        )

    def _drop_lines(self) -> list[str]:
        return [f"dropped: {number} ({reason})" for reason, number in self.dropped.most_common()] or ["dropped: 0"]

    def _keep_with_image(self, base: str) -> None:
        """Drop the entries whose image is missing or empty; name the first such files in the notes."""
        images = [entry["image"] for _, entry in self.entries]
        folders: dict[str, str] = {}
        reasons = map_in_threads(lambda image: file_problem(base, image, folders), images, "looking for the images")
        bad = [(image, reason) for image, reason in zip(images, reasons, strict=True) if reason]
        outside = [pair for pair in bad if "outside" in pair[1]]
        if outside:
            mend = "Give a dataset folder that holds them all (links are followed to where they end)."
            raise DataError(list_problems(f"images outside the dataset folder {base}", outside, mend))
        if bad:
            title = f"no usable image in {base} for {len(bad)} of {len(images)} entries"
            ways = "; --image-template or --images may find them" if self.source.startswith("csv ") else ""
            self.notes.append(list_problems(title, bad, f"  (left out; is this the right folder?{ways})", limit=5))
        self.entries = [item for item, reason in zip(self.entries, reasons, strict=True) if reason is None]
        for image, reason in bad:
            self.drop(f"image: {reason}", image)

    def _keep_one_per_id(self) -> None:
        """Sort, so that the order of a table's rows has no say, and keep the first entry of each id."""
        self.entries.sort(key=lambda item: (item[1]["id"], item[1]["image"], item[1].get("report", ""), item[0] or ""))
        unique: dict[str, tuple] = {}
        for item in self.entries:
            if unique.setdefault(item[1]["id"], item) is not item:
                self.drop("same id as another entry", item[1]["image"])
        self.entries = list(unique.values())

    def _split(self, fractions: Sequence[float], seed: int) -> dict[str, list[Entry]]:
        found = [(split, as_entry(entry)) for split, entry in self.entries]
        if all(split is None for split, _ in found):
            self.notes.append(f"no splits given: patients split {' / '.join(map(str, fractions))} with seed {seed}")
            return split_by_patient([entry for _, entry in found], fractions, seed)
        splits = {s: [entry for split, entry in found if split == s] for s in SECTIONS}
        rest = [entry for split, entry in found if split is None]
        if rest:  # a source with a test part, say, and no validation part
            parts = " / ".join(f"{part:g}" for part in fractions)
            given = ", ".join(split for split, entries in splits.items() if entries)
            self.notes.append(f"given: {given}; the other patients split {parts} with seed {seed}")
            for split, entries in split_by_patient(rest, fractions, seed).items():
                splits[split] = splits[split] + entries
        shared = count_shared_patients(splits)
        if shared:
            raise DataError(
                f"{shared} patients are in more than one split of {self.source}: what is learned of them would be"
                " tested on them. Mend the split column, or leave it out to get patient-wise splits."
            )
        return {split: entries for split, entries in splits.items() if entries}
