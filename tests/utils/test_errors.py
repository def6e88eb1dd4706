# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import errno
import os
import signal
import sys

import pytest
from torch.utils.data import DataLoader, Dataset

from monai_mgca.utils import CheckpointError, DataError, explain_errors
from monai_mgca.utils.errors import OptionError, StorageError, first_cause
from monai_mgca.utils.files import replacing
from monai_mgca.utils.run_log import start_run_log, stop_run_log


@pytest.fixture
def last_words(monkeypatch, capsys):
    """What a program prints at its end when it fails with this error, with or without a log file."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)

    def words(error, log_file=None):
        explain_errors()
        if log_file is not None:
            start_run_log(log_file)
        sys.excepthook(type(error), error, error.__traceback__)
        stop_run_log()
        return capsys.readouterr().err

    return words


def wrapped(cause, times=2):
    """An error as MONAI's bundle raises it: the cause of the cause."""
    for _ in range(times):
        outer = RuntimeError("Failed to instantiate")
        outer.__cause__ = cause
        cause = outer
    return cause


@pytest.mark.parametrize("kind", [DataError, CheckpointError])
def test_the_cause_comes_first_and_the_traceback_is_in_the_log(last_words, kind, tmp_path):
    error = kind("no such table: a.csv")
    error.__cause__ = OSError("deeper")  # what a user needs is ours, not what lies below
    log = tmp_path / "eval" / "run.log"
    message = last_words(wrapped(error), log)
    assert message == f"error: no such table: a.csv\nThe traceback is at the end of {log}.\n"
    kept = log.read_text()
    assert "Failed to instantiate" in kept
    assert "OSError: deeper" in kept
    assert "no such table: a.csv" in kept


def test_without_a_log_the_traceback_follows(last_words, tmp_path):
    (tmp_path / "file").touch()
    for log in (None, tmp_path / "file" / "run.log"):  # no folder can be made there
        message = last_words(wrapped(DataError("no such table: a.csv")), log)
        assert message.startswith("error: no such table: a.csv\n")
        assert "Failed to instantiate" in message


def test_options_are_refused_before_there_is_a_log(last_words):
    assert last_words(OptionError("epochs must be a whole number, got 'x'.")).count("\n") == 1


def test_other_errors_name_their_kind(last_words, tmp_path):
    assert last_words(wrapped(KeyError("x")), tmp_path / "a.log").startswith("error: KeyError: 'x'\n")


def test_an_interrupt_is_no_error(last_words):
    assert last_words(KeyboardInterrupt()) == "interrupted\n"


@pytest.mark.parametrize(
    "text",
    [
        "[pair.cc:561] Connection closed by peer [127.0.0.1]:37587. Check the logs.",
        "[pair.cc:536] Read error: Connection reset by peer",
        "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.",
    ],
)
def test_a_process_that_lost_another_one_does_not_hide_its_message(last_words, monkeypatch, text):
    error = wrapped(RuntimeError(f"{text}\nmore"))
    assert last_words(error).startswith("error: ")  # one process has no other
    monkeypatch.setattr("monai_mgca.utils.dist.world_size", lambda: 2)
    message = last_words(error)
    assert message == f"Process 0 ends because it lost another one, which says the cause: {text}\n"
    assert "Traceback" not in message
    assert last_words(wrapped(DataError("mine"))).startswith("error: mine\n")


def test_are_value_errors():
    assert issubclass(DataError, ValueError)
    assert issubclass(CheckpointError, ValueError)


class Faulty(Dataset):
    """Its items fail, in a process of their own."""

    def __init__(self, fault):
        self.fault = fault

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if self.fault is signal.SIGKILL:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            try:
                raise OSError("below ours")
            except OSError as error:
                raise self.fault from error
        except Exception as error:
            raise RuntimeError("applying transform <a>") from error


def of_worker(fault):
    """The first cause of what a data loader raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        list(DataLoader(Faulty(fault), num_workers=1))
    return first_cause(wrapped(caught.value))


class TestWorkers:
    def test_killed(self):
        error = of_worker(signal.SIGKILL)
        assert "is killed by signal: Killed: a process that loads data was ended from outside" in str(error)
        assert "lower num_workers" in str(error)
        assert "--resume true" in str(error)

    def test_killed_while_torch_wrote_a_file(self, tmp_path):
        """The signal may come at any time; torch's writer then fails too, by an error of its own."""
        with pytest.raises(RuntimeError) as caught, replacing(tmp_path / "a.pt"):  # noqa: PT012
            try:
                raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")
            finally:
                raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 576 vs 470")
        message = str(first_cause(wrapped(caught.value)))
        assert message.startswith("DataLoader worker (pid 12) is killed by signal: Killed: a process that loads data")

    def test_ended_without_a_signal(self):
        error = RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly")
        error.__cause__ = KeyError()  # torch's is that its queue is empty
        assert str(first_cause(error)).startswith("DataLoader worker (pid(s) 12) exited unexpectedly: a process")

    @pytest.mark.parametrize("fault", [DataError("cannot read a.png:\nit is empty"), StorageError("cannot write b.pt")])
    def test_our_errors(self, fault):
        error = of_worker(fault)
        assert type(error) is type(fault)
        assert str(error) == str(fault)

    def test_other_errors(self):
        error = of_worker(FileNotFoundError("no a.png"))
        assert str(error) == "FileNotFoundError: no a.png"

    def test_an_error_without_a_message(self):
        text = "Caught MemoryError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        error = first_cause(MemoryError(f'{text}  File "a.py", line 1, in load\n    load()\nMemoryError\n'))
        assert str(error) == "MemoryError: without a message"

    def test_an_error_of_torch_alone(self):
        assert str(of_worker(RuntimeError("sizes differ"))).startswith("OSError: below ours")


class TestStorage:
    @pytest.mark.parametrize(
        ("code", "message"),
        [(errno.ENOSPC, "is full"), (errno.EDQUOT, "quota"), (errno.EROFS, "read-only"), (errno.EFBIG, "ulimit -f")],
    )
    def test_what_the_system_says_is_explained(self, last_words, code, message):
        text = last_words(wrapped(OSError(code, os.strerror(code), "models/a.pt")))
        first = text.splitlines()[0]
        assert first.startswith("error: cannot write models/a.pt: ")
        assert message in first
        assert first.endswith("--resume true.")
        assert "in ckpt_dir, output_dir or cache_dir" in str(first_cause(OSError(code, os.strerror(code))))

    def test_what_may_be_about_reading_is_left_alone(self):
        error = PermissionError(errno.EACCES, "Permission denied", "images/1.png")
        assert first_cause(wrapped(error)) is error

    def test_are_system_errors(self):
        assert issubclass(StorageError, OSError)
