# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch

from monai_mgca.networks import DetectorMaps, VolumeDetector, create_detector, create_image_encoder, create_pyramid
from monai_mgca.weights import load_encoder
from monai_mgca.weights.encoder_weights import find_backbone

SIZE, STRIDES = 32, (4, 8, 16)
# with the strides that each has
ENCODERS = {"resnet_tiny": STRIDES, "vit_compact": STRIDES, "monai:SegResNet(init_filters=8)": (4, 8)}
ANCHORS = [[4.0], [8.0], [16.0]]


def create(encoder="resnet_tiny", num_classes=1, size=SIZE, **kwargs):
    strides = ENCODERS[encoder]
    options = {"anchor_sizes": ANCHORS[: len(strides)], "strides": strides, "channels": 16, **kwargs}
    return create_detector(encoder, num_classes, size, spatial_dims=3, **options)


def target(*boxes: list[float]) -> dict[str, torch.Tensor]:
    return {"boxes": torch.tensor(boxes).reshape(-1, 6), "labels": torch.zeros(len(boxes), dtype=torch.int64)}


def bright(box, size=(SIZE,) * 3):
    """A dark volume with a bright box."""
    volume, (x0, y0, z0, x1, y1, z1) = -torch.ones(1, *size), map(int, box)
    volume[:, x0:x1, y0:y1, z0:z1] = 1
    return volume


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_levels_have_their_strides_on_every_axis(encoder):
    made = create_image_encoder(encoder, (32, 16, 48), spatial_dims=3)
    pyramid = create_pyramid(made, ENCODERS[encoder], 8, spatial_dims=3)
    levels = list(pyramid(torch.rand(1, 1, 32, 16, 48)).values())
    assert [tuple(level.shape) for level in levels] == [(1, 8, 32 // s, 16 // s, 48 // s) for s in ENCODERS[encoder]]


def test_tokens_are_where_their_patches_are():
    encoder = create_image_encoder("vit_compact", 32, patch_size=8, spatial_dims=3)
    pyramid = create_pyramid(encoder, (8,), 8, spatial_dims=3)
    pyramid.levels = torch.nn.ModuleList([torch.nn.Identity()])
    volume = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(pyramid(volume)["0"][0, :, 1, 2, 3], encoder(volume).tokens[0, (1 * 4 + 2) * 4 + 3])


@pytest.mark.parametrize("encoder", list(ENCODERS)[:2])
def test_every_tensor_of_the_encoder_moves_in(encoder):
    source = create_image_encoder(encoder, SIZE, spatial_dims=3)
    # the stage of stride 32 too, which the default levels have no use for
    detector = create_detector(encoder, 1, SIZE, strides=(8, 16, 32), spatial_dims=3)
    assert load_encoder(detector, source.state_dict()) == len(source.state_dict())
    moved = find_backbone(detector).state_dict()
    assert all(torch.equal(moved[key], value) for key, value in source.backbone.state_dict().items())


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("boxes", [([5.0, 6, 3, 20, 15, 12],), ()], ids=["a box", "no box"])
def test_every_parameter_has_a_gradient(encoder, boxes):
    losses = create(encoder)(torch.rand(2, 1, SIZE, SIZE, SIZE), [target(*boxes), target()])
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_parameters_of_batches_without_boxes_have_gradients():
    detector = create()
    sum(detector(torch.rand(2, 1, SIZE, SIZE, SIZE), [target(), target()]).values()).backward()
    assert [name for name, p in detector.named_parameters() if p.grad is None] == []


BOX = [4.0, 12.0, 9.0, 9.0, 21.0, 23.0]


@pytest.fixture(scope="module")
def taught():
    """A detector that has learned one bright box, whose axes all differ, and what is empty."""
    torch.manual_seed(0)
    detector = create()
    find_backbone(detector).eval()
    optimizer = torch.optim.AdamW(detector.parameters(), 3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        sum(detector([bright(BOX), -torch.ones(1, SIZE, SIZE, SIZE)], [target(BOX), target()]).values()).backward()
        optimizer.step()
    return detector.eval()


def test_learns_a_box_where_all_axes_differ(taught):
    with torch.no_grad():
        (found,) = taught([bright(BOX)])
    torch.testing.assert_close(found["boxes"][0], torch.tensor(BOX), atol=2.5, rtol=0)
    assert found["labels_scores"][0] > 0.3


def test_windows_find_it_in_a_larger_volume(taught):
    """In the last of windows side by side it is what it is in a volume of its own, beside one of another size."""
    inferer, shift = taught.inferer, torch.tensor([32.0, 0, 64, 32, 0, 64])
    taught.set_sliding_window_inferer((SIZE,) * 3, overlap=0, mode="constant")
    with torch.no_grad():
        own, large = taught([bright(BOX), bright((torch.tensor(BOX) + shift).tolist(), (64, 32, 96))])
    taught.inferer = inferer
    torch.testing.assert_close(large["boxes"][0], own["boxes"][0] + shift)
    torch.testing.assert_close(large["labels_scores"][0], own["labels_scores"][0])


@pytest.mark.parametrize("side", [16, 32, 48, 64, 80, 96, 160])
def test_windows_stand_on_whole_cells(side):
    """Else MONAI would interpolate between the cells of neighboring windows."""
    window = create(size=side).inferer
    steps = [round(own * (1 - overlap), 6) for own, overlap in zip(window.roi_size, window.overlap, strict=True)]
    assert all(step % max(STRIDES) == 0 and 0 < step <= side for step in steps)
    assert min(window.overlap) >= 0.25 or side == 16


def test_volumes_that_fit_need_no_window(taught):
    volume = bright(BOX)
    with torch.no_grad():
        (plain,), (windowed,) = taught([volume], use_inferer=False), taught([volume])
    assert torch.equal(plain["boxes"], windowed["boxes"])


def test_anchors_are_as_configured_and_not_rounded():
    detector = create(anchor_sizes=[[3.0], [7.0], [16.0]], anchor_ratios=[[2.0, 4.0]])
    low, high = detector.anchor_generator.cell_anchors[0][0].chunk(2)
    assert (high - low).tolist() == pytest.approx([1.5, 3, 6])  # y / x and z / x, of the volume 3 * 3 * 3
    assert isinstance(detector, VolumeDetector)


def test_hard_negatives_are_sampled():
    sampler = create().fg_bg_sampler
    assert (sampler.batch_size_per_image, sampler.min_neg) == (64, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (32, 40, 32)}, "multiple of the largest stride, 16, got 40"),
        ({"anchor_ratios": [0.5, 1.0]}, "anchor_ratios of volumes are pairs"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        create(**arguments)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("encoder", list(ENCODERS)[:2])
def test_maps_are_what_the_detector_chooses_from(encoder):
    detector, volume = create(encoder, 2).eval(), torch.rand(1, 1, SIZE, SIZE, SIZE)
    maps = DetectorMaps(detector).eval()
    with torch.no_grad():
        levels = detector.network(volume)
        parts = [detector._reshape_maps(m) for m in (levels[: len(levels) // 2], levels[len(levels) // 2 :])]
        assert torch.equal(maps(volume), torch.cat(parts, 2).transpose(1, 2))
        traced = torch.jit.trace(maps, volume, check_trace=False)
        torch.testing.assert_close(traced(volume.flip(2)), maps(volume.flip(2)))
    assert maps(volume).shape[1] == 2 + 6
