# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import errno
import os
import stat
import threading

import pytest
import torch

from monai_mgca.utils import read_settings, write_settings
from monai_mgca.utils.errors import StorageError
from monai_mgca.utils.files import replacing


def test_round_trip(tmp_path):
    path, settings = tmp_path / "new" / "model.json", {"image_size": 64, "name": "vit", "layers": None}
    write_settings(path, settings)
    assert read_settings(path) == settings
    assert read_settings(str(path)) == settings


def test_no_file_is_no_settings(tmp_path):
    assert read_settings(tmp_path / "none.json") == {}


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.json"
    write_settings(path, {"a": 1})
    with pytest.raises(TypeError):
        write_settings(path, {"a": object()})
    assert read_settings(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["model.json"]


class TestNoRoom:
    @pytest.fixture
    def fails(self, small_files, tmp_path):
        def check(write):
            path = tmp_path / "a.bin"
            path.write_bytes(b"old")
            with small_files(), pytest.raises(StorageError) as caught, replacing(path) as temporary:
                write(temporary)
            assert f"cannot write {path}: it would be larger" in str(caught.value)
            assert path.read_bytes() == b"old"
            assert [p.name for p in path.parent.iterdir()] == [path.name]

        return check

    def test_bytes(self, fails):
        fails(lambda path: path.write_bytes(bytes(100_000)))

    def test_tensors(self, fails):
        def write(path):
            with path.open("wb") as file:
                torch.save({"a": torch.zeros(100_000)}, file)

        fails(write)

    def test_settings(self, small_files, tmp_path):
        with small_files(), pytest.raises(StorageError, match=r"a\.json"):
            write_settings(tmp_path / "a.json", {"a": "b" * 100_000})


def test_what_is_about_another_file_is_left_alone(tmp_path):
    other = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "images/1.png")
    with pytest.raises(PermissionError) as caught, replacing(tmp_path / "a.json"):
        raise other
    assert caught.value is other


def test_no_permission_for_the_file_itself(tmp_path):
    """As the system says it of a folder that became read-only; a process without the rights of root: test_folders."""
    with pytest.raises(StorageError, match=r"cannot write .*a\.json: you have no permission"):  # noqa: SIM117
        with replacing(tmp_path / "a.json") as temporary:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(temporary))


def test_other_errors_are_left_alone(tmp_path):
    with pytest.raises(RuntimeError, match="mine"), replacing(tmp_path / "a.json"):
        raise RuntimeError("mine")


def test_two_writers_of_one_file(tmp_path):
    """As two containers, whose processes have the same numbers, that fill one cache."""
    path, both, errors = tmp_path / "item.pt", threading.Barrier(2), []

    def write(value):
        try:
            with replacing(path) as temporary, temporary.open("wb") as file:
                both.wait(10)
                torch.save(torch.full((10_000,), value), file)
                both.wait(10)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(value,)) for value in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(torch.load(path, weights_only=True).unique()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["item.pt"]


def test_a_file_system_that_cannot_bring_folders_to_the_disk(tmp_path, monkeypatch):
    """As some network and user-space file systems: the file is there, and the training goes on."""
    synced = []

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        synced.append(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(tmp_path / "a.bin", sync=True) as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert len(synced) == 1


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "a.json") as temporary:
        temporary.write_text("")
