# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from ignite.metrics import EpochMetric

from monai_mgca.handlers import AlignmentLossHandler, BestModelSaver


def validate(toy, folder, times=1):
    saver = BestModelSaver(
        str(folder), {"model": toy.network}, key_metric_filename="best.pt", key_metric_negative_sign=True
    )
    evaluator = toy.evaluator([saver], key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)})
    for _ in range(times):
        with torch.no_grad():
            toy.network.image.weight.add_(0.1)
        evaluator.run()


def test_saves(make_toy, tmp_path):
    toy = make_toy()
    validate(toy, tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["best.pt"]
    state = torch.load(tmp_path / "new" / "best.pt", weights_only=True)
    assert state.keys() == toy.network.state_dict().keys()
    assert torch.equal(state["image.weight"], toy.network.image.weight)


def test_a_full_disk_leaves_the_last_best(make_toy, small_disk):
    folder = small_disk(1)
    validate(make_toy(), folder)
    content = (folder / "best.pt").read_bytes()
    (folder / "others").write_bytes(bytes(2**20 - len(content) - 40_000))
    toy = make_toy()
    toy.network.report = torch.nn.Embedding(20_000, 6)
    with pytest.raises((OSError, RuntimeError)):
        validate(toy, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["best.pt", "others"]
    assert (folder / "best.pt").read_bytes() == content


def test_a_validation_that_is_not_finite_never_counts(make_toy, tmp_path, caplog):
    toy = make_toy()
    saver = BestModelSaver(
        str(tmp_path), {"model": toy.network}, key_metric_filename="best.pt", key_metric_negative_sign=True
    )
    values = iter([float("nan"), 2.0, float("-inf"), 1.0])
    nothing = torch.zeros(1)
    metric = EpochMetric(lambda *_: next(values), lambda output: (nothing, nothing), check_compute_fn=False)
    evaluator = toy.evaluator([saver], key_val_metric={"val_loss": metric}, metric_cmp_fn=lambda new, best: new < best)
    saved = []
    for _ in range(4):
        evaluator.run()
        saved.append((tmp_path / "best.pt").stat().st_mtime_ns if (tmp_path / "best.pt").exists() else None)
    assert saved[0] is None
    assert saved[1] == saved[2] != saved[3]
    assert caplog.text.count("this network is not the best one") == 2


def test_what_killed_trainings_left(make_toy, tmp_path):
    for name in ("best.pt.77.tmp", "best.json.77.tmp", "best_other.pt.77.tmp"):
        (tmp_path / name).write_bytes(b"half")
    validate(make_toy(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "best_other.pt.77.tmp"]
