# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Exported by scripting or by tracing, a network is what it was: the model zoo's check exports by scripting."""

from __future__ import annotations

import io

import pytest
import torch

from monai_mgca.networks import (
    DetectorMaps,
    ImageEmbedder,
    ProjectionHead,
    create_classifier,
    create_detector,
    create_image_encoder,
    create_segmenter,
)

SIZE = 64


def embedder(name):
    encoder = create_image_encoder(name, SIZE)
    return ImageEmbedder(encoder, ProjectionHead(encoder.out_channels, 32, 16))


NETWORKS = {
    "encoder": lambda name: create_image_encoder(name, SIZE),
    "embedder": embedder,
    "segmenter": lambda name: create_segmenter(name, num_classes=2, image_size=SIZE),
    "classifier": lambda name: create_classifier(name, num_classes=2, image_size=SIZE),
    "detector": lambda name: DetectorMaps(create_detector(name, num_classes=2, image_size=SIZE)),
}


def tensors(output):
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for part in output if part is not None for tensor in tensors(part)]


def export(network, how):
    with torch.no_grad():
        made = torch.jit.script(network) if how == "script" else torch.jit.trace(network, torch.rand(2, 1, SIZE, SIZE))
    file = io.BytesIO()
    torch.jit.save(made, file)
    file.seek(0)
    return torch.jit.load(file)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", ["vit_compact", "resnet_compact"])
def test_an_exported_network_gives_the_same(name, kind, how):
    torch.manual_seed(0)
    network = NETWORKS[kind](name).eval()
    exported = export(network, how)
    images = torch.rand(3, 1, SIZE, SIZE)  # another number than it was traced with
    with torch.no_grad():
        wanted, found = tensors(network(images)), tensors(exported(images))
    found = [tensor for tensor in found if tensor.numel()]
    assert len(found) == len(wanted) >= 1
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_attention_is_there_or_none():
    """As of the network itself: of a ViT a row a patch, of a ResNet none."""
    image = torch.rand(1, 1, SIZE, SIZE)
    for name, wanted in (("vit_compact", (1, 16)), ("resnet_tiny", None)):
        network = create_image_encoder(name, SIZE).eval()
        for made in (network, torch.jit.script(network)):
            found = made(image).attention
            assert found is None if wanted is None else found.shape == wanted


def test_checkpointing_changes_no_gradient():
    """The last block of a ViT is not computed twice, and what is gives the same."""
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = create_image_encoder("vit_compact", SIZE, checkpointing=checkpointing).train()
        network(torch.ones(2, 1, SIZE, SIZE)).pooled.sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
