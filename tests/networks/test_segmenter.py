# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNETR, FlexibleUNet

from monai_mgca.networks import PUPSegmenter, StageSegmenter, create_image_encoder, create_segmenter
from monai_mgca.weights import load_encoder

CASES = [
    ("resnet_compact", "default", 64, FlexibleUNet),
    ("resnet_tiny", "default", 64, FlexibleUNet),
    ("resnet50", "default", 64, FlexibleUNet),
    ("vit_compact", "default", 64, PUPSegmenter),
    ("vit_tiny", "unetr", 64, UNETR),
]


@pytest.mark.parametrize(("encoder", "decoder", "size", "kind"), CASES)
class TestSegmenter:
    def test_takes_the_whole_encoder_and_trains_every_parameter(self, encoder, decoder, size, kind):
        torch.manual_seed(0)
        network = create_segmenter(encoder, num_classes=2, image_size=size, decoder=decoder)
        source = create_image_encoder(encoder, size)
        expected = len(source.state_dict()) - (decoder == "unetr")  # UNETR has no [CLS]
        assert isinstance(network, kind)
        assert load_encoder(network, source.state_dict()) == expected
        logits = network(torch.randn(2, 1, size, size))
        assert logits.shape == (2, 2, size, size)
        logits.square().sum().backward()
        assert [name for name, p in network.named_parameters() if p.grad is None] == []

    def test_exports_by_tracing(self, encoder, decoder, size, kind):
        network = create_segmenter(encoder, num_classes=1, image_size=size, decoder=decoder).eval()
        image = torch.randn(1, 1, size, size)
        traced = torch.jit.trace(network, torch.randn(1, 1, size, size))
        torch.testing.assert_close(traced(image), network(image), rtol=1e-4, atol=1e-4)


def test_unet_sees_what_the_pretraining_saw():
    network = create_segmenter("resnet_compact", num_classes=1, image_size=64).eval()
    source = create_image_encoder("resnet_compact").eval()
    load_encoder(network, source.state_dict())
    image = torch.randn(2, 1, 64, 64)
    assert torch.equal(network.encoder(image)[-1].flatten(2).mean(2), source(image).pooled)


def test_pup_decodes_the_tokens_of_the_pretraining():
    """Each patch's token at its place; then four steps, each of twice the resolution."""
    network = create_segmenter("vit_compact", num_classes=3, image_size=64).eval()
    source = create_image_encoder("vit_compact", image_size=64).eval()
    load_encoder(network, source.state_dict())
    shapes, seen, image = [], [], torch.randn(2, 1, 64, 64)
    network.decoder[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    for layer in network.decoder:
        layer.register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape[1:])))
    assert network(image).shape == (2, 3, 64, 64)
    tokens = source(image).tokens
    assert torch.equal(seen[0][:, :, 1, 3], tokens[:, 1 * 4 + 3])
    assert shapes[3::4] == [(128, 8, 8), (64, 16, 16), (32, 32, 32), (16, 64, 64)]


def test_pup_of_vit_base_is_that_of_the_authors():
    with torch.device("meta"):
        network = create_segmenter("vit_base", num_classes=1)
    convolutions = [layer for layer in network.decoder if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.in_channels for layer in convolutions] == [768, 512, 256, 128, 64]
    assert [layer.kernel_size for layer in convolutions] == [(3, 3)] * 4 + [(1, 1)]


def test_unetr_blocks_are_those_of_the_pretraining():
    """With the token [CLS] put in by hand, UNETR's transformer gives the pretraining's tokens."""
    network = create_segmenter("vit_tiny", num_classes=1, image_size=32, decoder="unetr").eval()
    source = create_image_encoder("vit_tiny", image_size=32).eval()
    load_encoder(network, source.state_dict())
    image = torch.randn(2, 1, 32, 32)
    x = network.vit.patch_embedding(image)
    x = torch.cat((source.backbone.cls_token.expand(2, -1, -1), x), dim=1)
    for block in network.vit.blocks:
        x = block(x)
    torch.testing.assert_close(network.vit.norm(x)[:, 1:], source(image).tokens, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": "resnet_compact", "decoder": "unetr"}, "vision transformer"),
        ({"encoder": "vit_compact", "decoder": "unetr"}, "12 layers"),
        ({"encoder": "resnet_compact", "decoder": "unet"}, "unetr"),
        ({"encoder": "resnet_compac"}, "resnet_compact"),
        ({"encoder": "resnet_compact", "image_size": 72}, "multiple of 32"),
    ],
)
def test_names_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        create_segmenter(**{"num_classes": 1, "image_size": 64, **arguments})


VOLUMES = [
    ("resnet_tiny", "default", 16, (32, 32, 64), FlexibleUNet),
    ("vit_compact", "default", 16, (32, 32, 16), PUPSegmenter),
    ("vit_compact", "default", 8, (16, 24, 16), PUPSegmenter),
    ("vit_tiny", "unetr", 16, (32, 32, 16), UNETR),
    ("monai:SegResNet(init_filters=8)", "default", 16, (32, 32, 16), StageSegmenter),
]


@pytest.mark.parametrize(("encoder", "decoder", "patch", "size", "kind"), VOLUMES)
class TestVolumes:
    """The same networks in 3D, of boxes that are no cubes."""

    def make(self, encoder, decoder, patch, size):
        return create_segmenter(
            encoder, num_classes=2, image_size=size, decoder=decoder, spatial_dims=3, patch_size=patch
        )

    def test_takes_the_whole_encoder_and_trains_every_parameter(self, encoder, decoder, patch, size, kind):
        torch.manual_seed(0)
        network = self.make(encoder, decoder, patch, size)
        source = create_image_encoder(encoder, size, patch_size=patch, spatial_dims=3)
        assert isinstance(network, kind)
        assert load_encoder(network, source.state_dict()) == len(source.state_dict()) - (decoder == "unetr")
        logits = network(torch.randn(2, 1, *size))
        assert logits.shape == (2, 2, *size)
        logits.square().sum().backward()
        assert [name for name, p in network.named_parameters() if p.grad is None and p.requires_grad] == []

    def test_exports_by_tracing(self, encoder, decoder, patch, size, kind):
        network = self.make(encoder, decoder, patch, size).eval()
        traced = torch.jit.trace(network, torch.randn(1, 1, *size), check_trace=False)
        image = torch.randn(1, 1, *size)
        torch.testing.assert_close(traced(image), network(image), rtol=1e-4, atol=1e-4)


def test_pup_of_volumes_has_the_steps_that_its_patches_need():
    """Each patch's token at its place; of patches of 8 three steps, and nothing is interpolated back."""
    network = create_segmenter("vit_compact", 1, image_size=(16, 24, 16), spatial_dims=3, patch_size=8).eval()
    source = create_image_encoder("vit_compact", (16, 24, 16), patch_size=8, spatial_dims=3).eval()
    load_encoder(network, source.state_dict())
    seen, image = [], torch.randn(1, 1, 16, 24, 16)
    network.decoder[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    logits = network(image)
    assert torch.equal(seen[0][:, :, 1, 2, 0], source(image).tokens[:, (1 * 3 + 2) * 2])
    assert torch.equal(logits, network.decoder(seen[0]))
    assert [type(layer).__name__ for layer in network.decoder].count("Upsample") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": "resnet_tiny", "image_size": (32, 48, 32)}, "multiple of 32.*set image_size to 32 or 64"),
        ({"encoder": "vit_compact", "image_size": 20, "patch_size": 8}, "multiple of 8"),
        ({"encoder": "vit_tiny", "decoder": "unetr", "patch_size": 8}, "patches of 16"),
        ({"encoder": "resnet50_official"}, "official_resize is of images"),
        ({"encoder": "timm:resnet10t"}, "for images, not volumes"),
    ],
)
def test_volumes_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        create_segmenter(**{"num_classes": 1, "image_size": 32, "spatial_dims": 3, **arguments})
