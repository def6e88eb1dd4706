# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_mgca.utils.errors import StorageError
from monai_mgca.utils.free_space import check_folders, training_bytes

ROOT = Path(__file__).resolve().parents[2]


def test_looks_at_them_and_leaves_nothing(tmp_path):
    check_folders({"ckpt_dir": tmp_path / "a" / "b", "output_dir": str(tmp_path), "cache_dir": None}, needed=1)
    assert list(tmp_path.rglob("*")) == []


def test_a_file_in_its_place(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "models"):
        with pytest.raises(StorageError, match=r"ckpt_dir \(.*file.*\) is, or lies below, a file"):
            check_folders({"ckpt_dir": folder})


def test_not_enough_room(tmp_path):
    with pytest.raises(StorageError) as caught:
        check_folders({"ckpt_dir": tmp_path, "output_dir": tmp_path}, needed=2**60)
    assert str(caught.value).startswith(f"ckpt_dir ({tmp_path}) has ")
    assert "1099511627776 MiB" in str(caught.value)


def test_checkpoints_that_are_there_are_replaced(tmp_path, monkeypatch):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "checkpoint_iteration=4.pt").write_bytes(bytes(1000))
    (tmp_path / "model.pt").write_bytes(bytes(1000))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 50}))
    check_folders({"ckpt_dir": tmp_path}, needed=1050)
    with pytest.raises(StorageError):
        check_folders({"ckpt_dir": tmp_path}, needed=1051)


def test_no_permission(forks, tmp_path, heeding_permissions):
    code = (
        "import sys; from monai_mgca.utils.free_space import check_folders; check_folders({'output_dir': sys.argv[1]})"
    )
    tmp_path.chmod(0o555)
    try:
        done = forks.run("-c", code, str(tmp_path / "new"), **heeding_permissions)
    finally:
        tmp_path.chmod(0o755)
    assert done.returncode == 1
    assert f"output_dir: cannot write {tmp_path / 'new'}: you have no permission" in done.stderr


@pytest.mark.parametrize("frozen", [False, True])
def test_the_room_of_a_training_is_enough(tmp_path, frozen):
    """What is measured: two checkpoints of AdamW and a third that is written, and the network three times."""
    network = torch.nn.Sequential(torch.nn.Linear(200, 300), torch.nn.BatchNorm1d(300))
    network[0].requires_grad_(not frozen)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])
    network(torch.rand(2, 200)).sum().backward()
    optimizer.step()
    torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint.pt")
    torch.save(network.state_dict(), tmp_path / "model.pt")
    checkpoint, model = ((tmp_path / name).stat().st_size for name in ("checkpoint.pt", "model.pt"))
    assert 0.95 < training_bytes(network) / (3 * checkpoint + 3 * model) < 1.05
