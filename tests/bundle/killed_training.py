# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Kills trainings by SIGKILL at random moments and resumes them: started by test_killed_training.py.

It imports everything once and forks every training, which is then at work within a second.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import monai.bundle
import monai.engines
import monai.handlers
import torch
import transformers  # noqa: F401

import monai_mgca.data
import monai_mgca.handlers
import monai_mgca.losses
import monai_mgca.networks  # noqa: F401
from monai_mgca.handlers import best_model
from monai_mgca.handlers.resume import checkpoint_folder
from monai_mgca.handlers.resume.checkpoint_state import FREE
from monai_mgca.utils import files

# where a training can be killed in the writing of a file
PLACES = ("half of a checkpoint", "before it is renamed", "before the old ones go", "half of the best network")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_writing(place, number):
    """Have this process kill itself in the writing of the so-manyeth file."""
    calls = itertools.count(1)

    def half(save):
        def write(state, file):
            save(state, file)
            if next(calls) == number:
                path = file if isinstance(file, Path) else Path(file.name)
                os.truncate(path, path.stat().st_size // 2)
                die()

        return write

    def before(action):
        def act(*arguments):
            if next(calls) == number:
                die()
            return action(*arguments)

        return act

    if place == PLACES[0]:
        checkpoint_folder.torch = Replaced(torch, save=half(torch.save))
    elif place == PLACES[1]:
        files.os = Replaced(os, replace=before(os.replace))
    elif place == PLACES[2]:
        checkpoint_folder.CheckpointFolder.all = before(checkpoint_folder.CheckpointFolder.all)
    else:
        best_model.torch = Replaced(torch, save=half(torch.save))


class Replaced:
    """A module of which something is replaced."""

    def __init__(self, module, **replaced):
        self.module, self.replaced = module, replaced

    def __getattr__(self, name):
        return self.replaced[name] if name in self.replaced else getattr(self.module, name)


def train(root, settings, options):
    configs = [f"{settings['configs']}/{name}.json" for name in settings["names"]]
    workflow = monai.bundle.ConfigWorkflow(
        configs, workflow_type="train", logging_file=False, bundle_root=str(root), **settings["options"], **options
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def fork(log, place, work, *arguments):
    process = os.fork()
    if process == 0:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        code = 1
        try:
            if place is not None:
                kill_in_writing(*place)
            work(*arguments)
            code = 0
        except SystemExit as left:
            code = left.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def start(root, settings, options, place=None):
    """Start a training, of one process or of several."""
    if settings["processes"] == 1:
        return [fork(root / "log.txt", place, train, root, settings, options)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    os.environ["WORLD_SIZE"] = str(settings["processes"])
    processes = []
    for number in range(settings["processes"]):
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number)}
        processes.append(fork(root / f"log{number}.txt", None if number else place, train, root, settings, options))
    return processes


def wait(processes, until):
    """Their exit codes, -9 where they were killed; those that still run at some time are None.

    The others do not always notice that one has died, as when they wait for it to begin: they get some seconds.
    """
    codes = dict.fromkeys(processes)
    while None in codes.values() and time.monotonic() < until:
        for process in processes:
            if codes[process] is None:
                done, status = os.waitpid(process, os.WNOHANG)
                if done:
                    codes[process] = os.waitstatus_to_exitcode(status)
                    until = min(until, time.monotonic() + 3) if codes[process] < 0 else until
        time.sleep(0.005)
    return codes


def end(processes):
    """Kill what still runs."""
    for process in processes:
        os.kill(process, signal.SIGKILL)
    return wait(processes, time.monotonic() + 60)


def content(folder):
    """All that a training has left: the newest checkpoint, the best networks, their settings."""
    newest = max(folder.rglob("checkpoint*.pt"), key=lambda path: int(path.stem.split("=")[1]))
    tensors = {path.name: torch.load(path, weights_only=True) for path in [newest, *folder.glob("model*.pt")]}
    # folders, and what may be another in each part of a training
    options = tensors[newest.name]["settings"]["options"]
    tensors[newest.name]["settings"]["options"] = {key: options[key] for key in options.keys() - FREE}
    return tensors | {path.name: path.read_text() for path in folder.glob("*.json")}


def differences(first, second, where=""):
    """Where two contents differ, bit for bit."""
    if type(first) is not type(second):
        return [where]
    if isinstance(first, torch.Tensor):
        return [] if first.dtype == second.dtype and torch.equal(first, second) else [where]
    if isinstance(first, list | tuple):
        first, second = dict(enumerate(first)), dict(enumerate(second))
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [where]
        return [found for key in first for found in differences(first[key], second[key], f"{where}/{key}")]
    return [] if first == second else [where]


def stop(processes, kind, limit):
    """Let a training run for some time, and then end it: by a signal that saves, or by SIGKILL."""
    codes = wait(processes, time.monotonic() + limit)
    if None in codes.values() and kind in ("SIGTERM", "SIGINT"):
        # one process alone: the others must stop at the same iteration
        os.kill(max(process for process, code in codes.items() if code is None), getattr(signal, kind))
        codes |= wait([process for process in processes if codes[process] is None], time.monotonic() + 60)
    return codes | end([process for process in processes if codes[process] is None])


def run_whole(settings, root):
    """A training that nothing stops: what it leaves, and how long it takes."""
    root.mkdir()
    begin = time.monotonic()
    processes = start(root, settings, {"num_workers": settings["workers"][0]})
    codes = set(wait(processes, begin + 200).values())
    if codes != {0}:
        raise RuntimeError(f"{codes}: {[log.read_text()[-3000:] for log in root.glob('log*.txt')]}")
    return content(root / "models"), time.monotonic() - begin


def main(settings):
    rng = random.Random(settings["seed"])
    base = Path(settings["folder"])
    expected, duration = run_whole(settings, base / "whole")
    kinds = settings["kills"]
    rng.shuffle(kinds)
    result = {"killed": [], "stopped": [], "runs": 0, "differences": [], "left": []}
    root = base
    while kinds or root.exists():
        root = base / f"run{result['runs']}"
        root.mkdir(exist_ok=True)
        kind = kinds[0] if kinds else ""
        place = (kind, rng.randint(1, 3)) if kind in PLACES else None
        options = {"resume": True, "num_workers": rng.choice(settings["workers"])}
        processes = start(root, settings, options, place)
        # some before the training itself starts, some in its midst, in a validation or while it saves
        codes = stop(processes, kind, 200.0 if place or not kinds else rng.uniform(0.1, duration))
        if set(codes.values()) == {0}:
            # not stopped: what was to come, comes in the next training
            result["runs"] += 1
            result["differences"] += differences(expected, content(root / "models"))
            result["left"] += [path.name for path in root.rglob("*.tmp")]
            shutil.rmtree(root)
            rng.shuffle(kinds)
        elif kinds and (-signal.SIGKILL in codes.values() or kind.startswith("SIG")):
            result["stopped" if min(codes.values()) > 128 else "killed"].append(kinds.pop(0))
        else:
            raise RuntimeError(f"{codes}: {[log.read_text()[-3000:] for log in root.glob('log*.txt')]}")
    return {**result, "duration": duration}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
