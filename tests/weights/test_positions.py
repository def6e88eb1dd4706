# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A vision transformer's positions of one image size at another are those that timm computes."""

import logging

import pytest
import torch

from monai_mgca.networks import create_image_encoder, create_segmenter
from monai_mgca.utils import CheckpointError
from monai_mgca.weights import interpolate_positions, load_encoder
from monai_mgca.weights.positions import fit_positions


@pytest.mark.parametrize("special", [0, 1, 5])
@pytest.mark.parametrize("size", [384, 512, 128])
def test_equal_to_timm(size, special):
    layers = pytest.importorskip("timm.layers")
    positions, side = torch.randn(1, special + 14 * 14, 32), size // 16
    own = interpolate_positions(positions, (14, 14), (side, side), special)
    theirs = layers.resample_abs_pos_embed(positions, [side, side], num_prefix_tokens=special)
    torch.testing.assert_close(own, theirs, rtol=0, atol=1e-6)


def test_rectangles():
    layers = pytest.importorskip("timm.layers")
    positions = torch.randn(1, 1 + 6 * 8, 16)
    own = interpolate_positions(positions, (6, 8), (9, 10), 1)
    theirs = layers.resample_abs_pos_embed(positions, [9, 10], old_size=[6, 8], num_prefix_tokens=1)
    torch.testing.assert_close(own, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["vit_compact", "timm:vit_small_patch14_reg4_dinov2(depth=2, embed_dim=48, num_heads=3)"]
)
def test_an_encoder_at_another_size(name, caplog):
    """All but the positions is moved as it is, and the log says what was interpolated."""
    if name.startswith("timm"):
        pytest.importorskip("timm")
    small, large = (create_image_encoder(name, image_size=size) for size in (112, 224))
    with caplog.at_level(logging.INFO):
        load_encoder(large, small.state_dict())
    sides = "8 x 8 patches are interpolated to 16 x 16" if "14" in name else "7 x 7 patches are interpolated to 14 x 14"
    assert f"The positions of {sides}" in caplog.text
    moved, given = large.state_dict(), small.state_dict()
    other = [key for key in given if moved[key].shape != given[key].shape]
    assert len(other) == 1
    assert all(torch.equal(moved[key], given[key]) for key in given if key not in other)


def test_a_finetuning_at_another_size():
    """The network is that of an encoder whose positions were interpolated by hand."""
    encoder = create_image_encoder("vit_compact", image_size=64)
    network = create_segmenter("vit_compact", num_classes=1, image_size=96).eval()
    load_encoder(network, encoder.state_dict())
    key = "patch_embedding.position_embeddings"
    by_hand = interpolate_positions(encoder.backbone.state_dict()[key], (4, 4), (6, 6))
    torch.testing.assert_close(network.image_encoder.backbone.state_dict()[key], by_hand, rtol=0, atol=0)


def test_volumes_of_another_size(caplog):
    """Cubes of patches, also where their numbers are squares: 4 x 4 x 4 are 8 x 8, and 9 x 9 x 9 are 27 x 27."""
    small, large = (create_image_encoder("vit_compact", size, patch_size=4, spatial_dims=3) for size in (16, 36))
    with caplog.at_level(logging.INFO):
        load_encoder(large, small.state_dict())
    assert "The positions of 4 x 4 x 4 patches are interpolated to 9 x 9 x 9." in caplog.text
    key = "backbone.patch_embedding.position_embeddings"
    grid = small.state_dict()[key].transpose(1, 2).reshape(1, 128, 4, 4, 4)
    expected = torch.nn.functional.interpolate(grid, (9, 9, 9), mode="trilinear").flatten(2).transpose(1, 2)
    torch.testing.assert_close(large.state_dict()[key], expected)


@pytest.mark.parametrize(("dims", "held", "built"), [(3, "volumes", "images"), (2, "images", "volumes")])
@pytest.mark.parametrize("name", ["resnet_tiny", "vit_compact"])
def test_weights_of_other_dimensions_are_refused(name, dims, held, built):
    source = create_image_encoder(name, 32, spatial_dims=dims)
    network = create_segmenter(name, 1, 32, spatial_dims=5 - dims)
    with pytest.raises(CheckpointError, match=f"is of {held}, and the .* here of {built}.*train_TASK_volume.json"):
        load_encoder(network, source.state_dict())


class TestWhatIsNoOtherSize:
    def test_another_width(self):
        small = create_image_encoder("vit_compact", image_size=64)
        with pytest.raises(CheckpointError, match="another shape"):
            load_encoder(create_image_encoder("vit_tiny", image_size=96), small.state_dict())

    def test_no_square(self):
        state = {"pos_embed": torch.zeros(1, 12, 4)}
        assert fit_positions(state, {"pos_embed": torch.zeros(1, 14, 4)})["pos_embed"].shape == (1, 12, 4)

    def test_the_same_size_is_left_alone(self):
        positions = torch.randn(1, 17, 4)
        assert fit_positions({"pos_embed": positions}, {"pos_embed": positions})["pos_embed"] is positions
