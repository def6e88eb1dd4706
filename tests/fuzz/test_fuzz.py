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

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")
COUNT = 420


def fuzz(*arguments: str) -> subprocess.CompletedProcess:
    """The command that docs/reliability.md gives, with other numbers."""
    return subprocess.run([sys.executable, str(RUN), *arguments], capture_output=True, text=True, timeout=600)


def numbers_of(output: str) -> dict[str, list[float]]:
    rows = [line.strip("| \n").split(" | ") for line in output.splitlines() if line.startswith("|")]
    return {name: list(map(float, cells)) for name, *cells in rows[2:]}


def test_broken_files_are_read_or_refused():
    done = fuzz("--count", str(COUNT), "--jobs", "1")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = numbers_of(done.stdout)
    files, read, refused, *failed = found["all"]
    assert (files, read + refused, failed[:4]) == (COUNT, COUNT, [0, 0, 0, 0])
    assert all(some[1] + some[2] > 0 for some in found.values()) and read > 50 and refused > 50


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        ("raise KeyError('x')", "other error"),
        ("import ctypes; ctypes.string_at(0)", "crash"),
        ("while True: pass", "hang"),
        ("len(bytearray(1_200_000_000))", "memory"),
        ("len(bytearray(1 << 36))", "memory"),
        ("import os; os._exit(0)", "crash"),
    ],
)
def test_every_kind_of_failure_is_seen(tmp_path, harm, kind):
    """Of the second of three files; the others are read by the next process."""
    (tmp_path / "planted.py").write_text(
        f"import sys; sys.path.insert(0, {str(RUN.parent)!r})\n"
        "import targets\n"
        "def read(folder, path):\n"
        "    if path.read_bytes() != b'sound' and not (folder.parent.parent / 'done').exists():\n"
        "        (folder.parent.parent / 'done').touch()\n"
        f"        {harm}\n"
        "targets.TARGETS = {'planted': targets.Target(1, lambda folder: {'a.txt': b'sound'}, read)}\n"
        "import run\n"
        "sys.exit(run.main())\n"
    )
    command = [sys.executable, str(tmp_path / "planted.py"), "--count", "3", "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    row = dict(
        zip(
            ("read", "refused", "other error", "memory", "hang", "crash"),
            numbers_of(done.stdout)["planted"][1:7],
            strict=True,
        )
    )
    assert row == {**dict.fromkeys(row, 0), kind: 1, "read": 2}
    assert f'{kind}: --only "planted:0" --seed 0' in done.stdout


def test_the_same_seed_makes_the_same_files(tmp_path):
    contents = []
    for name in "ab":
        fuzz("--only", "DICOM radiograph:3", "--keep", str(tmp_path / name))
        contents.append([(p.name, p.read_bytes()) for p in (tmp_path / name).iterdir()])
    assert contents[0] == contents[1] and len(contents[0]) == 1
