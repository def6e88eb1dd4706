# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Break files and read them: each must be read, or refused with an error of ours, in 5 s and less than 1 GB.

`python tests/fuzz/run.py --count 10000` divides so many broken files among the readers of targets.py and prints a
table; it ends with 1 where a reader failed. A failure names the file: `--only "DICOM radiograph:17" --keep FOLDER`
makes that one again, keeps it and shows the traceback. The files depend on `--seed` alone.

Files are read in processes of their own, forked some files at a time, so that one that crashes is reported and the
rest is read. The 5 s are of the processor, by a timer of the kernel that ends native code too; 60 s of the clock are
the end as well. Memory is the process's peak less what it had before the file; one that takes over 2 GB is ended; one
that asks for more than 16 GB, used or not, gets none: that counts as too much, even where the reader refuses the file
then.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from targets import TARGETS
from work import Case, Outcome, run_cases, run_one

KINDS = ("read", "refused", "other error", "memory", "hang", "crash")


def divide(count: int, only: str | None) -> list[Case]:
    """So many files, among the readers by their shares; all readers in turn, so that any part is of all."""
    if only is not None:
        name, _, index = only.partition(":")
        return [Case(name, int(index))] if index else [Case(name, index) for index in range(count)]
    total = sum(target.share for target in TARGETS.values())
    counts = {name: max(1, round(count * target.share / total)) for name, target in TARGETS.items()}
    counts[max(counts, key=counts.__getitem__)] += count - sum(counts.values())
    return [Case(name, index) for name, number in counts.items() for index in range(number)]


def print_table(found: list[tuple[Case, Outcome]]) -> None:
    """One line a reader: how many files, what became of them, the slowest one and the one of most memory."""
    print(f"| reader | files | {' | '.join(KINDS)} | slowest, s | most memory, MB |")
    print("|---|" + "--:|" * (len(KINDS) + 3))
    names = list(dict.fromkeys(case.target for case, _ in found))
    for name in [*names, None]:
        some = [outcome for case, outcome in found if name in (case.target, None)]
        numbers = [sum(outcome.kind == kind for outcome in some) for kind in KINDS]
        most = (f"{max(o.seconds for o in some):.2f}", f"{max(o.megabytes for o in some):.0f}")
        print("| " + " | ".join([name or "all", str(len(some)), *map(str, numbers), *most]) + " |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="broken files in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="other files (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default: %(default)s)")
    parser.add_argument("--only", metavar="READER[:INDEX]", help="one reader, or one file of it")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="keep the broken files of failures here")
    args = parser.parse_args()
    cases = divide(args.count, args.only)
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if args.only and ":" in args.only:
            run_one(Path(folder), cases[0], args.seed, args.keep)
            return 0
        found = list(run_cases(Path(folder), cases, args.seed, args.jobs, args.keep))
    print_table(found)
    bad = [(case, outcome) for case, outcome in found if outcome.kind not in ("read", "refused")]
    for case, outcome in bad:
        print(f'{outcome.kind}: --only "{case.target}:{case.index}" --seed {args.seed}: {outcome.message}')
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
