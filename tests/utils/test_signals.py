# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch.utils.data import DataLoader

from monai_mgca.utils import leave_after_signal, signals
from monai_mgca.utils.signals import StopSignals, shield_workers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_noted_and_obeyed(number):
    before = signal.getsignal(number)
    with StopSignals() as stop:
        assert stop.received == 0
        os.kill(os.getpid(), number)
        assert stop.received == number
        os.kill(os.getpid(), number)  # the same wish on another way
    assert signal.getsignal(number) is before
    leave_after_signal()  # nobody has obeyed it
    stop.obey(number)
    with pytest.raises(SystemExit) as left:
        leave_after_signal()
    assert left.value.code == 128 + number
    leave_after_signal()  # once


def test_a_new_run_forgets():
    with StopSignals() as stop:
        stop.obey(signal.SIGTERM)
    with stop:
        assert stop.received == 0
    leave_after_signal()


def test_what_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.received == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_restores():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), StopSignals():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before


def test_not_in_another_thread():
    found = []

    def work():
        with StopSignals():
            found.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_worker_where_no_thread_can_wait_for_signals(monkeypatch):
    """As on macOS, and on Windows."""
    monkeypatch.setattr(signals, "_CAN_WAIT", False)
    for name in ("sigwaitinfo", "pthread_sigmask"):
        monkeypatch.delattr(signal, name)
    before, threads = signal.getsignal(signal.SIGINT), threading.active_count()
    loader = DataLoader(range(4), num_workers=1)
    shield_workers(loader)
    assert loader.multiprocessing_context is None
    try:
        loader.worker_init_fn(0)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert threading.active_count() == threads
    finally:
        signal.signal(signal.SIGINT, before)


def test_without_workers_nothing_is_done():
    loader = DataLoader(range(4))
    shield_workers(loader)
    assert loader.worker_init_fn is None
    assert loader.multiprocessing_context is None


@pytest.mark.parametrize("method", [None, "fork"])
def test_a_loader_gives_the_same(method):
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    loader = DataLoader(range(4), num_workers=1, multiprocessing_context=method)
    shield_workers(loader)
    assert torch.cat(list(loader)).tolist() == [0, 1, 2, 3]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


# a process that waits for a signal, with one beside it that does as the workers of a data loader do
PROGRAM = """
import os, runpy, signal, sys, time
from types import SimpleNamespace
module = runpy.run_path(sys.argv[1])
early = sys.argv[3] == "early"
ready, begun = os.pipe()
def work(loader):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as torch does
    if early:
        os.write(begun, b"7!")
        time.sleep(0.5)
    loader.worker_init_fn(7)
    if not early:
        os.write(begun, b"!")
    while True:
        time.sleep(0.01)
init = None if early else lambda number: os.write(begun, b"%d" % number)
loader = SimpleNamespace(num_workers=1, worker_init_fn=init, multiprocessing_context=None)
module["shield_workers"](loader)
with module["StopSignals"]() as signals:
    process = loader.multiprocessing_context.Process(target=work, args=(loader,))
    process.start()
    print(os.read(ready, 1) + os.read(ready, 1), flush=True)
    while not signals.received:
        time.sleep(0.01)
    print("noted", flush=True)
    time.sleep(1.1)
    print("worker", "lives" if process.is_alive() else "is gone", flush=True)
    if sys.argv[2] == "wait":
        time.sleep(60)
process.terminate()
process.join()
print("worker ended by", process.exitcode, flush=True)
"""


@pytest.mark.parametrize("early", ["early", "later"])
@pytest.mark.parametrize(("number", "twice"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)])
def test_whole_group(number, twice, early):
    """As of Ctrl-C: the worker lives until the work is over, and a second signal ends all at once."""
    arguments = [sys.executable, "-c", PROGRAM, signals.__file__, "wait" if twice else "go", early]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "b'7!'\n"
        os.killpg(process.pid, number)
        assert process.stdout.readline() == "noted\n"
        assert process.stdout.readline() == "worker lives\n"
        if twice:
            start = time.monotonic()
            os.kill(process.pid, number)
            assert process.wait() == -number
            assert time.monotonic() - start < 30
            os.killpg(process.pid, signal.SIGKILL)  # torch's workers look for their parent by themselves
        else:
            assert process.stdout.readline() == "worker ended by 0\n"
            assert process.wait() == 0
