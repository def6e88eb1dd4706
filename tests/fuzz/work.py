# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Processes that read broken files, and what became of each."""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import random
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from mutate import mutate
from targets import ERRORS, TARGETS

CPU_SECONDS = 5
CLOCK_SECONDS = 60
MEGABYTES = 1000
ADDRESSES = 16 * 2**30  # what a reader may ask for, used or not
KILLED_AT = 2000 * 10**6  # what it may use, before the parent ends it
AT_A_TIME = 50


class Case(NamedTuple):
    """A broken file: of which reader, and its number."""

    target: str
    index: int


class Outcome(NamedTuple):
    """What became of a file: "read", "refused", "other error", "memory", "hang" or "crash"; and the error's message."""

    kind: str
    seconds: float = 0
    megabytes: float = 0
    message: str = ""


class _Surroundings:
    """The folder of a reader's sound files, as they were when it was made."""

    def __init__(self, folder: Path, name: str) -> None:
        self.target = TARGETS[name]
        self.folder = folder / str(list(TARGETS).index(name))
        self.folder.mkdir(parents=True)
        self.files = self.target.prepare(self.folder)
        for name, data in self.files.items():
            (self.folder / name).write_bytes(data)

    def check(self) -> None:
        """Read the sound files, without which a refusal would mean nothing."""
        for name in self.files:
            self.target.read(self.folder, self.folder / name)

    def write(self, case: Case, seed: int, folder: Path) -> Path:
        r = random.Random(f"{seed}:{case.target}:{case.index}")
        name = r.choice(sorted(self.files))
        ending = name.rsplit(".", 1)[-1]
        others = [data for other, data in self.files.items() if other != name and other.endswith(ending)]
        path = folder / self.folder.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mutate(r, name, self.files[name], others))
        return path


def _status(key: str, process: int | str = "self") -> int:
    """Kilobytes that the kernel counts for a process; none of one that has ended."""
    with open(f"/proc/{process}/status") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(key)), 0)


def _reset_peak() -> int:
    """The process's memory, from which the next peak is counted; in kilobytes."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS:")


def _cause(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether an error of a kind lies below an error."""
    seen = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            if isinstance(one, kind):
                return True
            waiting += [one.__cause__, one.__context__]
    return False


def _read(surroundings: _Surroundings, path: Path, folder: Path) -> tuple[str, str]:
    try:
        surroundings.target.read(folder / surroundings.folder.name, path)
    except Exception as error:
        if _cause(error, MemoryError) or "not enough memory" in str(error):
            return "memory", f"asks for more than {ADDRESSES >> 30} GB"
        if isinstance(error, ERRORS):
            return "refused", ""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "monai_mgca" in f.filename]
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
        return "other error", f"{type(error).__name__}: {str(error)[:200]!r} at {place}"
    return "read", ""


def _measure(surroundings: _Surroundings, path: Path, folder: Path) -> Outcome:
    gc.collect()
    before, start = _reset_peak(), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # its signal ends the process, in native code too
    kind, message = _read(surroundings, path, folder)
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds, megabytes = time.process_time() - start, (_status("VmHWM:") - before) / 1000
    if kind in ("read", "refused") and megabytes > MEGABYTES:
        kind, message = "memory", f"{megabytes:.0f} MB"
    return Outcome(kind, seconds, megabytes, message)


def _quiet() -> None:
    """What libraries say of broken files is useless here."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)


def _fork() -> int:
    """As os.fork; in the child torch makes new threads at once: two of a reader's threads must not meet there."""
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
    return pid


def _child(
    template: Path, folder: Path, prepared: dict[str, _Surroundings], cases: list[Case], seed: int, out: int
) -> None:
    """Read some files, and report each to the parent before and after."""
    shutil.copytree(template, folder)
    with open(folder / "stderr", "wb") as stderr:
        os.dup2(stderr.fileno(), 2)
    faulthandler.enable()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    limit = _status("VmSize:") * 1024 + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for case in cases:
        surroundings = prepared[case.target]
        path = surroundings.write(case, seed, folder)
        os.write(out, b"\n")
        outcome = _measure(surroundings, path, folder)
        os.write(out, json.dumps(outcome).encode() + b"\n")
        path.write_bytes(surroundings.files[path.relative_to(folder / surroundings.folder.name).as_posix()])


class _Process:
    """A forked process with some files to read, and how far it is."""

    def __init__(self, template: Path, folder: Path, prepared: dict, cases: list[Case], seed: int) -> None:
        self.cases, self.folder, self.done, self.text = cases, folder, 0, b""
        self.pipe, out = os.pipe()
        self.heard, self.killed_for = time.monotonic(), Outcome("crash", message="killed")
        self.pid = _fork()
        if self.pid == 0:
            os.close(self.pipe)
            try:
                _child(template, folder, prepared, cases, seed, out)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(99)
        os.close(out)
        self.before = 1024 * _status("RssAnon:")

    def hear(self) -> Iterator[tuple[Case, Outcome]]:
        """What the process reported; nothing more where it has ended."""
        self.heard = time.monotonic()
        *lines, self.text = (self.text + self.text_of_pipe()).split(b"\n")
        for line in filter(None, lines):
            self.done += 1
            yield self.cases[self.done - 1], Outcome(*json.loads(line))

    def text_of_pipe(self) -> bytes:
        data = os.read(self.pipe, 65536)
        self.ended = not data
        return data

    def watch(self) -> None:
        """End it where it waits for ever, or before it uses up the machine's memory."""
        if time.monotonic() - self.heard > CLOCK_SECONDS:
            self.killed_for = Outcome("hang", CLOCK_SECONDS, 0, f"more than {CLOCK_SECONDS} s of the clock")
            os.kill(self.pid, signal.SIGKILL)
        elif (used := 1024 * _status("RssAnon:", self.pid)) > self.before + KILLED_AT:
            self.killed_for = Outcome("memory", 0, used / 1e6, f"more than {KILLED_AT / 1e6:.0f} MB")
            os.kill(self.pid, signal.SIGKILL)

    def stderr(self) -> str:
        """The end of what it wrote, without the list of modules that a crash brings."""
        path = self.folder / "stderr"
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        return text.partition("Extension modules")[0][-1500:]

    def end(self) -> Outcome | None:
        """Why the process ended; None where it read all its files."""
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.pipe)
        message = self.stderr()
        shutil.rmtree(self.folder, ignore_errors=True)
        code = os.waitstatus_to_exitcode(status)
        if code == 99:
            raise RuntimeError(f"the fuzzer itself failed at {self.cases[self.done]}: {message}")
        if self.done == len(self.cases):
            return None
        if code == -signal.SIGPROF:
            return Outcome("hang", CPU_SECONDS, 0, f"more than {CPU_SECONDS} s of the processor")
        if code == -signal.SIGKILL:
            return self.killed_for
        return Outcome("crash", 0, 0, f"ended by {-code if code < 0 else code}: {message}")


def prepare(folder: Path, cases: list[Case]) -> dict[str, _Surroundings]:
    """The surroundings of the readers; that they read the sound files is checked by a process of its own.

    A reader may start threads, which no process has that is forked afterwards, and would wait for.
    """
    prepared = {name: _Surroundings(folder, name) for name in dict.fromkeys(case.target for case in cases)}
    pid = _fork()
    if pid == 0:
        try:
            for surroundings in prepared.values():
                surroundings.check()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("a reader refuses its sound file")
    return prepared


def run_cases(
    folder: Path, cases: list[Case], seed: int, jobs: int, keep: Path | None = None
) -> Iterator[tuple[Case, Outcome]]:
    """Read all broken files.

    Args:
        folder: an empty one to work in.
        cases: the files.
        seed: of their making.
        jobs: processes at a time.
        keep: where files that made a reader fail are kept.
    """
    _quiet()
    prepared = prepare(folder / "template", cases)
    gc.freeze()  # what is there is looked through by no child
    waiting = [cases[start : start + AT_A_TIME] for start in range(0, len(cases), AT_A_TIME)][::-1]
    running: dict[int, _Process] = {}
    number, last = 0, time.monotonic()
    while waiting or running:
        while waiting and len(running) < jobs:
            number += 1
            process = _Process(folder / "template", folder / f"process{number}", prepared, waiting.pop(), seed)
            running[process.pipe] = process
        ready = select.select(list(running), [], [], 0.05)[0]
        for pipe in ready:
            process = running[pipe]
            for case, outcome in process.hear():
                yield from _kept(prepared, case, outcome, seed, keep)
            if process.ended:
                del running[pipe]
                outcome = process.end()
                if outcome is not None:
                    yield from _kept(prepared, process.cases[process.done], outcome, seed, keep)
                    waiting.append(process.cases[process.done + 1 :])
                    waiting = [some for some in waiting if some]
        for process in running.values():
            process.watch()
        if time.monotonic() - last > 30:
            last = time.monotonic()
            left = sum(map(len, waiting)) + sum(len(p.cases) - p.done for p in running.values())
            print(f"{len(cases) - left} of {len(cases)} files", file=sys.stderr, flush=True)


def _kept(
    prepared: dict[str, _Surroundings], case: Case, outcome: Outcome, seed: int, keep: Path | None
) -> Iterator[tuple[Case, Outcome]]:
    if keep is not None and outcome.kind not in ("read", "refused"):
        path = prepared[case.target].write(case, seed, keep / "files")
        path.rename(keep / f"{case.target.replace(' ', '_').replace('/', '_')}_{case.index}_{path.name}")
    yield case, outcome


def run_one(folder: Path, case: Case, seed: int, keep: Path | None) -> None:
    """Read one broken file in this process, showing what it raises."""
    surroundings = prepare(folder, [case])[case.target]
    path = surroundings.write(case, seed, folder)
    print(f"{path.name}: {path.stat().st_size} bytes, {path.read_bytes()[:300]!r}", flush=True)
    if keep is not None:
        shutil.copy(path, keep / f"{case.index}_{path.name}")
    faulthandler.enable()
    try:
        surroundings.target.read(surroundings.folder, path)
    except ERRORS as error:
        print(f"refused: {type(error).__name__}: {error}")
    else:
        print("read")
