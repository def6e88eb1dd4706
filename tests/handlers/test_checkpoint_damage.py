# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are damaged, forbidden or missing: which one a training resumes from."""

from __future__ import annotations

import pytest
import torch

from monai_mgca.handlers.resume.checkpoint_folder import CheckpointFolder
from monai_mgca.utils import CheckpointError
from monai_mgca.utils.errors import StorageError

from .checkpoints import names, newest, run, same


def damage(path, keep):
    content = path.read_bytes()
    keep = int(keep * len(content))
    path.write_bytes(content[:keep] if keep else content[:200] + bytes([content[200] ^ 255]) + content[201:])


@pytest.mark.parametrize("keep", [0, 0.01, 0.99], ids=["one byte", "start", "all but the end"])
def test_damaged_file(make_toy, tmp_path, keep, caplog):
    whole = make_toy()
    run(whole, tmp_path, epochs=2)
    before, path = tmp_path / "checkpoint_iteration=3.pt", tmp_path / "checkpoint_iteration=6.pt"
    damage(path, keep)
    toy = make_toy(seed=1)
    assert run(toy, tmp_path, epochs=2, resume=True).state.iteration == 6
    assert caplog.text.count(f"The checkpoint {path}") == 1
    assert f"cannot be read: going on from the one before it, {before}" in caplog.text
    assert same(toy, whole)
    assert torch.load(path, weights_only=True)  # it was written again
    damage(before, keep)
    damage(path, keep)
    with pytest.raises(CheckpointError) as caught:
        run(make_toy(), tmp_path, epochs=3, resume=True)
    assert str(path) in str(caught.value)
    assert str(before) in str(caught.value)
    assert names(tmp_path) == [before.name, path.name]  # nothing is removed that might be saved


def zeros_in_the_middle(path):
    content = bytearray(path.read_bytes())
    begin = content.index(torch.load(path, weights_only=True)["network"]["image.weight"].numpy().tobytes())
    content[begin : begin + 8] = bytes(8)
    path.write_bytes(content)


def test_a_newest_checkpoint_of_any_length(tmp_path, caplog):
    folder = CheckpointFolder(tmp_path)
    for iteration in (1, 2):
        folder.write({"weights": torch.arange(8.0)}, iteration)
    whole = newest(tmp_path).read_bytes()
    for length in range(len(whole)):
        newest(tmp_path).write_bytes(whole[:length])
        caplog.clear()
        path, state = CheckpointFolder(tmp_path).read()
        assert path.name == "checkpoint_iteration=1.pt"
        assert state["weights"].equal(torch.arange(8.0))
        assert f"The checkpoint {newest(tmp_path)} (" in caplog.text
        assert f"before it, {path}" in caplog.text


def test_a_checkpoint_with_other_numbers(make_toy, tmp_path, caplog):
    run(make_toy(), tmp_path, epochs=2)
    zeros_in_the_middle(newest(tmp_path))
    assert run(make_toy(), tmp_path, epochs=3, resume=True).state.epoch == 3
    assert "checkpoint_iteration=6.pt (ValueError: " in caplog.text
    assert "is not as it was written" in caplog.text


@pytest.mark.parametrize("content", [{"weights": torch.zeros(2)}, torch.zeros(2)])
def test_a_file_that_is_no_checkpoint_of_a_training(make_toy, tmp_path, content):
    torch.save(content, tmp_path / "checkpoint_iteration=3.pt")
    with pytest.raises(CheckpointError, match=r"checkpoint_iteration=3.pt is no checkpoint of a training"):
        run(make_toy(), tmp_path, epochs=1, resume=True)


def test_a_folder_of_a_checkpoints_name_is_no_checkpoint(make_toy, tmp_path):
    (tmp_path / "checkpoint_iteration=99.pt").mkdir()
    run(make_toy(), tmp_path, epochs=1)
    assert run(make_toy(), tmp_path, epochs=2, resume=True).state.iteration == 6
    (tmp_path / "checkpoint_iteration=9.pt").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*iteration=9.pt: a folder has its name"):
        run(make_toy(), tmp_path, epochs=3, resume=True)


READ = """
import sys
from monai_mgca.handlers.resume.checkpoint_folder import CheckpointFolder
CheckpointFolder(sys.argv[1]).read()
"""


def test_a_forbidden_checkpoint_is_not_passed_over(tmp_path, forks, heeding_permissions):
    for iteration in (1, 2):
        CheckpointFolder(tmp_path).write({}, iteration)
    newest(tmp_path).touch()
    newest(tmp_path).chmod(0)
    done = forks.run("-c", READ, str(tmp_path), **heeding_permissions)
    assert f"The checkpoint {newest(tmp_path)} cannot be read (Permission denied)" in done.stderr
