# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

import logging
import re

import pytest
import torch

from monai_mgca.networks import create_detector, create_image_encoder, create_segmenter, fitting_size
from monai_mgca.utils import CheckpointError
from monai_mgca.weights import describe_start, load_encoder, load_timm_vit


@pytest.mark.parametrize(
    ("encoder", "size", "multiple", "fitting"),
    [
        ("resnet_tiny", 112, 32, 128),
        ("resnet_compact", 100, 32, 96),
        ("resnet50", 224, 32, 224),
        ("resnet50", 20, 32, 32),
        ("resnet_compact", 120, 16, 128),
        ("vit_compact", 112, 32, 112),  # it knows its own positions alone
        ("mine", 112, 32, 112),  # create_image_encoder says what there is
    ],
)
def test_fitting_size(encoder, size, multiple, fitting, caplog):
    with caplog.at_level(logging.INFO, logger="monai_mgca"):
        assert fitting_size(encoder, size, multiple) == fitting
    assert (f"images of {size} pixels, and here they have {fitting}" in caplog.text) == (size != fitting)


@pytest.mark.parametrize(
    ("encoder", "size", "at_most", "fitting"),
    [
        ("resnet_tiny", 48, 32, 32),
        ("resnet18", 160, 96, 96),
        ("resnet18", [160, 160, 70], 96, [96, 96, 64]),
        ("resnet18", [96, 64, 32], 96, [96, 64, 32]),
        ("vit_base", 160, 96, 160),  # which works at this size alone
    ],
)
def test_fitting_patches_of_volumes(encoder, size, at_most, fitting):
    assert fitting_size(encoder, size, 32, at_most) == fitting


def test_an_encoder_of_112_pixels_segments_and_detects():
    encoder = create_image_encoder("resnet_tiny", 112)
    for create, multiple in ((create_segmenter, 32), (create_detector, 32)):
        network = create("resnet_tiny", 1, fitting_size("resnet_tiny", 112, multiple))
        assert load_encoder(network, encoder.state_dict()) > 50


@pytest.mark.parametrize("size", [20, 112, 150])
@pytest.mark.parametrize("create", [create_segmenter, create_detector])
def test_the_sizes_of_the_message_are_taken(create, size):
    with pytest.raises(ValueError, match=f"got {size}: set image_size to") as caught:
        create("resnet_tiny", 1, size)
    advised = re.search(r"set image_size to (\d+)(?: or (\d+))?", str(caught.value)).groups()
    for advice in filter(None, advised):
        create("resnet_tiny", 1, int(advice))
    if create is create_detector and size == 112:
        create("resnet_tiny", 1, size, strides=[4, 8, 16])


def as_timm(encoder):
    """The state of a ViT by timm's names, whose [CLS] has a position of its own."""
    state = {}
    for key, value in encoder.backbone.state_dict().items():
        for ours, theirs in (
            ("patch_embedding.patch_embeddings", "patch_embed.proj"),
            ("mlp.linear1", "mlp.fc1"),
            ("mlp.linear2", "mlp.fc2"),
            ("attn.out_proj", "attn.proj"),
        ):
            key = key.replace(ours, theirs)
        state[key] = value
    position = state.pop("patch_embedding.position_embeddings")
    return {**state, "pos_embed": torch.cat([torch.zeros_like(position[:, :1]), position], 1)}


def test_vit_weights_start_encoders_of_other_image_sizes(caplog):
    """As docs/pretraining.md advises for small GPUs: DeiT's weights are for 224 pixels."""
    torch.manual_seed(0)
    source = create_image_encoder("vit_compact", 64)
    grid = torch.linspace(-1, 1, 4)[None, None, :, None] * torch.linspace(1, 2, 4)[None, None, None]
    source.backbone.patch_embedding.position_embeddings.data[..., :1] = grid.flatten(2).transpose(1, 2)
    state = as_timm(source)
    same, smaller, larger = (create_image_encoder("vit_compact", size) for size in (64, 48, 96))
    with caplog.at_level(logging.INFO, logger="monai_mgca"):
        assert load_timm_vit(same, state) == load_timm_vit(smaller, state) == load_timm_vit(larger, state)
    assert "4 x 4 patches are interpolated to 3 x 3" in caplog.text
    assert "to 6 x 6" in caplog.text
    key = "backbone.patch_embedding.position_embeddings"
    assert torch.equal(same.state_dict()[key], source.state_dict()[key])
    for encoder, side in ((smaller, 3), (larger, 6)):
        found = encoder.state_dict()[key][0, :, 0].reshape(side, side)
        # top stays top and right stays right
        assert (found.diff(dim=0) > 0).all()
        assert (found[0].diff() < 0).all()
        assert (found[-1].diff() > 0).all()


def test_another_width_is_still_refused():
    source = create_image_encoder("vit_compact", 64)
    with pytest.raises(CheckpointError):
        load_timm_vit(create_image_encoder("vit_tiny", 48), as_timm(source))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ((None, None), "The image encoder starts from random weights, the report encoder from random weights."),
        (("timm/deit", "bert"), "The image encoder starts from timm/deit, the report encoder from bert."),
        (("timm/deit", "bert", "models/model_pretrain.pt"), "Both encoders start from models/model_pretrain.pt."),
    ],
)
def test_what_a_pretraining_starts_from(sources, message, caplog):
    with caplog.at_level(logging.INFO, logger="monai_mgca"):
        assert describe_start(*sources) == message
    assert caplog.messages == [message]
