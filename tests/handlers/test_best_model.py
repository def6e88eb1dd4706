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

import pytest
import torch

from monai_mgca.handlers import AlignmentLossHandler, BestModelSaver
from monai_mgca.handlers import best_model as module


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


def test_an_error_while_writing_leaves_the_last_best(make_toy, tmp_path, monkeypatch):
    validate(make_toy(), tmp_path)
    content = (tmp_path / "best.pt").read_bytes()

    def fail(state, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(module.torch, "save", fail)
    with pytest.raises(OSError, match="No space"):
        validate(make_toy(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]
    assert (tmp_path / "best.pt").read_bytes() == content


def test_what_killed_trainings_left(make_toy, tmp_path):
    for name in ("best.pt.77.tmp", "best.json.77.tmp", "best_other.pt.77.tmp"):
        (tmp_path / name).write_bytes(b"half")
    validate(make_toy(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "best_other.pt.77.tmp"]
