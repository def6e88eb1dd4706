# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch

from monai_mgca.networks import create_image_encoder
from monai_mgca.networks.detection.pyramid import SimpleFeaturePyramid, create_pyramid


@pytest.mark.parametrize("encoder", ["resnet_compact", "resnet18", "vit_compact"])
@pytest.mark.parametrize("strides", [(8, 16, 32), (4, 8, 16, 32), (16,)])
def test_levels_have_their_strides(encoder, strides):
    pyramid = create_pyramid(create_image_encoder(encoder, 64), strides, out_channels=16)
    levels = list(pyramid(torch.rand(1, 1, 64, 64)).values())
    assert [tuple(level.shape) for level in levels] == [(1, 16, 64 // stride, 64 // stride) for stride in strides]
    assert pyramid.out_channels == 16


def test_levels_are_where_their_patches_are():
    encoder = create_image_encoder("vit_compact", 64)
    pyramid = SimpleFeaturePyramid(encoder, (16,), 8)
    tokens = encoder(torch.rand(1, 1, 64, 64)).tokens
    pyramid.levels = torch.nn.ModuleList([torch.nn.Identity()])
    image = torch.rand(1, 1, 64, 64)
    tokens = encoder(image).tokens
    features = pyramid(image)["0"]
    assert torch.equal(features[0, :, 1, 2], tokens[0, 1 * 4 + 2])  # row 1, column 2 of 4 x 4 patches


def test_every_parameter_learns_from_one_image():
    for encoder in ("resnet_compact", "vit_compact"):
        pyramid = create_pyramid(create_image_encoder(encoder, 64), (8, 16, 32), 16)
        sum(level.square().mean() for level in pyramid(torch.rand(1, 1, 64, 64)).values()).backward()
        assert [name for name, p in pyramid.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(("encoder", "stride"), [("resnet_compact", 64), ("vit_compact", 12)])
def test_a_stride_it_cannot_give(encoder, stride):
    with pytest.raises(ValueError, match=f"{stride}"):
        create_pyramid(create_image_encoder(encoder, 64), (stride,))
