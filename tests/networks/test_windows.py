# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Images larger than their encoder, seen in windows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_mgca.networks import (
    ImageEmbedder,
    ImageFeatures,
    ProjectionHead,
    ViTImageEncoder,
    create_image_encoder,
    encode_windows,
)

VIT = {"hidden_size": 16, "mlp_dim": 32, "num_layers": 2, "num_heads": 2, "patch_size": 8}


class Means(nn.Module):
    """The mean of every cell of 4 pixels as its token, and its square as its attention."""

    def forward(self, image):
        pool = nn.functional.avg_pool2d if image.ndim == 4 else nn.functional.avg_pool3d
        tokens = pool(image, 4).flatten(2).transpose(1, 2)
        return ImageFeatures(tokens.mean(1), tokens, tokens[..., 0].square())


@pytest.mark.parametrize("size", [(8, 16), (16, 8, 24)])
def test_tokens_stand_as_in_the_whole_image(size):
    image = torch.rand(3, 2, *size)
    whole, windows = Means()(image), encode_windows(Means(), image, 8)
    count = image[0, 0].numel() // 8 ** len(size)
    assert torch.allclose(windows.tokens, whole.tokens)
    assert torch.allclose(windows.attention, whole.attention / count)
    assert torch.allclose(windows.pooled, whole.pooled)


@pytest.mark.parametrize("dims", [2, 3])
def test_one_window_is_the_encoder_itself(dims):
    encoder = ViTImageEncoder(image_size=16, spatial_dims=dims, **VIT).eval()
    image = torch.rand(2, 1, *[16] * dims)
    for found, wanted in zip(encode_windows(encoder, image, 16), encoder(image), strict=True):
        assert torch.equal(found, wanted)


def test_gradients_do_not_depend_on_the_micro_batch():
    encoder = ViTImageEncoder(image_size=16, **VIT)
    image, gradients = torch.rand(2, 1, 32, 16), []
    for size in (0, 1):
        encoder.zero_grad()
        features = encode_windows(encoder, image, 16, size)
        (features.pooled.square().sum() + features.tokens.sum()).backward()
        gradients.append([p.grad.clone() for p in encoder.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_an_embedding_is_of_the_mean_of_windows():
    encoder = create_image_encoder("resnet_tiny", spatial_dims=3).eval()
    head = ProjectionHead(encoder.out_channels).eval()
    image = torch.rand(1, 1, 64, 32, 32)
    wanted = head((encoder(image[:, :, :32]).pooled + encoder(image[:, :, 32:]).pooled) / 2)
    assert torch.allclose(ImageEmbedder(encoder, head, window_size=32)(image), wanted, atol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="multiple of window_size"):
        encode_windows(Means(), torch.rand(1, 1, 24, 16), 16)
    with pytest.raises(ValueError, match="no square"):
        encode_windows(Means(), torch.rand(1, 1, 16, 16), (8, 16))
