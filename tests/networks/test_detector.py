# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_mgca.networks import create_image_encoder
from monai_mgca.networks.detection.detector import DetectorMaps, FocalLossPerBox, create_detector
from monai_mgca.weights import load_encoder, start_encoder
from monai_mgca.weights.encoder_weights import find_backbone

ENCODERS = ("resnet_compact", "resnet_tiny", "vit_compact")
SIZE = 64


def target(*boxes: list[float]) -> dict[str, torch.Tensor]:
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.zeros(len(boxes), dtype=torch.int64)}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("encoder", [*ENCODERS, "resnet50"])
def test_every_tensor_of_the_encoder_moves_in(encoder):
    detector, source = create_detector(encoder, 2, SIZE), create_image_encoder(encoder, SIZE)
    assert load_encoder(detector, source.state_dict()) == len(source.state_dict())
    moved = find_backbone(detector).state_dict()
    assert all(torch.equal(moved[key], value) for key, value in source.backbone.state_dict().items())


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("boxes", [([5.0, 6.0, 40.0, 30.0],), ()], ids=["a box", "no box"])
def test_every_parameter_has_a_gradient(encoder, boxes):
    detector = create_detector(encoder, 1, SIZE)
    losses = detector(torch.rand(2, 1, SIZE, SIZE), [target(*boxes), target()])
    sum(losses.values()).backward()
    assert [name for name, p in detector.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("encoder", ENCODERS)
def test_learns_a_box_where_x_and_y_differ(encoder):
    box = [8.0, 30.0, 24.0, 62.0]
    image = -torch.ones(1, SIZE, SIZE)
    image[:, 30:62, 8:24] = 1
    detector = create_detector(encoder, 1, SIZE)
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-3)
    for _ in range(30):
        optimizer.zero_grad()
        sum(detector([image], [target(box)]).values()).backward()
        optimizer.step()
    detector.training = False  # the parts stay in training mode: the averages of batch norm lag
    with torch.no_grad():
        (found,) = detector([image])
    assert torch.allclose(found["boxes"][0], torch.tensor(box), atol=3)
    assert found["labels_scores"][0] > 0.3


def test_images_with_meta_data_are_the_same():
    detector, images = create_detector("resnet_compact", 1, SIZE, score_threshold=0.0).eval(), torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        plain, meta = detector(images), detector([MetaTensor(image) for image in images])
    assert type(meta[0]["boxes"]) is torch.Tensor
    assert torch.equal(plain[1]["boxes"], meta[1]["boxes"])
    assert len(plain[0]["boxes"]) == 100


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_network_traces(encoder):
    network, images = create_detector(encoder, 1, SIZE).network.eval(), torch.rand(2, 1, SIZE, SIZE)
    with torch.no_grad():
        traced = torch.jit.trace(network, images[:1])
        for ours, theirs in zip(network(images), traced(images), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_network_exports_to_onnx(encoder, tmp_path):
    pytest.importorskip("onnxscript", reason="onnx and onnxscript are not installed")
    network = create_detector(encoder, 1, SIZE).network.eval()
    torch.onnx.export(network, (torch.rand(1, 1, SIZE, SIZE),), tmp_path / "detector.onnx", dynamo=False)
    assert (tmp_path / "detector.onnx").stat().st_size > 10**6


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_encoder_stays_as_it_is(encoder, freeze):
    detector, source = create_detector(encoder, 1, SIZE), create_image_encoder(encoder, SIZE)
    start_encoder(detector, source.state_dict(), freeze=freeze)
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], 0.1)
    detector.train()
    for _ in range(2):
        optimizer.zero_grad()
        sum(detector(torch.rand(2, 1, SIZE, SIZE), [target([5.0, 6.0, 40.0, 30.0]), target()]).values()).backward()
        optimizer.step()
    after = find_backbone(detector).state_dict()
    same = [torch.equal(after[key], value) for key, value in source.backbone.state_dict().items()]
    assert all(same) if freeze else not any(same[:5])


def test_focal_loss_is_per_box():
    logits = torch.zeros(4, 2)
    targets = torch.tensor([[1.0, 0.0], [0, 1], [0, 0], [0, 0]])
    positive, negative = 0.25 * 0.5**2 * 0.6931, 0.75 * 0.5**2 * 0.6931
    assert FocalLossPerBox()(logits, targets).item() == pytest.approx((2 * positive + 6 * negative) / 2, rel=1e-3)
    assert FocalLossPerBox()(logits, 0 * targets).item() == pytest.approx(8 * negative, rel=1e-3)


def test_anchors_are_as_configured():
    detector = create_detector("resnet_compact", 1, SIZE, anchor_sizes=[[8], [16], [32]], anchor_ratios=[4.0])
    x0, y0, x1, y1 = detector.anchor_generator.cell_anchors[1][0].tolist()
    assert (x1 - x0, y1 - y0) == (8, 32)  # a ratio is height / width


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 80}, "multiple of the largest stride, 32, got 80"),
        ({"anchor_sizes": [[8], [16]]}, "anchor_sizes"),
        ({"anchor_sizes": [[8], [16], [32, 48]]}, "anchor_sizes"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        create_detector(**{"encoder": "resnet_compact", "num_classes": 1, "image_size": SIZE, **arguments})


@pytest.mark.parametrize("encoder", ENCODERS)
def test_maps_are_what_the_detector_chooses_from(encoder):
    detector, image = create_detector(encoder, 2, SIZE).eval(), torch.rand(2, 1, SIZE, SIZE)
    with torch.no_grad():
        found = DetectorMaps(detector)(image)
        levels = detector.network(image)
        parts = [detector._reshape_maps(maps) for maps in (levels[: len(levels) // 2], levels[len(levels) // 2 :])]
    assert torch.equal(found, torch.cat(parts, 2).transpose(1, 2))
    assert found.shape[1] == 2 + 4
