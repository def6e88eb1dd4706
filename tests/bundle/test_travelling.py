# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What is written with the weights describes them, whatever comes after: other trainings, moves, loading, overlays."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from contextlib import nullcontext

import pytest
import torch
from monai.bundle import create_workflow, load

from monai_mgca.apps import PhraseGrounder, load_pretrained, read_reference
from monai_mgca.apps.ground.ground_command import main as ground
from monai_mgca.handlers import best_model
from monai_mgca.utils import CheckpointError, files
from monai_mgca.utils.errors import first_cause
from monai_mgca.weights import read_model_settings
from monai_mgca.weights.model_settings import add_settings


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def bundle(new_bundle, trained):
    """A bundle of its own with the weights of the session's training."""
    bundle = new_bundle()
    bundle.take_models(trained.bundle)
    return bundle


def images(bundle):
    return sorted((bundle.data / "images").glob("*.png"))[:4]


class TestAnotherTrainingInTheFolder:
    """It ends before its first validation: the weights are those of the first one, and so are their settings."""

    @pytest.mark.parametrize(
        ("task", "options"),
        [
            ("", {"pool_report": "cls", "image_size": 48, "learning_rate": "1e-4x"}),
            ("", {"max_length": 24, "train#trainer#max_epochs": "many"}),
            ("_classification", {"classes": ["device", "effusion"], "train#trainer#max_epochs": "many"}),
            ("_segmentation", {"decoder": "unetr", "encoder": "vit_tiny", "train#trainer#max_epochs": "many"}),
        ],
    )
    def test_fails_before_its_first_validation(self, bundle, task, options):
        for name in (f"model{task}.pt", f"model{task}.json"):
            path = bundle.path("models", name)
            if not path.is_file():
                path.write_text("of an earlier training")
        before = snapshot(bundle.path("models"))
        with pytest.raises(Exception):  # noqa: B017, PT011
            bundle.run(f"train{task}", "official", **options) if not task else bundle.run(f"train{task}", **options)
        assert snapshot(bundle.path("models")) == before

    def test_killed_at_any_write(self, bundle, monkeypatch):
        """Between any two renames each file of weights comes with its own settings."""

        class Killed(BaseException):
            pass

        calls, limit = itertools.count(), 0

        def replace(source, target, real=files.os.replace):
            if next(calls) >= limit:
                raise Killed
            real(source, target)

        wanted = {name: 32 for name in ("model.pt", "model_pretrain.pt")}
        seen = set()
        for limit in range(9):
            calls = itertools.count()
            copy = shutil.copytree(bundle.root, bundle.root.with_name(f"copy{limit}"))
            saver = {
                "model_pretrain.pt": (torch.nn.Linear(2, 2), None),
                "model.pt": (torch.nn.Linear(3, 3), "model.json"),
            }
            with monkeypatch.context() as patch, pytest.raises(Killed) if limit < 3 else nullcontext():
                patch.setattr(files.os, "replace", replace)
                for name, (network, beside) in saver.items():
                    whole = best_model._WholeFile(copy / "models" / name, {"image_size": 99}, beside)
                    whole(network.state_dict(), name)
            for name in wanted:
                state = torch.load(copy / "models" / name, weights_only=True)
                new = "weight" in state
                assert read_model_settings(copy / "models" / name)["image_size"] == (99 if new else 32)
                seen.add((name, new))
            shutil.rmtree(copy)
        assert len(seen) == 4


class TestLoading:
    def test_bundle_load_of_the_training_is_refused_at_once(self, bundle):
        before = snapshot(bundle.root)
        with pytest.raises(Exception) as caught:  # noqa: PT011
            load(name="mgca", bundle_dir=str(bundle.root.parent))
        error = first_cause(caught.value)
        assert isinstance(error, CheckpointError)
        assert "workflow_type='inference'" in str(error)
        assert snapshot(bundle.root) == before

    @pytest.mark.parametrize("place", ["in it", "beside it", "in another bundle"])
    def test_bundle_load_for_inference_gives_every_tensor(self, bundle, new_bundle, monkeypatch, tmp_path, place):
        """Of the bundle that is named, wherever that is done: a network built for another takes a part of them only."""
        before = snapshot(bundle.root)
        monkeypatch.chdir(bundle.root if place == "in it" else tmp_path)
        if place == "in another bundle":
            other = new_bundle()
            other.take_models(bundle)
            add_settings(other.path("models", "model.pt"), {"image_encoder": "resnet_tiny", "hidden_dim": 8})
            monkeypatch.chdir(other.root)
        network = load(name="mgca", bundle_dir=str(bundle.root.parent), workflow_type="inference")
        state = torch.load(bundle.path("models", "model.pt"), weights_only=True)
        assert state.keys() == network.state_dict().keys()
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
        assert snapshot(bundle.root) == before

    @pytest.mark.parametrize("name", ["train", "train_segmentation", "train_classification", "train_detection"])
    def test_a_workflow_that_is_only_looked_at_writes_nothing(self, bundle, name):
        before = snapshot(bundle.root)
        options = {"bundle_root": str(bundle.root), "dataset_dir": str(bundle.data), "use_sample": True}
        options |= {"cache": "none", "batch_size": 8}
        config = str(bundle.path("configs", f"{name}.json"))
        workflow = create_workflow(config_file=config, workflow_type="train", **options)
        assert workflow.check_properties() == []
        assert snapshot(bundle.root) == before
        assert not bundle.path("eval").exists()


def test_works_from_anywhere_and_after_a_move(bundle, tmp_path, monkeypatch, caplog):
    """What was trained needs neither the place where it was trained nor the report encoder that was given then."""
    wanted = load_pretrained(bundle.path("models", "model_pretrain.pt"), "cpu").embed_texts(["left effusion"])
    shutil.copytree(bundle.path("models"), tmp_path / "moved" / "models")
    shutil.rmtree(bundle.path("models"))
    (tmp_path / "elsewhere").mkdir()
    for place, path in (("", "moved/models"), ("moved/models", "."), ("elsewhere", "../moved/models")):
        monkeypatch.chdir(tmp_path / place)
        model = load_pretrained(f"{path}/model_pretrain.pt", "cpu")
        assert torch.equal(model.embed_texts(["left effusion"]), wanted)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


class TestOwnPreprocessing:
    OWN = [
        {"_target_": "monai.transforms.NormalizeIntensityd", "keys": "image", "subtrahend": 100, "divisor": 50},
        {"_target_": "monai.transforms.Rotate90d", "keys": "image"},
    ]

    @pytest.fixture(scope="class")
    def own(self, new_bundle):
        bundle = new_bundle()
        workflow = bundle.run("train", **{"train#final_transforms": self.OWN})
        return bundle, workflow

    def test_all_do_what_the_validation_did(self, own):
        bundle, workflow = own
        checkpoint = bundle.path("models", "model_pretrain.pt")
        item = workflow.parser.get_parsed_content("validate#dataset")[0]["image"]
        path = workflow.parser.get_parsed_content("validate#data")[0]["image"]
        model = load_pretrained(checkpoint, "cpu")
        assert torch.equal(model.image_transform({"image": path})["image"].as_tensor(), torch.as_tensor(item))
        cases = (["inference"], "infer", "dataset"), (["train", "evaluate"], "train", "validate#dataset")
        for names, kind, dataset in cases:
            options = {"dataset_dir": str(bundle.data / "images")} if kind == "infer" else {"cache": "none"}
            other = bundle.workflow(*names, kind=kind, **options)
            other.parser.parse(reset=True)
            transform = other.parser.get_parsed_content(dataset).transform
            made = transform({"image": path, "report": "The heart is not enlarged."})["image"]
            assert torch.equal(torch.as_tensor(made).as_subclass(torch.Tensor), torch.as_tensor(item))

    def test_evaluation_without_the_overlay_gives_the_same_figures(self, own):
        bundle, _ = own
        figures = []
        for options in ({}, {"train#final_transforms": self.OWN}):
            workflow = bundle.run("train", "evaluate", **options)
            figures.append(workflow.parser.get_parsed_content("validate#evaluator").state.metrics)
        assert figures[0] == figures[1]

    def test_what_cannot_travel_is_reported_at_the_start_and_refused_later(self, new_bundle, captured_logs):
        bundle = new_bundle()
        own = [{"_target_": "monai.transforms.Lambdad", "keys": "image", "func": "$lambda x: x / 255"}]
        with captured_logs() as log:
            bundle.run("train", **{"train#final_transforms": own})
        assert log.getvalue().index("cannot travel") < log.getvalue().index("Finished epoch")
        with pytest.raises(CheckpointError, match="Lambdad"):
            load_pretrained(bundle.path("models", "model_pretrain.pt"))

    @pytest.mark.parametrize("task", ["segmentation", "detection", "classification"])
    def test_a_finetuning_that_prepares_images_in_another_way_says_so(self, own, bundle, task, captured_logs):
        for start, warned in ((own[0], True), (bundle, False)):
            weights = str(start.path("models", "model.pt"))
            with captured_logs() as log:
                workflow = bundle.workflow(f"train_{task}", pretrained_path=weights, cache="none")
                workflow.initialize()
                workflow.finalize()
            assert ("pretrained on images of other values: " in log.getvalue()) == warned, log.getvalue()

    @pytest.mark.parametrize("task", ["segmentation", "classification"])
    def test_finetuned_networks_too(self, new_bundle, task):
        bundle = new_bundle()
        masks = [{"_target_": "monai.transforms.CastToTyped", "keys": "label", "dtype": "$torch.float32"}]
        own = self.OWN[:1]
        options = {
            "train#final_transforms": own + masks if task == "segmentation" else own,
            "image_size": 64,
            "cache": "none",
        }
        workflow = bundle.run(f"train_{task}", **options)
        path = workflow.parser.get_parsed_content("validate#data")[0]["image"]
        wanted = workflow.parser.get_parsed_content("validate#dataset")[0]["image"]
        other = bundle.workflow(f"inference_{task}", kind="infer", dataset_dir=str(bundle.data / "images"))
        other.parser.parse(reset=True)
        made = other.parser.get_parsed_content("preprocessing")({"image": path})["image"]
        assert torch.equal(made.as_tensor(), wanted.as_tensor())


class TestReference:
    def test_is_of_the_training_images(self, trained):
        """What grounding compares with, without any image."""
        checkpoint = trained.bundle.path("models", "model_pretrain.pt")
        model, data = load_pretrained(checkpoint, "cpu"), trained.workflow.parser.get_parsed_content("train#data")
        kept, image = read_reference(checkpoint), data[3]["image"]
        wanted = PhraseGrounder(model, [item["image"] for item in data[:64]])(image, ["left effusion"])
        assert torch.equal(PhraseGrounder(model, kept)(image, ["left effusion"]), wanted)

    def test_own_data_need_no_sample(self, bundle, tmp_path, monkeypatch, capsys):
        """A model of one's own data is never held against images that code has drawn."""
        settings = {**read_model_settings(bundle.path("models", "model_pretrain.pt")), "use_sample": False}
        settings["report_encoder"] = settings["report_encoder"].rpartition("/")[2]
        for path in bundle.path("models").glob("model*.pt"):  # as if it were
            state = torch.load(path, weights_only=True)
            best_model._WholeFile(path, None, None)(state, "")
        bundle.path("models", "model.json").write_text(json.dumps(settings))
        monkeypatch.chdir(bundle.root)
        (bundle.root / "configs" / "metadata.json").touch()
        path = str(images(bundle)[0])
        question = ["--image", path, "--text", "left effusion", "--output", str(tmp_path / "out")]
        assert ground(question) == 2  # what was kept is of other weights
        assert "--dataset-dir" in capsys.readouterr().err
        assert ground([*question, "--dataset-dir", str(bundle.data)]) == 0
        assert ground(["--evaluate"]) == 2
        assert "--datalist" in capsys.readouterr().err
        assert not (bundle.root / "data").exists()

    def test_grounding_draws_nothing(self, bundle, tmp_path, monkeypatch):
        monkeypatch.chdir(bundle.root)
        before = snapshot(bundle.root)
        path = str(images(bundle)[0])
        assert ground(["--image", path, "--text", "left effusion", "--output", str(tmp_path / "out")]) == 0
        assert snapshot(bundle.root) == before
