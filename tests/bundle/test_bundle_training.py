# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import re

import pytest
import torch
from ignite.engine import Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


class TestFiles:
    def test_written(self, trained):
        models = {path.name.partition("-")[0] for path in trained.bundle.path("models").iterdir()}
        checkpoints = {f"checkpoint_iteration={4 * epoch}.pt" for epoch in (2, 3)}  # of three, two are kept
        beside = {"model.json", "report_encoder", "model_pretrain_reference.safetensors", "model_outliers.safetensors"}
        assert models == {"model.pt", "model_pretrain.pt"} | beside | checkpoints
        written = sorted(path.name.split(".")[0] for path in trained.bundle.path("eval").iterdir())
        assert written == ["events", "run"]

    def test_model_is_the_image_encoder_and_its_head(self, trained):
        state, network = (
            load(trained.bundle.path("models", "model.pt")),
            trained.workflow.parser.get_parsed_content("network_def"),
        )
        wanted = {key for key in network.state_dict() if key.startswith(("image_encoder.", "image_head."))}
        assert state.keys() == wanted

    def test_model_pretrain_holds_all(self, trained):
        network = trained.workflow.parser.get_parsed_content("network_def")
        whole, part = (load(trained.bundle.path("models", name)) for name in ("model_pretrain.pt", "model.pt"))
        assert whole.keys() == network.state_dict().keys()
        assert all(torch.equal(whole[key], part[key]) for key in part)  # both of the best epoch

    def test_checkpoints_load_without_pickle(self, trained):
        state = load(trained.bundle.path("models", "checkpoint_iteration=12.pt"))
        assert state["trainer"]["iteration"] == 12  # 36 studies: 4 batches of 8 an epoch
        assert set(state) >= {"network", "optimizer", "lr_scheduler", "trainer", "progress"}

    def test_settings(self, trained):
        settings = json.loads(trained.bundle.path("models", "model.json").read_text())
        assert settings["image_encoder"] == "resnet_compact"
        assert (settings["image_size"], settings["resize_size"], settings["hidden_dim"]) == (32, 37, 32)

    def test_summary_names_the_files(self, trained):
        summary = trained.log[trained.log.rindex("Written:") :]
        for name in ("model.pt", "model.json", "model_pretrain.pt", "checkpoint_iteration=12.pt"):
            assert str(trained.bundle.path("models", name)) in summary
        assert "events" in summary
        assert "(not written)" not in summary
        assert re.search(r"Best epoch \d.*: val_loss", trained.log)
        assert [line.split(":")[0] for line in trained.log.splitlines() if line.startswith("Epoch ")] == [
            f"Epoch {epoch}/3" for epoch in (1, 2, 3)
        ]


class TestTensorBoard:
    @pytest.fixture(scope="class")
    def events(self, trained):
        events = EventAccumulator(str(trained.bundle.path("eval")), size_guidance={"scalars": 0})
        return events.Reload()

    @pytest.mark.parametrize("name", ["loss", "instance_loss", "token_loss", "prototype_loss", "learning_rate"])
    def test_every_iteration(self, events, name):
        tags = [tag for tag in events.Tags()["scalars"] if tag.split("/")[-1] == name]
        assert len(tags) == 1, events.Tags()["scalars"]
        scalars = events.Scalars(tags[0])
        assert [scalar.step for scalar in scalars] == list(range(1, 13))
        assert all(scalar.value == scalar.value for scalar in scalars)

    def test_the_terms_add_up(self, events):
        values = {tag.split("/")[-1]: [s.value for s in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
        terms = zip(values["instance_loss"], values["token_loss"], values["prototype_loss"], strict=True)
        assert values["loss"] == pytest.approx([sum(t) for t in terms], rel=1e-5)

    @pytest.mark.parametrize(
        "name", ["val_mean_recall", "val_loss", "val_image_to_report_recall_at_1", "val_instance_loss"]
    )
    def test_every_validation(self, events, name):
        tags = [tag for tag in events.Tags()["scalars"] if tag.endswith(name.replace("@", "_")) or tag.endswith(name)]
        assert tags, events.Tags()["scalars"]
        assert len(events.Scalars(tags[0])) == 3


class TestDeterminism:
    def test_the_seed_decides(self, new_bundle):
        runs = [new_bundle() for _ in range(3)]
        for bundle, seed in zip(runs, (1, 1, 2), strict=True):
            bundle.run("train", seed=seed)
        first, again, other = (load(bundle.path("models", "model_pretrain.pt")) for bundle in runs)
        assert equal(first, again)
        assert not equal(first, other)


def test_prototypes_rest_in_the_first_epoch(new_bundle):
    workflow = new_bundle().workflow("train", epochs=2)
    workflow.initialize()
    network = workflow.parser.get_parsed_content("network_def")
    trainer = workflow.parser.get_parsed_content("train#trainer")
    # a forward pass in training brings the prototypes back to unit length: directions are compared
    seen = [network.prototypes.weight.detach().clone()]

    def look():
        seen.append(torch.nn.functional.normalize(network.prototypes.weight.detach(), dim=1))

    trainer.add_event_handler(Events.EPOCH_COMPLETED, look)
    workflow.run()
    torch.testing.assert_close(seen[1], seen[0], rtol=0, atol=1e-6)
    assert (seen[2] - seen[1]).abs().max() > 1e-4


def test_nothing_of_a_report_is_printed(new_bundle, canary_data, canaries, captured_logs, capfd):
    bundle = new_bundle()
    with captured_logs() as stream:
        bundle.run("train", dataset_dir=str(canary_data), cache="disk")
        bundle.run("train", "evaluate", dataset_dir=str(canary_data))
    output = stream.getvalue() + "".join(capfd.readouterr())
    assert "Finished epoch 1" in output  # the capture works
    for canary in canaries:
        assert canary.lower() not in output.lower()
        for path in bundle.path("eval").iterdir():
            assert canary.encode() not in path.read_bytes()


def test_what_killed_trainings_left_half_written_goes(new_bundle):
    bundle = new_bundle()
    models, output = bundle.path("models"), bundle.path("eval")
    left = [models / f"{name}.0123abcd.tmp" for name in ("model.pt", "model.json", "model_pretrain.pt")]
    left += [models / f"{name}.safetensors.0123abcd.tmp" for name in ("model_pretrain_reference", "model_outliers")]
    left += [models / "checkpoint_iteration=4.pt.0.tmp"]
    left.append(output / "quarantine.json.0123abcd.tmp")
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    bundle.run("train", outlier_images=2048)
    assert list(models.glob("*.tmp")) + list(output.glob("*.tmp")) == []
