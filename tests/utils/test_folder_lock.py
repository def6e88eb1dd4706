# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import signal
import sys
import time

import pytest

from monai_mgca.utils import folder_lock as claim
from monai_mgca.utils.errors import FolderInUseError
from monai_mgca.utils.folder_lock import LOCK, claim_folders, release_folders

fcntl = pytest.importorskip("fcntl", reason="the system has no such locks")

HOLD = """
import sys, time, pathlib
from monai_mgca.utils import claim_folders
claim_folders({"ckpt_dir": sys.argv[1], "output_dir": sys.argv[2]})
pathlib.Path(sys.argv[3]).touch()
time.sleep(240)
"""
TAKE = """
import sys
from monai_mgca.utils import claim_folders, explain_errors
explain_errors()
claim_folders({"ckpt_dir": sys.argv[1], "output_dir": sys.argv[2]})
print("taken")
"""


@pytest.fixture
def folders(tmp_path):
    given = {"ckpt_dir": tmp_path / "models" / "task", "output_dir": tmp_path / "eval"}
    yield given
    release_folders(given)


@pytest.fixture
def holder(folders, forks, tmp_path):
    """Another process that holds the folders."""
    ready = tmp_path / "ready"
    process = forks.start("-c", HOLD, *map(str, folders.values()), str(ready))
    end = time.monotonic() + 120
    while not ready.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    ready.unlink()
    yield process
    process.kill()
    process.wait()


def test_the_second_error_names_the_first_process(folders, holder, tmp_path):
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(FolderInUseError) as caught:
        claim_folders(folders)
    message = str(caught.value)
    assert message.startswith(f"ckpt_dir ({folders['ckpt_dir']}): another training writes there (host ")
    assert f", process {holder.pid}, since 20" in message
    assert "--ckpt_dir" in message
    assert sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()) == before


def test_one_folder_is_enough(folders, holder, tmp_path):
    with pytest.raises(FolderInUseError, match=r"^output_dir"):
        claim_folders({"ckpt_dir": tmp_path / "other", "output_dir": folders["output_dir"]})
    assert not (tmp_path / "other").exists()  # what was had before is given back
    (tmp_path / "link").symlink_to(folders["output_dir"])
    with pytest.raises(FolderInUseError, match=r"^output_dir"):
        claim_folders({"output_dir": tmp_path / "link"})


def test_a_program_ends_with_one_line(folders, holder, forks):
    done = forks.run("-c", TAKE, *map(str, folders.values()))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ckpt_dir")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_is_no_hindrance(folders, holder, number):
    os.kill(holder.pid, number)
    holder.wait()
    assert (folders["output_dir"] / LOCK).read_text()  # of the one that was killed
    claim_folders(folders)
    assert f"process {os.getpid()}" in (folders["output_dir"] / LOCK).read_text()


def test_nothing_is_left(folders, tmp_path, forks):
    claim_folders(folders)
    claim_folders(folders)  # the same process may, as in a notebook
    assert sorted(path.name for path in tmp_path.rglob(LOCK)) == [LOCK] * 2
    release_folders(folders)
    assert list(tmp_path.iterdir()) == []
    release_folders(folders)
    folders["ckpt_dir"].mkdir(parents=True)
    assert forks.run("-c", TAKE, *map(str, folders.values())).stdout == "taken\n"
    assert list(tmp_path.rglob("*")) == [tmp_path / "models", folders["ckpt_dir"]]


def test_a_folder_that_was_removed_in_between(folders, forks):
    claim_folders(folders)
    (folders["output_dir"] / LOCK).unlink()
    folders["output_dir"].rmdir()
    claim_folders(folders)
    assert forks.run("-c", TAKE, *map(str, folders.values())).returncode == 1


def test_processes_that_load_data_hold_nothing(folders, forks):
    """They live a while longer than one that was killed, and end without giving anything back."""
    claim_folders(folders)
    worker = multiprocessing.get_context("fork").Process(
        target=lambda: (release_folders(folders), claim._release_all())
    )
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert (folders["output_dir"] / LOCK).exists()
    assert forks.run("-c", TAKE, *map(str, folders.values())).returncode == 1
    sleeper = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    sleeper.start()
    try:
        release_folders(folders)
        assert forks.run("-c", TAKE, *map(str, folders.values())).stdout == "taken\n"
    finally:
        sleeper.kill()
        sleeper.join()


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "folder", "pipe"])
def test_what_is_no_lock_file_is_left_alone(folders, tmp_path, kind):
    victim, lock = tmp_path / "victim", folders["output_dir"] / LOCK
    folders["output_dir"].mkdir()
    if kind != "dangling link":
        victim.write_text("precious")
    if kind == "hard link":
        lock.hardlink_to(victim)
    elif kind == "folder":
        lock.mkdir()
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to(victim)
    with pytest.raises(FolderInUseError, match=re.escape(f"{lock} is a link or no file of its own: remove it.")):
        claim_folders(folders)
    assert (victim.read_text() if victim.exists() else "precious") == "precious"
    assert victim.exists() == (kind != "dangling link")
    assert not folders["ckpt_dir"].exists()


def test_a_link_that_comes_after_the_look(folders, tmp_path, monkeypatch, caplog):
    (tmp_path / "victim").write_text("precious")
    folders["output_dir"].mkdir()
    (folders["output_dir"] / LOCK).symlink_to(tmp_path / "victim")
    monkeypatch.setattr(claim.os.path, "lexists", lambda path: False)
    claim_folders(folders)  # the system refuses to open it
    assert (tmp_path / "victim").read_text() == "precious"
    assert "output_dir" in caplog.text
    assert "cannot be locked" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(folders, monkeypatch, caplog, number):
    def lockf(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(claim.fcntl, "lockf", lockf)
    claim_folders(folders)
    assert (
        f"cannot be locked ({os.strerror(number)}): a second training that writes there is not noticed" in caplog.text
    )


def test_a_system_without_locks(folders, monkeypatch, caplog):
    monkeypatch.setattr(claim, "fcntl", None)
    claim_folders(folders | {"output_dir": folders["output_dir"].parent})
    assert "cannot be locked (this system has no such locks)" in caplog.text


def test_a_place_that_cannot_be_a_folder(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    claim_folders({"ckpt_dir": tmp_path / "file", "output_dir": tmp_path / "file" / "eval"})  # check_folders reports it
    assert caplog.text == ""
    assert (tmp_path / "file").read_text() == ""


def test_control_characters_in_the_command(folders, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "a\x1b\n\udc80" + "x" * 1000])
    claim_folders(folders)
    assert len((folders["output_dir"] / LOCK).read_bytes()) == 500


HOLD_TOGETHER = """
import sys
import torch.distributed as dist
from monai_mgca.utils import claim_folders, explain_errors
dist.init_process_group("gloo")
explain_errors()
claim_folders({"ckpt_dir": sys.argv[1], "output_dir": sys.argv[2]})
"""


@pytest.mark.multiprocess
def test_all_processes_of_a_training_are_refused(folders, holder, forks):
    done = forks.run_together("-c", HOLD_TOGETHER, *map(str, folders.values()), processes=2)
    assert done.returncode == 1
    assert "ckpt_dir" in str(done.stdout) + str(done.stderr)
