# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The bundle in federated learning, by MONAI's own client: sites without weights, and what they get and send."""

from __future__ import annotations

import json

import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from monai_mgca.utils import CheckpointError
from monai_mgca.utils.errors import first_cause

SMALL = {"image_size": 32, "max_length": 40, "hidden_dim": 32, "num_prototypes": 16, "batch_size": 8}
TASKS = ("segmentation", "detection", "classification")


@pytest.fixture
def site(new_bundle):
    """Makes clients with MONAI's defaults, in a new folder each; the evaluation is given no sizes."""
    clients = []

    def make(bundle=None, train=SMALL, **options):
        bundle = bundle or new_bundle()
        place = {"dataset_dir": str(bundle.data), "use_sample": True, "num_workers": 0}
        place |= {"device": "$torch.device('cpu')"}
        options = {"train_kwargs": {**place, **train}, "eval_kwargs": dict(place), **options}
        client = MonaiAlgo(bundle_root=str(bundle.root), **options)
        clients.append(client)
        client.initialize({ExtraItems.CLIENT_NAME: "site"})
        return client

    yield make
    for client in clients:
        client.finalize()


def sent(client, seed=0):
    """What a server sends: the weights of a network of the same sizes, moved a little."""
    torch.manual_seed(seed)
    network = (client.trainer or client.evaluator).network
    moved = {k: v + 0.01 * torch.randn_like(v) if v.is_floating_point() else v for k, v in network.state_dict().items()}
    return ExchangeObject(weights={k: v.numpy() for k, v in moved.items()}, weight_type=WeightType.WEIGHTS)


def test_rounds_of_a_new_site(site, new_bundle):
    bundle = new_bundle()
    client = site(bundle)
    assert not bundle.path("models", "model_pretrain.pt").exists()
    first = sent(client)
    metrics = dict(client.evaluate(first).metrics)
    assert {"val_loss", "val_mean_recall"} <= metrics.keys()
    state = client.evaluator.network.state_dict()
    assert all(torch.equal(torch.from_numpy(value), state[key]) for key, value in first.weights.items())
    for epoch in (1, 2):
        client.train(first)
        assert client.trainer.state.epoch == epoch
        change = client.get_weights()
        assert change.weight_type == WeightType.WEIGHT_DIFF
        assert change.weights.keys() == first.weights.keys()
        assert any(value.any() for value in change.weights.values())
        weights = {key: torch.from_numpy(value) + change.weights[key] for key, value in first.weights.items()}
        first = ExchangeObject(weights={key: value.numpy() for key, value in weights.items()})
    assert client.evaluate(first).metrics["val_loss"] != metrics["val_loss"]


def test_what_it_measures_is_what_an_evaluation_measures(site, new_bundle):
    client, bundle = site(), new_bundle()
    weights = sent(client)
    metrics = dict(client.evaluate(weights).metrics)
    bundle.run("train", image_encoder="resnet_compact")  # as the site's
    path = bundle.path("models", "model_pretrain.pt")
    workflow = bundle.workflow("train", "evaluate", num_workers=0)
    workflow.initialize()
    assert path.is_file()
    network = workflow.parser.get_parsed_content("network_def")
    network.load_state_dict({key: torch.from_numpy(value) for key, value in weights.weights.items()})
    workflow.run()
    assert workflow.parser.get_parsed_content("validate#evaluator").state.metrics["val_loss"] == metrics["val_loss"]


@pytest.mark.parametrize("task", TASKS)
def test_finetuning_of_a_new_site(site, task):
    configs = [f"configs/{kind}_{task}.json" for kind in ("train", "evaluate")]
    size = {"image_size": 64, "batch_size": 8}
    client = site(train=size, config_train_filename=configs[0], config_evaluate_filename=configs)
    weights = sent(client)
    assert client.evaluate(weights).metrics
    client.train(weights)
    assert client.get_weights().weights.keys() == weights.weights.keys()


def test_weights_of_another_network_in_the_folder_do_not_matter(site, new_bundle):
    bundle = new_bundle()
    bundle.run("train", image_encoder="vit_compact", num_prototypes=8)
    client = site(bundle)
    assert client.evaluate(sent(client)).metrics


def test_the_training_of_the_overlay(site):
    configs = ["configs/train.json", "configs/official.json"]
    client = site(
        config_train_filename=configs, config_evaluate_filename=[*configs, "configs/evaluate.json"],
        train={**SMALL, "image_encoder": "vit_compact"},
    )  # fmt: skip
    assert client.evaluate(sent(client)).metrics


def test_a_site_that_only_evaluates(site, trained, new_bundle):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        site(config_train_filename=None)
    error = first_cause(caught.value)
    assert isinstance(error, CheckpointError)
    assert "give MonaiAlgo the training's config too" in str(error)
    bundle = new_bundle()
    bundle.take_models(trained.bundle)
    client = site(bundle, config_train_filename=None)
    assert client.evaluate(sent(client)).metrics


def test_a_site_that_asks_for_the_weights_in_its_folder(site, trained, new_bundle):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        site(disable_ckpt_loading=False)
    assert "There is no checkpoint file" in str(first_cause(caught.value))
    bundle = new_bundle()
    bundle.take_models(trained.bundle)
    client = site(bundle, disable_ckpt_loading=False)
    held = torch.load(bundle.path("models", "model_pretrain.pt"), weights_only=True)
    assert all(torch.equal(value, held[key]) for key, value in client.evaluator.network.state_dict().items())


def test_what_a_site_hands_out(site, new_bundle):
    bundle = new_bundle()
    (bundle.root / "configs" / "filters.json").write_text(
        json.dumps({"post_weight_filters": [{"_target_": "monai.fl.utils.filters.SummaryFilter"}]})
    )
    client = site(
        bundle, send_weight_diff=False, best_model_filepath="models/model_pretrain.pt",
        config_filters_filename="configs/filters.json",
    )  # fmt: skip
    names = client.trainer.network.state_dict().keys()
    assert client.get_weights().weights.keys() == names  # before any training
    best = {ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}
    with pytest.raises(ValueError, match="No best model checkpoint exists"):
        client.get_weights(best)
    client.train(sent(client))
    assert client.get_weights(best).weights.keys() == names
