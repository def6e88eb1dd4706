# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What official.json trains, with three channels and [CLS] apart from its position, is used as everything else is."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Events

from monai_mgca.apps import load_pretrained
from monai_mgca.networks import create_image_encoder
from monai_mgca.utils import CheckpointError
from monai_mgca.utils.errors import first_cause
from monai_mgca.weights import load_encoder, read_model_settings
from monai_mgca.weights.model_settings import add_settings

SIZE = 32
VIT = {"image_encoder": "vit_compact", "image_size": SIZE}
KERNELS, POSITION = "patch_embedding.patch_embeddings.weight", "cls_position"


def weights(bundle, name):
    return torch.load(bundle.path("models", name), weights_only=True)


@pytest.fixture(scope="module")
def recipe(new_bundle):
    """A bundle in which official.json has trained for two epochs."""
    bundle = new_bundle()
    bundle.run("train", "official", **VIT, epochs=2)
    return bundle


@pytest.fixture
def bundle(recipe, new_bundle):
    """A copy of it."""
    bundle = new_bundle()
    bundle.take_models(recipe)
    return bundle


def test_files_hold_all_apart(recipe):
    for name in ("model.pt", "model_pretrain.pt"):
        state = weights(recipe, name)
        assert state[f"image_encoder.backbone.{KERNELS}"].shape[1] == 3
        assert f"image_encoder.backbone.{POSITION}" in state
    settings = read_model_settings(recipe.path("models", "model.pt"))
    assert settings["in_channels"] == 3
    assert settings["official_quirks"]
    assert settings["pool_report"] == "cls"


def test_a_stopped_training_goes_on_to_the_same_weights(recipe, new_bundle):
    bundle = new_bundle()
    workflow = bundle.workflow("train", "official", **VIT, epochs=2)
    workflow.initialize()

    def stop(engine):
        raise InterruptedError

    workflow.parser.get_parsed_content("train#trainer").add_event_handler(Events.EPOCH_COMPLETED(once=1), stop)
    with pytest.raises(RuntimeError) as caught:
        workflow.run()
    assert isinstance(first_cause(caught.value), InterruptedError)
    bundle.run("train", "official", **VIT, epochs=2, resume=True)
    wanted, given = (weights(b, "model_pretrain.pt") for b in (recipe, bundle))
    assert wanted.keys() == given.keys()
    assert all(torch.equal(value, given[key]) for key, value in wanted.items())


def test_inference(bundle):
    images = bundle.data / "images"
    bundle.run("inference", kind="infer", dataset_dir=str(images), num_workers=0)
    with bundle.path("eval", "embeddings.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    model = load_pretrained(bundle.path("models", "model_pretrain.pt"), "cpu")
    wanted = model.embed_images([images / row[0] for row in rows[:5]])
    given = np.array([row[1:] for row in rows[:5]], dtype=float)
    torch.testing.assert_close(torch.from_numpy(given).float(), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("names", [("train", "evaluate"), ("train", "official", "evaluate")], ids="+".join)
def test_evaluation(bundle, names):
    workflow = bundle.run(*names)
    assert np.isfinite(workflow.parser.get_parsed_content("validate#evaluator").state.metrics["val_loss"])


@pytest.mark.parametrize("task", ["segmentation", "detection", "classification"])
def test_finetuning(bundle, task):
    bundle.run(f"train_{task}", num_workers=0, freeze_encoder=True, image_size=SIZE)
    state = weights(bundle, f"model_{task}.pt")
    (key,) = (key for key in state if key.endswith(KERNELS))
    assert torch.equal(state[key], weights(bundle, "model.pt")[f"image_encoder.backbone.{KERNELS}"])
    images = str(bundle.data / "images")
    bundle.run(f"inference_{task}", kind="infer", dataset_dir=images, num_workers=0)


def test_encoder_of_one_channel_takes_it(recipe):
    gray, rgb = (create_image_encoder("vit_compact", SIZE, in_channels=channels).eval() for channels in (1, 3))
    for encoder in (gray, rgb):
        load_encoder(encoder, recipe.path("models", "model_pretrain.pt"))
    image = torch.rand(2, 1, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(gray(image).tokens, rgb(image.expand(-1, 3, -1, -1)).tokens, rtol=0, atol=1e-4)


def test_training_without_the_overlay_starts_from_it(bundle):
    start = str(bundle.path("models", "model_pretrain.pt"))
    workflow = bundle.workflow("train", **VIT, in_channels=3, pretrained_path=start)
    workflow.initialize()
    state, held = workflow.parser.get_parsed_content("network_def").state_dict(), weights(bundle, "model_pretrain.pt")
    token, position = "image_encoder.backbone.cls_token", f"image_encoder.backbone.{POSITION}"
    assert torch.equal(state.pop(token), held[token] + held[position])
    assert position not in state
    assert all(torch.equal(value, held[key]) for key, value in state.items())


def test_gray_weights_are_refused_with_the_mend(new_bundle, tmp_path):
    bundle = new_bundle()
    workflow = bundle.workflow("train", **VIT)
    workflow.parser.parse(reset=True)
    torch.save(workflow.parser.get_parsed_content("network_def").state_dict(), tmp_path / "gray.pt")
    with pytest.raises(Exception) as caught:  # noqa: PT011
        bundle.workflow("train", "official", **VIT, pretrained_path=str(tmp_path / "gray.pt")).initialize()
    error = first_cause(caught.value)
    assert isinstance(error, CheckpointError)
    assert "1 of another shape" in str(error)
    assert "in_channels" in str(error)


def test_a_resnet50_resizes_and_its_settings_rebuild_it(new_bundle):
    quirk = {"network_def#image_encoder#official_resize": False}
    for given, (named, resizes) in {
        ("resnet50",): ("resnet50_official", True),
        ("resnet50_official",): ("resnet50_official", True),
        ("resnet50", *quirk): ("resnet50", False),
        ("resnet_tiny",): ("resnet_tiny", False),
        ("vit_compact",): ("vit_compact", None),
    }.items():
        options = {**VIT, "image_encoder": given[0], **{key: quirk[key] for key in given[1:]}}
        parser = new_bundle().workflow("train", "official", **options).parser
        parser.parse(reset=True)
        assert parser.get_parsed_content("model_settings")["image_encoder"] == named
        with torch.device("meta"):
            encoder = parser.get_parsed_content("network_def#image_encoder")
        assert getattr(encoder, "official_resize", None) == resizes
    settings = parser.get_parsed_content("model_settings")
    for named, resizes in (
        ("resnet50", False),
        ("resnet50_official", True),
    ):  # as its training was, also one from before
        bundle = new_bundle()
        bundle.path("models").mkdir()
        torch.save({}, bundle.path("models", "model_pretrain.pt"))
        add_settings(bundle.path("models", "model_pretrain.pt"), {**settings, "image_encoder": named})
        parser = bundle.workflow("train", "official", "evaluate").parser
        with torch.device("meta"):
            assert parser.get_parsed_content("network_def#image_encoder").official_resize is resizes
    workflow = new_bundle().workflow("train", **{**VIT, "image_encoder": "resnet50"})
    with torch.device("meta"):
        assert not workflow.parser.get_parsed_content("network_def#image_encoder").official_resize


def test_what_resizes_in_training_resizes_everywhere(new_bundle, tmp_path):
    """By the settings that weights carry; no step is needed for that, and images of 299 pixels take their time."""
    bundle, resize = new_bundle(), {"network_def#image_encoder#official_resize": True}
    parser = bundle.workflow("train", "official", **{**VIT, "image_encoder": "resnet_tiny"}, **resize).parser
    parser.parse(reset=True)
    network, images = parser.get_parsed_content("network_def").eval(), tmp_path / "images"
    bundle.path("models").mkdir()
    for name, part in (("model_pretrain.pt", network), ("model.pt", network.image_embedder())):
        torch.save(part.state_dict(), bundle.path("models", name))
        add_settings(bundle.path("models", name), parser.get_parsed_content("model_settings"))
    images.mkdir()
    for path in sorted((bundle.data / "images").iterdir())[:2]:
        shutil.copy(path, images)
    model = load_pretrained(bundle.path("models", "model_pretrain.pt"), "cpu")
    pixels = next(model.load_images(sorted(images.iterdir())))
    with torch.no_grad():
        larger = F.interpolate(pixels, size=(299, 299), mode="bilinear", align_corners=True)
        wanted = network.image_head(network.image_encoder.stages(larger)[-1].flatten(2).mean(2))
        assert model.network.encode_image(pixels)["image_tokens"].shape[1] == 361
    torch.testing.assert_close(model.network.image_embedder()(pixels), wanted, rtol=0, atol=1e-5)
    bundle.run("inference", kind="infer", dataset_dir=str(images), num_workers=0)
    with bundle.path("eval", "embeddings.csv").open(newline="") as file:
        given = torch.tensor([[float(value) for value in row[1:]] for row in csv.reader(file)])
    torch.testing.assert_close(given, wanted, rtol=0, atol=1e-5)
    finetuning = bundle.workflow("train_classification", num_workers=0)
    assert finetuning.parser.get_parsed_content("network_def").image_encoder.official_resize
