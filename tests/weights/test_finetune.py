# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import copy
import json
import logging
import pickle

import pytest
import torch

from monai_mgca.networks import create_classifier, create_detector, create_image_encoder, create_segmenter
from monai_mgca.utils import CheckpointError
from monai_mgca.weights import find_pretrained, freeze_encoder, start_encoder
from monai_mgca.weights.encoder_weights import find_backbone

NETWORKS = {
    "segmenter": create_segmenter,
    "classifier": create_classifier,
    "detector": create_detector,
}


def make(kind, encoder):
    return NETWORKS[kind](encoder, num_classes=2, image_size=64)


def step(network, kind):
    """A training step; what the network gives has a gradient."""
    torch.manual_seed(1)
    image = torch.randn(2, 1, 64, 64)
    network.train()
    if kind == "detector":
        boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
        losses = network(list(image), [{"boxes": boxes, "labels": torch.zeros(1, dtype=torch.int64)}] * 2)
        loss = sum(losses.values())
    else:
        loss = network(image).square().mean()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    loss.backward()
    optimizer.step()


def encoder_state(network):
    """Copies of the encoder's tensors."""
    return {key: value.clone() for key, value in find_backbone(network).state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def features(network, kind, image):
    """What the rest of the network gets of the encoder."""
    caught = []
    body = find_backbone(network)
    last = body.norm if hasattr(body, "norm") else body.layer4
    handle = last.register_forward_hook(lambda module, args, output: caught.append(output.detach().clone()))
    with torch.no_grad():
        network(list(image) if kind == "detector" else image)
    handle.remove()
    return caught[0]


@pytest.mark.parametrize("kind", list(NETWORKS))
@pytest.mark.parametrize("encoder", ["resnet_compact", "vit_compact"])
class TestFrozen:
    def test_bit_equal_after_training(self, kind, encoder):
        """Tensors, batch norm's too, and features; the rest of the network learns."""
        network, image = make(kind, encoder), torch.randn(2, 1, 64, 64)
        seen = features(network.eval(), kind, image)
        assert freeze_encoder(network) == len(find_backbone(network).state_dict())
        before, rest = encoder_state(network), [p.clone() for p in network.parameters() if p.requires_grad]
        step(network, kind)
        assert equal(encoder_state(network), before)
        assert torch.equal(features(network.eval(), kind, image), seen)
        learned = [p for p in network.parameters() if p.requires_grad]
        assert any(not torch.equal(one, other) for one, other in zip(learned, rest, strict=True))

    def test_differs_where_it_is_not_frozen(self, kind, encoder):
        network, image = make(kind, encoder), torch.randn(2, 1, 64, 64)
        seen, before = features(network.eval(), kind, image), encoder_state(network)
        step(network, kind)
        assert not equal(encoder_state(network), before)
        assert not torch.equal(features(network.eval(), kind, image), seen)


COPIES = {
    "copied": copy.deepcopy,
    "pickled": lambda network: pickle.loads(pickle.dumps(network)),
    "compiled": lambda network: torch.compile(network, backend="eager"),
}


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("encoder", ["resnet_compact", "vit_compact"])
def test_copies_are_frozen_too(encoder, make_copy):
    network = create_segmenter(encoder, num_classes=1, image_size=64)
    freeze_encoder(network)
    network = make_copy(network)
    before = encoder_state(getattr(network, "_orig_mod", network))
    step(network, "segmenter")
    assert equal(encoder_state(getattr(network, "_orig_mod", network)), before)


@pytest.mark.parametrize("encoder", ["resnet_compact", "vit_compact"])
def test_a_frozen_network_exports(encoder):
    network, image = create_segmenter(encoder, num_classes=1, image_size=64).eval(), torch.randn(1, 1, 64, 64)
    expected = network(image)
    freeze_encoder(network)
    exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image), expected, rtol=1e-4, atol=1e-4)


def test_features_of_a_frozen_encoder_are_bit_equal_in_training_mode():
    network = create_segmenter("resnet_compact", num_classes=1, image_size=64)
    image = torch.randn(2, 1, 64, 64)
    expected = network.eval().encoder(image)
    freeze_encoder(network)
    step(network, "segmenter")
    found = network.train().encoder(image)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not any(feature.requires_grad for feature in found)  # so nothing is kept for a backward pass


def test_dropout_rests():
    network = create_classifier("vit_compact", num_classes=2, image_size=64)
    find_backbone(network).patch_embedding.dropout.p = 0.9
    freeze_encoder(network)
    image = torch.randn(2, 1, 64, 64)
    assert torch.equal(network.train()(image), network(image))


class TestStart:
    def test_reports_what_moved(self, caplog, tmp_path):
        source = create_image_encoder("resnet_compact")
        path = tmp_path / "model.pt"
        torch.save(source.state_dict(), path)
        network = create_segmenter("resnet_compact", num_classes=1, image_size=64)
        with caplog.at_level(logging.INFO):
            start_encoder(network, path)
        assert f"{len(source.state_dict())} tensors moved, frozen" in caplog.text
        assert not any(p.requires_grad for p in find_backbone(network).parameters())

    def test_random_weights_are_said(self, caplog):
        with caplog.at_level(logging.INFO):
            start_encoder(create_segmenter("resnet_compact", 1, 64), None, freeze=False)
        assert "random weights" in caplog.text

    def test_another_architecture_is_refused(self):
        with pytest.raises(CheckpointError, match="resnet"):
            start_encoder(create_segmenter("vit_compact", 1, 64), create_image_encoder("resnet_compact").state_dict())


class TestFindPretrained:
    def test_none_where_there_is_no_file(self, tmp_path):
        assert find_pretrained(tmp_path / "model.pt") is None

    @pytest.mark.parametrize(
        ("learned_from_sample", "use_sample", "found"), [(1, 1, 1), (1, 0, 0), (0, 1, 1), (0, 0, 1)]
    )
    def test_the_sample_is_no_start_for_own_data(self, tmp_path, learned_from_sample, use_sample, found):
        path = tmp_path / "model.pt"
        path.write_bytes(b"x")
        (tmp_path / "model.json").write_text(json.dumps({"use_sample": bool(learned_from_sample)}))
        assert (find_pretrained(path, bool(use_sample)) == str(path)) == bool(found)
