# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks import convert_to_onnx

from monai_mgca.networks import create_classifier, create_image_encoder
from monai_mgca.weights import freeze_encoder, load_encoder
from monai_mgca.weights.encoder_weights import find_backbone

BACKBONES = ["resnet_compact", "resnet_tiny", "vit_compact"]


@pytest.mark.parametrize("encoder", BACKBONES)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_one_linear_layer_on_the_pooled_features(encoder, in_channels):
    network = create_classifier(encoder, num_classes=3, image_size=64, in_channels=in_channels).eval()
    image = torch.rand(2, in_channels, 64, 64)
    pooled = network.image_encoder(image).pooled
    torch.testing.assert_close(network(image), pooled @ network.head.weight.T + network.head.bias)
    assert sum(p.numel() for p in network.parameters()) - sum(
        p.numel() for p in network.image_encoder.parameters()
    ) == 3 * (pooled.shape[1] + 1)


@pytest.mark.parametrize("encoder", BACKBONES)
def test_takes_the_encoder_of_a_pretraining(encoder):
    source = create_image_encoder(encoder, 64)
    network = create_classifier(encoder, 2, 64)
    assert load_encoder(network, source.state_dict()) == len(source.state_dict())
    moved = find_backbone(network).state_dict()
    assert all(torch.equal(moved[key], value) for key, value in find_backbone(source).state_dict().items())


@pytest.mark.parametrize("encoder", BACKBONES)
def test_a_linear_probe_learns_two_numbers_and_a_bias(encoder):
    network = create_classifier(encoder, 2, 64)
    freeze_encoder(network)
    assert {name for name, p in network.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}


@pytest.mark.parametrize("encoder", BACKBONES)
def test_traces_and_runs_in_onnx(encoder, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = create_classifier(encoder, 2, 64).eval()
    image = torch.rand(2, 1, 64, 64)
    expected = network(image).detach()
    torch.testing.assert_close(torch.jit.trace(network, image)(image), expected)
    convert_to_onnx(network, [image], filename=str(tmp_path / "c.onnx"), use_trace=True, input_names=["image"])
    session = onnxruntime.InferenceSession(str(tmp_path / "c.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_classes"):
        create_classifier("resnet_compact", 0)
    with pytest.raises(ValueError, match="resnet_compact"):
        create_classifier("resnet_compct", 1)


@pytest.mark.parametrize(("encoder", "patch"), [("resnet_tiny", 16), ("vit_compact", 8)])
def test_volumes(encoder, patch):
    """The same layer on what a pretraining on volumes gives."""
    size = (16, 24, 32)
    network = create_classifier(encoder, 3, size, spatial_dims=3, patch_size=patch).eval()
    source = create_image_encoder(encoder, size, patch_size=patch, spatial_dims=3).eval()
    assert load_encoder(network, source.state_dict()) == len(source.state_dict())
    image = torch.rand(2, 1, *size)
    expected = source(image).pooled @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(image), expected)
