# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

from pathlib import Path

RUN = Path(__file__).with_name("run.py")
COUNT = 420


def numbers_of(output: str) -> dict[str, list[float]]:
    rows = [line.strip("| \n").split(" | ") for line in output.splitlines() if line.startswith("|")]
    return {name: list(map(float, cells)) for name, *cells in rows[2:]}


def test_broken_files_are_read_or_refused(forks):
    """The command that docs/reliability.md gives, with other numbers."""
    done = forks.run(str(RUN), "--count", str(COUNT), "--jobs", "1", timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = numbers_of(done.stdout)
    files, read, refused, *failed = found["all"]
    assert (files, read + refused, failed[:4]) == (COUNT, COUNT, [0, 0, 0, 0])
    assert all(some[1] + some[2] > 0 for some in found.values())
    assert read > 50
    assert refused > 50


HARMS = {
    "other error": ["raise KeyError('x')"],
    "crash": ["import ctypes; ctypes.string_at(0)", "import os; os._exit(0)"],
    "hang": ["while True: pass"],
    "memory": ["len(bytearray(1_200_000_000))", "len(bytearray(1 << 36))"],
}


def test_every_kind_of_failure_is_seen(forks, tmp_path):
    """Each of the first of three files of a reader; the others are read by the next process."""
    program = (
        f"import sys; sys.path.insert(0, {str(RUN.parent)!r})\n"
        "import targets\n"
        "def reader(harm):\n"
        "    def read(folder, path):\n"
        "        done = folder.parent.parent / f'{folder.name} done'\n"
        "        if path.read_bytes() != b'sound' and not done.exists():\n"
        "            done.touch()\n"
        "            exec(harm)\n"
        "    return targets.Target(1, lambda folder: {'a.txt': b'sound'}, read)\n"
        f"harms = {[harm for some in HARMS.values() for harm in some]!r}\n"
        "targets.TARGETS = {f'planted {place}': reader(harm) for place, harm in enumerate(harms)}\n"
        "import run\n"
        "sys.exit(run.main())\n"
    )
    kinds = [kind for kind, some in HARMS.items() for _ in some]
    done = forks.run("-c", program, "--count", str(3 * len(kinds)), "--jobs", "1", timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    found = numbers_of(done.stdout)
    names = ("read", "refused", "other error", "memory", "hang", "crash")
    for place, kind in enumerate(kinds):
        row = dict(zip(names, found[f"planted {place}"][1:7], strict=True))
        assert row == {**dict.fromkeys(row, 0), kind: 1, "read": 2}
        assert f'{kind}: --only "planted {place}:0" --seed 0' in done.stdout


def test_the_same_seed_makes_the_same_files(forks, tmp_path):
    program = (
        f"import sys; sys.path.insert(0, {str(RUN.parent)!r})\n"
        "import run\n"
        "for folder in sys.argv[1:]:\n"
        "    sys.argv = ['run.py', '--only', 'DICOM radiograph:3', '--keep', folder]\n"
        "    run.main()\n"
    )
    folders = [tmp_path / "a", tmp_path / "b"]
    done = forks.run("-c", program, *map(str, folders), timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = ([(path.name, path.read_bytes()) for path in folder.iterdir()] for folder in folders)
    assert first == second
    assert len(first) == 1
