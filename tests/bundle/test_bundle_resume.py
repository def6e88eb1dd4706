# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The learning rates of the config's schedule, and that a training that was interrupted goes on as if it was not."""

from __future__ import annotations

import json

import pytest
import torch
from ignite.engine import Events

from monai_mgca.utils import CheckpointError
from monai_mgca.utils.errors import first_cause

# of the scheduler package that the official code uses, as ../shared/goldens/lr_schedule.json: 5 steps, 2 of warmup
SHORT = [1e-08, 1.0005e-05, 2e-05, 1.5002499999999999e-05, 5.0075e-06]


def learning_rates(new_bundle, total, warmup, highest, lowest):
    """The learning rate of every step, by the config's own scheduler."""
    workflow = new_bundle().workflow(
        "train",
        total_steps=total,
        warmup_steps=warmup,
        learning_rate=highest,
        min_learning_rate=lowest,
        optimizer={"_target_": "torch.optim.SGD", "params": [torch.nn.Parameter(torch.zeros(1))], "lr": highest},
    )
    workflow.parser.parse(reset=True)
    optimizer, scheduler = (workflow.parser.get_parsed_content(name) for name in ("optimizer", "lr_scheduler"))
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


class TestSchedule:
    def test_short(self, new_bundle):
        assert learning_rates(new_bundle, 5, 2, 2e-5, 1e-8) == pytest.approx(SHORT, rel=1e-12, abs=1e-12)

    @pytest.mark.parametrize("case", range(3))
    def test_golden(self, new_bundle, shared, case):
        golden = json.loads((shared / "goldens" / "lr_schedule.json").read_text())[case]
        total = golden["total_steps"]
        rates = learning_rates(new_bundle, total, golden["warmup_steps"], golden["max_lr"], golden["min_lr"])
        # the official schedule starts again after its last step, which a training does not reach: see the next test
        assert rates == pytest.approx(golden["lr_used_at_step"][:total], rel=0, abs=1e-12)

    @pytest.mark.parametrize("case", range(3))
    def test_golden_with_its_restart(self, shared, case):
        """The config's two schedulers, as often as the golden needs them."""
        golden = json.loads((shared / "goldens" / "lr_schedule.json").read_text())[case]
        total, warmup, used = golden["total_steps"], golden["warmup_steps"], golden["lr_used_at_step"]
        highest, lowest = golden["max_lr"], golden["min_lr"]
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=highest)
        schedulers, milestones = [], []
        for start in range(0, len(used), total):
            schedulers += [
                torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=lowest / highest, total_iters=warmup),
                torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - warmup, eta_min=lowest),
            ]
            milestones += [start + warmup, start + total]
        scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, schedulers, milestones[:-1])
        rates = []
        for _ in used:
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert len(used) > total
        assert rates == pytest.approx(used, rel=0, abs=1e-12)

    def test_steps_of_a_training(self, new_bundle):
        workflow = new_bundle().workflow("train", epochs=5, warmup=0.4, cache="none")
        workflow.parser.parse(reset=True)
        assert workflow.parser.get_parsed_content("total_steps") == 20
        assert workflow.parser.get_parsed_content("warmup_steps") == 8


class InterruptedTrainingError(Exception):
    pass


def train(bundle, stop_after=None, **options):
    """Train, keeping the learning rate and the loss of every iteration; perhaps end it after some epoch."""
    workflow = bundle.workflow("train", **{"epochs": 4, "early_stopping_patience": 9, **options})
    workflow.initialize()
    parts = {
        "trainer": "train#trainer",
        "optimizer": "optimizer",
        "evaluator": "validate#evaluator",
        "early_stop": "train#early_stop",
        "network": "network_def",
    }
    run = {name: workflow.parser.get_parsed_content(path) for name, path in parts.items()}
    run["epochs"], run["rates"] = [], []
    trainer = run["trainer"]
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: run["epochs"].append(engine.state.epoch))

    # before the schedule's own handler, which is attached first, has moved on
    @trainer.on(Events.ITERATION_STARTED)
    def keep_rate():
        run["rates"].append(run["optimizer"].param_groups[0]["lr"])

    def interrupt(engine):
        if engine.state.epoch == stop_after:
            raise InterruptedTrainingError

    trainer.add_event_handler(Events.EPOCH_COMPLETED, interrupt)
    workflow.run()
    return run


def interrupted(bundle, **options):
    with pytest.raises(RuntimeError) as caught:
        train(bundle, stop_after=2, **options)
    assert isinstance(first_cause(caught.value), InterruptedTrainingError)


class TestResume:
    @pytest.fixture(scope="class")
    def whole(self, new_bundle):
        return train(new_bundle())

    @pytest.fixture(scope="class")
    def halves(self, new_bundle, first_half):
        bundle = new_bundle()
        bundle.take_models(first_half)
        state = torch.load(bundle.path("models", "checkpoint_iteration=8.pt"), weights_only=True)
        return state, train(bundle, resume=True), bundle

    @pytest.fixture(scope="class")
    def first_half(self, new_bundle):
        bundle = new_bundle()
        interrupted(bundle)
        return bundle

    @pytest.fixture
    def half(self, new_bundle, first_half):
        """What the interrupted training has left, for one test alone."""
        bundle = new_bundle()
        bundle.take_models(first_half)
        return bundle

    def test_starts_at_the_next_epoch(self, halves):
        assert halves[1]["epochs"] == [3, 4]
        assert halves[1]["trainer"].state.iteration == 16

    def test_learning_rates_go_on(self, whole, halves):
        assert len(whole["rates"]) == 16
        assert halves[1]["rates"] == whole["rates"][8:]

    def test_optimizer_goes_on(self, halves):
        steps = {int(state["step"]) for state in halves[1]["optimizer"].state.values()}
        assert steps == {16, 12}  # the prototypes were frozen for the first epoch

    def test_best_metric_survives(self, halves, new_bundle):
        state, run, _bundle = halves
        best = run["evaluator"].state.best_metric
        assert best <= state["progress"]["best_metric"]
        if run["evaluator"].state.best_metric_epoch <= 2:  # then the file of the first half is still the best
            assert best == state["progress"]["best_metric"]

    def test_early_stopping_goes_on(self, new_bundle):
        bundle = new_bundle()
        # an unbeatable best metric: every validation counts as one without improvement
        interrupted(bundle, learning_rate=1e-9, min_learning_rate=1e-10)
        path = bundle.path("models", "checkpoint_iteration=8.pt")
        state = torch.load(path, weights_only=True)
        state["progress"]["early_stop"].update(counter=2, best_score=10.0)
        state["progress"]["best_metric"], state["progress"]["best_metric_epoch"] = 0.0, 1
        torch.save(state, path)
        run = train(bundle, resume=True, early_stopping_patience=3, learning_rate=1e-9, min_learning_rate=1e-10)
        assert run["epochs"] == [3]  # the third validation without improvement ends it
        assert run["evaluator"].state.best_metric == 0.0

    def test_best_network_is_not_overwritten(self, half):
        bundle = half
        path = bundle.path("models", "checkpoint_iteration=8.pt")
        state = torch.load(path, weights_only=True)
        state["progress"]["best_metric"] = 0.0
        for saver in state["progress"]["savers"]:
            assert saver["_saved"]
            saver["_saved"] = [(10.0, name) for _, name in saver["_saved"]]
        torch.save(state, path)
        before = {name: bundle.path("models", name).read_bytes() for name in ("model.pt", "model_pretrain.pt")}
        train(bundle, resume=True)
        assert before == {name: bundle.path("models", name).read_bytes() for name in before}

    def test_without_a_checkpoint_it_starts(self, new_bundle):
        assert train(new_bundle(), resume=True, epochs=1)["epochs"] == [1]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"learning_rate": 1e-5}, "learning_rate 0.001, now 1e-05"),
            ({"warmup": 0.3, "weight_decay": 0.1}, "weight_decay 0.05, now 0.1; warmup 0.1, now 0.3"),
            ({"instance_temperature": 0.2, "pool_report": "cls"}, "pool_report mean, now cls; instance_temperature"),
            ({"freeze_report_encoder": True}, "freeze_report_encoder False, now True"),
            ({"optimizer#weight_decay": 0.3}, "its optimizer has weight_decay 0.05, now 0.3"),
            ({"lr_scheduler#schedulers#1#T_max": 3}, "its CosineAnnealingLR has T_max"),
            ({"lr_scheduler#milestones": [3]}, "its SequentialLR has _milestones"),
            ({"seed": 7, "batch_size": 4}, "batch_size 8, now 4"),
        ],
    )
    def test_options_that_it_would_not_obey_are_refused(self, first_half, options, message):
        with pytest.raises(RuntimeError) as caught:
            train(first_half, resume=True, **options)
        error = first_cause(caught.value)
        assert isinstance(error, CheckpointError)
        assert message in str(error)
        assert "--pretrained_path" in str(error)

    def test_more_epochs_stay_at_the_last_rate(self, new_bundle, captured_logs):
        """A cosine goes up again behind its end; a training that is continued there does not."""
        bundle = new_bundle()
        whole = train(bundle, epochs=2)
        with captured_logs() as log:
            longer = train(bundle, epochs=4, resume=True, num_workers=0, val_interval=2)
        assert longer["epochs"] == [3, 4]
        assert whole["rates"][0] < max(whole["rates"])
        assert set(longer["rates"]) == {1e-8}
        assert "planned for 2 epochs: those after it, up to 4, are trained at its last rate" in log.getvalue()
        assert set(train(bundle, epochs=5, resume=True)["rates"]) == {1e-8}  # the plan is still the first one's

    def test_epochs_are_changed_on_the_way(self, half, whole, captured_logs):
        """The schedule is what was planned, whatever is asked for."""
        with captured_logs() as log:
            rates = train(half, epochs=5, resume=True)["rates"]
        assert rates[:8] == whole["rates"][8:]
        assert set(rates[8:]) == {1e-8}
        assert "planned for 4 epochs" in log.getvalue()

    def test_another_architecture(self, half):
        bundle = half
        with pytest.raises(RuntimeError) as caught:
            train(bundle, resume=True, image_encoder="vit_compact")
        error = first_cause(caught.value)
        assert isinstance(error, CheckpointError)
        assert str(bundle.path("models", "checkpoint_iteration=8.pt")) in str(error)

    def test_a_broken_checkpoint(self, half, captured_logs):
        bundle = half
        paths = [bundle.path("models", f"checkpoint_iteration={done}.pt") for done in (4, 8)]
        paths[1].write_bytes(paths[1].read_bytes()[:1000])
        with captured_logs() as log:
            assert train(bundle, resume=True, epochs=2)["epochs"] == [2]
        message = f"The checkpoint {paths[1]} (BadZipFile: File is not a zip file) cannot be read"
        assert f"{message}: going on from the one before it, {paths[0]}." in log.getvalue()
        for path in paths:
            path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(RuntimeError) as caught:
            train(bundle, resume=True)
        error = first_cause(caught.value)
        assert isinstance(error, CheckpointError)
        assert all(str(path) in str(error) for path in paths)
        assert "delete" in str(error)
