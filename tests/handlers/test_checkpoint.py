# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.handlers import ValidationHandler

from monai_mgca.data import StreamDataset, StreamSampler
from monai_mgca.handlers import AlignmentLossHandler, BestModelSaver, EarlyStopOnKeyMetric, TrainingCheckpoint
from monai_mgca.handlers.resume.checkpoint_folder import CheckpointFolder
from monai_mgca.handlers.resume.held_schedule import HeldSchedule
from monai_mgca.utils import CheckpointError
from monai_mgca.utils.errors import StorageError


class Killed(Exception):  # noqa: N818  it stands for a signal
    pass


def run(toy, folder, epochs, resume=False, interval=0, kill_after=None, **options):
    """Train, perhaps until an iteration whose end nothing but the checkpoint has seen."""
    objects = {"network": toy.network, "optimizer": toy.optimizer}
    loss = AlignmentLossHandler(toy.loss, prefix="train_")
    trainer = toy.trainer(epochs, key_train_metric={"train_loss": loss}, **options)
    TrainingCheckpoint(folder, objects, metrics={"train_loss": loss}, interval=interval, resume=resume).attach(trainer)

    @trainer.on(Events.ITERATION_COMPLETED(once=kill_after or 10**9))
    def kill():
        raise Killed

    if kill_after is None:
        trainer.run()
    else:
        with pytest.raises(Killed):
            trainer.run()
    return trainer


def newest(folder):
    return max(folder.glob("checkpoint_iteration=*.pt"), key=lambda path: int(path.stem.split("=")[1]))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_keeps_the_last_two(make_toy, tmp_path):
    run(make_toy(), tmp_path, epochs=11)
    assert names(tmp_path) == ["checkpoint_iteration=30.pt", "checkpoint_iteration=33.pt"]


def test_keeps_two_where_the_newest_is_written_again(tmp_path):
    """As after a validation in which the training was killed."""
    first = CheckpointFolder(tmp_path)
    for iteration in (1, 2, 3):
        first.write({}, iteration)
    resumed = CheckpointFolder(tmp_path)
    resumed.read()
    resumed.write({}, 3)
    assert names(tmp_path) == ["checkpoint_iteration=2.pt", "checkpoint_iteration=3.pt"]


def test_resumed_training_equals_a_whole_one(make_toy, tmp_path):
    whole, parts = make_toy(), make_toy()
    run(whole, tmp_path / "whole", epochs=4)
    run(parts, tmp_path / "parts", epochs=2)
    other = make_toy(seed=1)  # its weights must all come from the file
    trainer = run(other, tmp_path / "parts", epochs=4, resume=True)
    assert (trainer.state.epoch, trainer.state.iteration) == (4, 12)
    for name, value in whole.network.state_dict().items():
        assert value.equal(other.network.state_dict()[name]), name


def test_holds_no_pickled_code(make_toy, tmp_path):
    run(make_toy(), tmp_path, epochs=1)
    state = torch.load(tmp_path / "checkpoint_iteration=3.pt", weights_only=True)
    assert state.keys() == {"network", "optimizer", "trainer", "progress", "settings", "processes"}


class Scaler(torch.amp.GradScaler):
    """torch's own, at work on the CPU, with a scale that grows all the time."""

    def __init__(self):
        super().__init__("cpu", init_scale=4.0, growth_interval=2)


def test_the_gradient_scaler_goes_on(make_toy, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", Scaler)
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: torch.enable_grad())
    whole = run(make_toy(), tmp_path / "whole", epochs=3, amp=True).scaler.state_dict()
    run(make_toy(), tmp_path / "parts", epochs=2, amp=True)
    assert run(make_toy(), tmp_path / "parts", epochs=3, resume=True, amp=True).scaler.state_dict() == whole
    assert whole["scale"] == 64


@pytest.mark.parametrize("before", ["without", "not at work"])
def test_mixed_precision_that_comes_or_goes_later(make_toy, tmp_path, monkeypatch, before):
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: torch.enable_grad())
    run(make_toy(), tmp_path, epochs=1, amp=before == "not at work")  # torch's, without a GPU
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", Scaler)
    assert run(make_toy(), tmp_path, epochs=2, resume=True, amp=True).scaler.state_dict()["scale"] > 4
    assert run(make_toy(), tmp_path, epochs=3, resume=True).state.epoch == 3


def test_nothing_to_resume_from(make_toy, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert run(make_toy(), tmp_path, epochs=1, resume=True).state.epoch == 1
    assert "training starts from the beginning" in caplog.text


def test_without_resume_starts_anew(make_toy, tmp_path):
    run(make_toy(), tmp_path, epochs=2)
    assert run(make_toy(), tmp_path, epochs=1).state.iteration == 3


def test_finished_training_is_not_trained_further(make_toy, tmp_path):
    toy = make_toy()
    run(toy, tmp_path, epochs=2)
    weight = toy.network.image.weight.detach().clone()
    run(toy, tmp_path, epochs=2, resume=True)
    assert toy.network.image.weight.equal(weight)


@pytest.mark.parametrize(("asked", "last"), [(1, 3), (3, 3), (4, 4)])
def test_fewer_epochs_than_are_done_are_told_right(caplog, asked, last):
    HeldSchedule(2 * asked, {}).resume(6, 12, SimpleNamespace(max_epochs=asked, epoch_length=2))
    assert f"planned for 6 epochs: it is not made shorter, and epoch {last} is the last one" in caplog.text


def damage(path, keep):
    content = path.read_bytes()
    keep = int(keep * len(content))
    path.write_bytes(content[:keep] if keep else content[:200] + bytes([content[200] ^ 255]) + content[201:])


def same(first, second):
    states = first.network.state_dict(), second.network.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


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


def test_a_folder_of_a_checkpoints_name_is_none(make_toy, tmp_path):
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


def test_other_architecture(make_toy, tmp_path):
    run(make_toy(embed_dim=6), tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match=r"does not fit this network.*without --resume"):
        run(make_toy(embed_dim=7), tmp_path, epochs=2, resume=True)


def with_loader(make_toy, number=14, seed=0):
    """A toy with dropout and a loader whose items come in another order in every epoch."""
    toy = make_toy(sizes=(1,) * number, seed=seed)
    items = [{key: value[0] for key, value in batch.items()} for batch in toy.batches]
    sampler = StreamSampler(items, seed=3)
    toy.batches = DataLoader(
        StreamDataset(Dataset(items), seed=3),
        batch_size=3,
        sampler=sampler,
        drop_last=True,
        generator=torch.Generator(),
    )
    toy.network.image = torch.nn.Sequential(torch.nn.Linear(16, 6), torch.nn.Dropout(0.3))
    toy.optimizer = torch.optim.AdamW(toy.network.parameters(), lr=0.01)
    return toy


class TestWithinAnEpoch:
    """Four iterations an epoch."""

    @pytest.mark.parametrize("accumulation", [1, 3])
    def test_killed_after_any_iteration(self, make_toy, tmp_path, accumulation):
        options = {"epochs": 3, "interval": 1, "accumulation_steps": accumulation}
        whole = with_loader(make_toy)
        torch.manual_seed(5)
        expected = run(whole, tmp_path / "whole", **options).state
        for iteration in range(accumulation, 12):
            toy = with_loader(make_toy)
            torch.manual_seed(5)
            run(toy, tmp_path / "killed", kill_after=iteration, **options)
            resumed = with_loader(make_toy, seed=1)
            state = run(resumed, tmp_path / "killed", resume=True, **options).state
            assert same(whole, resumed), iteration
            # also the mean loss of an epoch that was stopped in its midst, and the best of all epochs
            assert state.metrics == expected.metrics
            assert (state.best_metric, state.best_metric_epoch) == (expected.best_metric, expected.best_metric_epoch)
            assert state.iteration == 12
            for path in (tmp_path / "killed").iterdir():
                path.unlink()

    def test_saved_between_steps_alone(self, make_toy, tmp_path):
        for iteration, saved in ((1, []), (2, []), (3, [3]), (5, [3, 4]), (7, [4, 7])):
            run(with_loader(make_toy), tmp_path, 3, interval=1, kill_after=iteration, accumulation_steps=3)
            assert names(tmp_path) == [f"checkpoint_iteration={done}.pt" for done in saved]

    def test_interval(self, make_toy, tmp_path):
        run(with_loader(make_toy), tmp_path, 3, interval=3, kill_after=7)
        assert names(tmp_path) == ["checkpoint_iteration=4.pt", "checkpoint_iteration=7.pt"]

    def test_batches_are_not_loaded_in_vain(self, make_toy, tmp_path):
        run(with_loader(make_toy), tmp_path, 1, interval=1, kill_after=3)
        toy, seen = with_loader(make_toy), []
        data = toy.batches.dataset.dataset
        data.transform = lambda item: seen.append(1) or item
        run(toy, tmp_path, 1, interval=1, resume=True)
        assert len(seen) == 3

    def test_a_loader_that_cannot(self, make_toy, tmp_path, caplog):
        run(make_toy(), tmp_path, 1, interval=1, kill_after=2)
        run(make_toy(), tmp_path, 1, interval=1, resume=True)
        assert "cannot begin within an epoch" in caplog.text


def test_checkpoints_of_an_earlier_training(make_toy, tmp_path, caplog):
    run(make_toy(), tmp_path, epochs=4)
    run(make_toy(), tmp_path, epochs=1)
    assert "checkpoints of an earlier training" in caplog.text
    assert names(tmp_path) == ["checkpoint_iteration=3.pt"]
    assert run(make_toy(), tmp_path, epochs=2, resume=True).state.iteration == 6


def test_what_killed_trainings_left(make_toy, tmp_path):
    (tmp_path / "checkpoint_iteration=3.pt.77.tmp").write_bytes(b"half")
    (tmp_path / "notes.tmp").write_text("not ours")
    run(make_toy(), tmp_path, epochs=1)
    assert names(tmp_path) == ["checkpoint_iteration=3.pt", "notes.tmp"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"accumulation_steps": 2}, "accumulation_steps 1, now 2"),
        ({"number": 17}, "training items 14, now 17; iterations in an epoch 4, now 5"),
    ],
)
def test_another_training(make_toy, tmp_path, change, told):
    run(with_loader(make_toy), tmp_path, epochs=1)
    number = change.pop("number", 14)
    with pytest.raises(CheckpointError, match=f"{told}. Resume with the data and options"):
        run(with_loader(make_toy, number), tmp_path, epochs=2, resume=True, **change)


def test_other_images_of_the_same_number(make_toy, tmp_path):
    def train(images, **options):
        toy = make_toy()
        data = [{"image": image} for image in images]
        handler = TrainingCheckpoint(tmp_path, {"network": toy.network}, data=data, **options)
        return toy.trainer(options.get("resume", False) + 1, [handler]).run()

    train(["/one/a/1.png", "/one/b/1.png"])
    with pytest.raises(CheckpointError, match=r"another training: hash of the images' names .*, now "):
        train(["/one/a/1.png", "/one/c/1.png"], resume=True)
    with pytest.raises(CheckpointError):
        train(["/one/b/1.png", "/one/a/1.png"], resume=True)
    train(["/moved/to/a/1.png", "/moved/to/b/1.png"], resume=True)
    assert names(tmp_path) == ["checkpoint_iteration=3.pt", "checkpoint_iteration=6.pt"]


def test_early_stopping_had_ended_it(make_toy, tmp_path):
    _, stop = validated(make_toy(), tmp_path, epochs=9, patience=1, lr=10.0)
    done = newest(tmp_path)
    assert stop._handler.counter == 1
    assert done.name != "checkpoint_iteration=27.pt"
    validated(make_toy(seed=1), tmp_path, epochs=9, resume=True, patience=1)
    assert newest(tmp_path) == done
    # with more patience it goes on
    validated(make_toy(seed=1), tmp_path, epochs=9, resume=True, patience=100)
    assert newest(tmp_path).name == "checkpoint_iteration=27.pt"


def test_an_evaluation_without_a_training(make_toy, tmp_path):
    toy = make_toy()
    evaluator = toy.evaluator()
    toy.trainer(1, [TrainingCheckpoint(tmp_path, {"network": toy.network}, evaluator)])
    evaluator.run()
    assert names(tmp_path) == []


def test_killed_in_a_validation(make_toy, tmp_path):
    """What the validation decides, and the mean of the epoch's loss, are as if it had not been."""
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    expected, _ = validated(make_toy(), whole, epochs=3)
    with pytest.raises(Killed):
        validated(make_toy(), killed, epochs=3, kill_validation=2)
    state = torch.load(newest(killed), weights_only=True)
    assert state["trainer"] == {"iteration": 6, "unfinished": True}
    evaluator, _ = validated(make_toy(seed=1), killed, epochs=3, resume=True)
    assert evaluator.state.metrics == expected.state.metrics
    assert evaluator.state.best_metric == expected.state.best_metric
    assert names(killed) == names(whole)
    for name in names(whole):
        first, second = (torch.load(folder / name, weights_only=True) for folder in (whole, killed))
        assert repr(first) == repr(second)


def validated(toy, folder, epochs, resume=False, patience=100, lr=0.01, kill_validation=None):
    """A training with validation, a saver of the best network and early stopping."""
    toy.optimizer.param_groups[0]["lr"] = lr
    saver = BestModelSaver(
        str(folder), {"model": toy.network}, key_metric_filename="best.pt", key_metric_negative_sign=True
    )
    evaluator = toy.evaluator(
        [saver], key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)}, metric_cmp_fn=lambda new, best: new < best
    )
    stop = EarlyStopOnKeyMetric(evaluator, patience=patience, negative_sign=True)

    @evaluator.on(Events.ITERATION_COMPLETED)
    def kill():
        if evaluator.state.epoch == kill_validation:
            raise Killed

    objects = {"network": toy.network, "optimizer": toy.optimizer}
    checkpoint = TrainingCheckpoint(folder, objects, evaluator, [saver], stop, resume=resume)
    toy.trainer(epochs, [ValidationHandler(1, evaluator), stop, checkpoint]).run()
    return evaluator, stop


def test_resume_remembers_the_best_network(make_toy, tmp_path):
    toy = make_toy()
    evaluator, _ = validated(toy, tmp_path, epochs=3)
    best, content = evaluator.state.best_metric, (tmp_path / "best.pt").read_bytes()
    # a network of no use must neither become the best nor overwrite it
    path = newest(tmp_path)
    state = torch.load(path, weights_only=True)
    for value in state["network"].values():
        value.copy_(torch.randn(value.shape))
    torch.save(state, path)
    resumed, stop = validated(make_toy(seed=1), tmp_path, epochs=4, resume=True)
    assert resumed.state.best_metric == best
    assert resumed.state.best_metric_epoch == evaluator.state.best_metric_epoch
    assert (tmp_path / "best.pt").read_bytes() == content
    assert stop._handler.counter == 1
