# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import copy
import json
import logging
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from monai_mgca.handlers import SkipNonFiniteSteps
from monai_mgca.handlers.non_finite import read_quarantine
from monai_mgca.utils import DataError, leave_group
from monai_mgca.utils.errors import StorageError

ENTRIES = [{"image": f"images/{i}.png", "report": "never told", "patient": "nor this"} for i in range(12)]
BATCH = 2


class Net(nn.Module):
    """Batch norm keeps statistics, and the square root has an infinite gradient but a finite value at 0."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.last(self.norm(self.first(x)).relu()) + (self.scale * (x - 7).abs().sum()).sqrt()


def make_batches(bad=(), value=float("nan"), count=6):
    """Batches of two; those whose number is in ``bad`` hold a value that spoils loss or gradient."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for i in range(count):
        image, label = torch.rand(BATCH, 3, generator=generator), torch.rand(BATCH, 1, generator=generator)
        if i in bad:
            image = torch.where(torch.tensor([[False], [True]]), value, image) if value != 7 else image.fill_(7)
        batches.append({"image": image, "label": label, "index": torch.arange(BATCH * i, BATCH * i + BATCH)})
    return batches


def make_optimizer(network, kind="fused", lr=0.01):
    if kind == "sgd":
        return torch.optim.SGD(network.parameters(), lr=lr / 10, momentum=0.9)
    return torch.optim.AdamW(network.parameters(), lr=lr, fused=kind == "fused")


def train(batches, path=None, kind="fused", dtype=torch.float32, epochs=1, parts=1, max_in_a_row=3, lr=0.01):
    """Train by MONAI's trainer with the handler; gives network, optimizer, trainer."""
    network = Net().to(dtype)
    optimizer = make_optimizer(network, kind, lr)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=[{**b, "image": b["image"].to(dtype), "label": b["label"].to(dtype)} for b in batches],
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        train_handlers=[SkipNonFiniteSteps(ENTRIES, path, max_in_a_row)],
        accumulation_steps=parts,
        decollate=False,
    )
    try:
        trainer.run()
    except FloatingPointError as error:
        trainer.error = error
    return network, optimizer, trainer


def train_slowly(batches, kind="fused", dtype=torch.float32, parts=1):
    """The same by hand: before every step everything is copied, and put back where something is not finite."""
    network = Net().to(dtype)
    optimizer = make_optimizer(network, kind)
    for start in range(0, len(batches), parts):
        weights, state = copy.deepcopy(network.state_dict()), copy.deepcopy(optimizer.state_dict())
        good = True
        optimizer.zero_grad()
        for batch in batches[start : start + parts]:
            before = copy.deepcopy(network.state_dict())
            loss = nn.functional.mse_loss(network(batch["image"].to(dtype)), batch["label"].to(dtype))
            old = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
            (loss / parts).backward()
            if not (loss.isfinite() and all(p.grad.isfinite().all() for p in network.parameters())):
                good = False
                network.load_state_dict(before)  # the statistics of batch norm
                for parameter, grad in zip(network.parameters(), old, strict=True):
                    parameter.grad = grad
        if good:
            optimizer.step()
        else:
            optimizer.load_state_dict(state)
            kept = {name: value for name, value in network.state_dict().items() if "running" in name or "num" in name}
            network.load_state_dict({**weights, **kept})
    return network, optimizer


def assert_equal(found, expected):
    """Weights, running statistics and the state of the optimizer, bit by bit."""
    for (name, one), other in zip(found[0].state_dict().items(), expected[0].state_dict().values(), strict=True):
        assert torch.equal(one, other), name
        assert one.isfinite().all(), name
    for one, other in zip(found[0].parameters(), expected[0].parameters(), strict=True):
        state, wanted = found[1].state[one], expected[1].state[other]
        assert state.keys() == wanted.keys()
        assert all(torch.equal(torch.as_tensor(state[key]), torch.as_tensor(wanted[key])) for key in wanted)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "eval" / "quarantine.json"


class TestSteps:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("kind", ["fused", "plain", "sgd"])
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 7])
    def test_equal_to_a_slow_training_that_puts_everything_back(self, path, kind, value, dtype):
        batches = make_batches(bad=(2, 4), value=value)
        found = train(batches, path, kind, dtype)
        expected = train_slowly(batches, kind, dtype)
        assert_equal(found, expected)
        assert found[2].state.metrics["skipped_steps"] == 2

    @pytest.mark.parametrize(("dtype", "skipped"), [(torch.float32, 2), (torch.float64, 0)])
    def test_what_is_large_for_one_type_is_not_for_another(self, path, dtype, skipped):
        batches = make_batches(bad=(2, 4), value=1e38)
        found = train(batches, path, dtype=dtype)
        assert_equal(found, train_slowly(batches, dtype=dtype))
        assert found[2].state.metrics.get("skipped_steps", 0) == skipped
        assert path.exists() == bool(skipped)

    @pytest.mark.parametrize("kind", ["fused", "plain", "sgd"])
    def test_as_if_the_batch_had_never_been_there(self, path, kind):
        batches = make_batches(bad=(2,))
        assert_equal(train(batches, path, kind), train_slowly(batches[:2] + batches[3:], kind))

    @pytest.mark.parametrize("kind", ["fused", "plain"])
    def test_without_a_fault_nothing_changes(self, path, kind):
        found = train(make_batches(), path, kind)
        assert_equal(found, train_slowly(make_batches(), kind))
        assert not path.exists()
        assert "skipped_steps" not in found[2].state.metrics

    def test_the_first_step(self, path):
        assert_equal(train(make_batches(bad=(0,)), path, "plain"), train_slowly(make_batches()[1:], "plain"))

    def test_the_cases_are_what_they_claim(self):
        """7 gives a finite loss with a gradient that is not: both ways to fail are tested above."""
        network = Net()
        loss = network(make_batches(bad=(0,), value=7)[0]["image"]).sum()
        loss.backward()
        assert loss.isfinite()
        assert not network.scale.grad.isfinite()

    def test_a_learning_rate_that_breaks_the_network(self, path):
        """Provoked as it happens: one step with it, and nothing is finite any more."""
        network, optimizer, trainer = train(make_batches(), path, lr=1e30, max_in_a_row=4)
        assert "4 steps in a row" in str(trainer.error)
        # the first step was made, and what it left is still there to look at
        assert all(p.isfinite().all() and p.abs().max() > 1e29 for p in network.parameters())
        assert {int(state["step"]) for state in optimizer.state.values()} == {1}


class TestAccumulation:
    @pytest.mark.parametrize("kind", ["fused", "plain", "sgd"])
    @pytest.mark.parametrize("bad", [(2,), (3,), (2, 3), (5,)])
    def test_the_whole_step_is_skipped(self, path, kind, bad, caplog):
        batches = make_batches(bad)
        found = train(batches, path, kind, parts=2)
        assert_equal(found, train_slowly(batches, kind, parts=2))
        assert found[2].state.metrics["skipped_steps"] == 1
        assert "1 of 3 steps were skipped" in caplog.text

    @pytest.mark.parametrize("value", [float("nan"), 7])
    def test_only_the_batches_at_fault_are_listed(self, path, value):
        train(make_batches(bad=(2,), value=value), path, parts=3)
        assert read_quarantine(path) == {"images/4.png": 1, "images/5.png": 1}

    def test_an_epoch_that_ends_within_a_step(self, path):
        batches = make_batches(bad=(4,), count=5)
        found = train(batches, path, parts=2)
        assert found[2].state.metrics["skipped_steps"] == 1


class TestList:
    def test_those_most_often_at_fault_come_first(self, path):
        batches = make_batches(bad=(1, 4))
        batches[4]["index"] = torch.tensor([8, 3])
        train(batches, path, epochs=2)
        assert list(read_quarantine(path).items()) == [
            ("images/3.png", 4),
            ("images/2.png", 2),
            ("images/8.png", 2),
        ]
        assert [file.name for file in path.parent.iterdir()] == ["quarantine.json"]

    def test_holds_paths_alone(self, path):
        train(make_batches(bad=(1,)), path)
        text = path.read_text()
        assert json.loads(text) == {"images/2.png": 1, "images/3.png": 1}
        assert "never told" not in text
        assert "nor this" not in text

    def test_a_later_run_adds_to_it(self, path):
        for _ in range(2):
            train(make_batches(bad=(1,)), path)
        assert read_quarantine(path) == {"images/2.png": 2, "images/3.png": 2}

    @pytest.mark.parametrize("text", ["[1, 2]", "{}{", '{"a": "b"}', "12"])
    def test_another_file_of_this_name(self, path, text):
        path.parent.mkdir()
        path.write_text(text)
        with pytest.raises(DataError, match=r"quarantine\.json is not a list of images"):
            train(make_batches(), path)
        assert path.read_text() == text

    def test_items_that_are_not_collated(self, path):
        """As those of a detector."""
        batches = make_batches(bad=(1,))
        handler = SkipNonFiniteSteps(ENTRIES, path)
        network = Net()
        items = [[{key: value[i] for key, value in b.items()} for i in range(BATCH)] for b in batches]
        trainer = SupervisedTrainer(
            device="cpu",
            max_epochs=1,
            train_data_loader=items,
            network=network,
            optimizer=make_optimizer(network),
            loss_function=nn.MSELoss(),
            prepare_batch=lambda batch, *_, **__: tuple(torch.stack([i[k] for i in batch]) for k in ("image", "label")),
            train_handlers=[handler],
            decollate=False,
        )
        trainer.run()
        assert read_quarantine(path) == {"images/2.png": 1, "images/3.png": 1}

    def test_no_room_for_it(self, path, small_files, monkeypatch):
        train(make_batches(bad=(1,)), path)
        monkeypatch.setitem(ENTRIES[8], "image", "long" * 20_000)
        with small_files(), pytest.raises(StorageError, match=r"cannot write .*/quarantine\.json: it would be larger"):
            train(make_batches(bad=(4,)), path)
        assert read_quarantine(path) == {"images/2.png": 1, "images/3.png": 1}
        assert [file.name for file in path.parent.iterdir()] == ["quarantine.json"]

    def test_batch_without_places(self, path):
        batches = [{"image": b["image"], "label": b["label"]} for b in make_batches(bad=(1,))]
        with pytest.raises(ValueError, match="'index'"):
            train(batches, path)


class TestStop:
    def test_after_some_in_a_row(self, path):
        network, _, trainer = train(make_batches(bad=(2, 3, 4, 5)), path, max_in_a_row=3)
        text = str(trainer.error)
        assert "3 steps in a row" in text
        assert "iteration 5" in text
        assert str(path) in text
        assert "learning_rate" in text
        assert sorted(read_quarantine(path)) == [f"images/{i}.png" for i in range(4, 10)]
        assert_equal((network, trainer.optimizer), train_slowly(make_batches()[:2]))

    def test_good_steps_between_restart_the_count(self, path, caplog):
        with caplog.at_level(logging.WARNING):
            trainer = train(make_batches(bad=(0, 1, 3, 4)), path, max_in_a_row=3)[2]
        assert not hasattr(trainer, "error")
        assert trainer.state.epoch == 1
        assert trainer.state.iteration == 6
        assert "4 of 6 steps were skipped" in caplog.records[-1].getMessage()
        assert len(caplog.records) == 5

    def test_impossible_number(self, path):
        with pytest.raises(ValueError, match="max_in_a_row must be at least 1, got 0"):
            SkipNonFiniteSteps(ENTRIES, path, 0)


def work(folder: Path) -> None:
    """What one of several processes does, with its own batches; its results go to a file."""
    dist.init_process_group("gloo")
    results = {}
    for kind in ("fused", "plain", "in parts"):
        for value, bad in ((float("nan"), (2,) if dist.get_rank() == 1 else ()), (7, (4,))):
            batches = make_batches(bad, value)
            if dist.get_rank() == 0:
                batches = [{**batch, "index": batch["index"].flip(0) * 0 + i} for i, batch in enumerate(batches)]
            network = DistributedDataParallel(Net())
            if kind == "in parts":
                optimizer = ZeroRedundancyOptimizer(network.parameters(), torch.optim.AdamW, lr=0.01, fused=True)
            else:
                optimizer = make_optimizer(network, kind)
            path = folder / f"{kind}_{value}.json"
            trainer = SupervisedTrainer(
                device="cpu",
                max_epochs=1,
                train_data_loader=batches,
                network=network,
                optimizer=optimizer,
                loss_function=nn.MSELoss(),
                train_handlers=[SkipNonFiniteSteps(ENTRIES, path)],
                decollate=False,
            )
            trainer.run()
            state = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
            results[f"{kind}_{value}"] = {"state": state, "skipped": trainer.state.metrics["skipped_steps"]}
    torch.save(results, folder / f"{dist.get_rank()}.pt")
    leave_group(network, optimizer)


@pytest.mark.multiprocess
class TestTwoProcesses:
    """Gradients are averaged, so that one process's fault is in all of them."""

    @pytest.fixture(scope="class")
    def folder(self, forks, tmp_path_factory):
        folder = tmp_path_factory.mktemp("two")
        done = forks.run_together(__file__, str(folder), processes=2)
        assert done.returncode == 0, done.stderr[-3000:]
        return folder

    @pytest.mark.parametrize("kind", ["fused", "plain", "in parts"])
    @pytest.mark.parametrize("value", [float("nan"), 7])
    def test_all_skip_the_step(self, folder, kind, value):
        one, two = (torch.load(folder / f"{n}.pt", weights_only=True)[f"{kind}_{value}"] for n in (0, 1))
        assert one["skipped"] == two["skipped"] == 1
        for name, tensor in one["state"].items():
            assert tensor.isfinite().all()
            if "running" not in name:  # each process has its own statistics
                assert torch.equal(tensor, two["state"][name]), name
        # the first process lists for all, and only the one whose loss is at fault has something to list
        first = {} if value != 7 else {"images/4.png": 2}
        start = 4 if value != 7 else 8
        expected = {**first, f"images/{start}.png": 1, f"images/{start + 1}.png": 1}
        assert read_quarantine(folder / f"{kind}_{value}.json") == expected


class Scaler(torch.amp.GradScaler):
    """torch's own, with all it does on a GPU, on the CPU."""

    def __init__(self):
        super().__init__("cpu", init_scale=4.0)


@pytest.mark.parametrize("kind", ["fused", "plain"])
def test_gradient_scaler(path, kind, monkeypatch):
    """With a scaler, an overflow of the gradient is its own business; a bad loss is listed."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: torch.enable_grad())

    def run(batches):
        network = Net()
        trainer = SupervisedTrainer(
            device="cpu",
            max_epochs=1,
            train_data_loader=batches,
            network=network,
            optimizer=make_optimizer(network, kind),
            loss_function=nn.MSELoss(),
            train_handlers=[SkipNonFiniteSteps(ENTRIES, path)],
            decollate=False,
        )
        trainer.amp = True
        trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine, "scaler", Scaler()))
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: scales.append(engine.scaler.get_scale()))
        scales = []
        trainer.run()
        return network, trainer, scales

    network, trainer, scales = run(make_batches(bad=(2,), value=7))
    assert "skipped_steps" not in trainer.state.metrics
    assert not path.exists()
    assert scales == [4, 4, 2, 2, 2, 2]  # the scaler skipped that step

    network, trainer, _ = run(make_batches(bad=(2,)))
    assert trainer.state.metrics["skipped_steps"] == 1
    assert read_quarantine(path) == {"images/4.png": 1, "images/5.png": 1}
    expected, _, _ = run(make_batches()[:2] + make_batches()[3:])
    for one, other in zip(network.state_dict().values(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

    path.unlink()
    network, trainer, scales = run(make_batches(bad=range(6), value=7))
    assert scales == [2, 1, 0.5, 0.25, 0.125, 0.0625]
    assert trainer.state.metrics["skipped_steps"] == 4  # where the scale is 1 or less it is no overflow of the scaler's
    assert len(read_quarantine(path)) == 8
    assert all(torch.equal(one, two) for one, two in zip(network.parameters(), Net().parameters(), strict=True))


if __name__ == "__main__":
    work(Path(sys.argv[1]))
