# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A converted ResNet-50 resizes as the official code does: held against torchvision's network with that resize."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
import torchvision

from monai_mgca.apps.ground.phrase_grounder import _enlarge
from monai_mgca.networks import (
    ResNetImageEncoder,
    create_detector,
    create_image_encoder,
    create_segmenter,
    official_name,
)
from monai_mgca.weights import load_encoder
from monai_mgca.weights.official_conversion import convert_official_checkpoint
from monai_mgca.weights.official_settings import encoder_name

BERT = {"embeddings.word_embeddings": (30, 16), "embeddings.position_embeddings": (40, 16)}
BERT |= {"embeddings.LayerNorm": None} | {
    f"encoder.layer.0.{name}": shape
    for name, shape in {
        **{f"attention.self.{part}": (16, 16) for part in ("query", "key", "value")},
        **{"attention.output.dense": (16, 16), "attention.output.LayerNorm": None, "output.LayerNorm": None},
        **{"intermediate.dense": (32, 16), "output.dense": (16, 32)},
    }.items()
}


def report_tower() -> dict[str, torch.Tensor]:
    """A BERT of one layer by the published names."""
    state = {f"{key}.weight": torch.rand(shape or 16) for key, shape in BERT.items()}
    biased = {key: shape or (16,) for key, shape in BERT.items() if not key.endswith("embeddings")}
    return state | {f"{key}.bias": torch.rand(shape[0]) for key, shape in biased.items()}


def head(channels: int, *size: int) -> dict[str, torch.Tensor]:
    linears = {"0.weight": (20, channels, *size), "0.bias": (20,), "3.weight": (8, 20, *size), "3.bias": (8,)}
    state = {key: torch.rand(shape) for key, shape in linears.items()}
    for number, channels in (("1", 20), ("4", 8)):
        norm = torch.nn.BatchNorm1d(channels, affine=number == "1")
        state |= {f"{number}.{key}": value for key, value in norm.state_dict().items()}
    return {f"head.{key}": value for key, value in state.items()}


@pytest.fixture(scope="module")
def resnet():
    """torchvision's ResNet-50 with random weights and statistics."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return network


@pytest.fixture(scope="module")
def converted(resnet, tmp_path_factory):
    """The settings that the conversion of such a checkpoint gives, and its tensors."""
    folder = tmp_path_factory.mktemp("official")
    towers = {"img_encoder_q": (resnet.state_dict(), 2048, 1024), "text_encoder_q": (report_tower(), 16, 16)}
    state = {"prototype_layer.weight": torch.rand(5, 8)}
    for tower, (model, pooled, tokens) in towers.items():
        parts = {"model": model, "global_embed": head(pooled), "local_embed": head(tokens, 1)}
        state |= {f"{tower}.{part}.{key}": value for part, held in parts.items() for key, value in held.items()}
    torch.save({"state_dict": state}, folder / "resnet_50.ckpt")
    done = convert_official_checkpoint(folder / "resnet_50.ckpt", folder / "model_pretrain.pt", in_channels=3)
    return json.loads(json.dumps(done.settings)), torch.load(folder / "model_pretrain.pt", weights_only=True)


def restated(network, image, size):
    """Pooled features and tokens, with the resize of the official code in front where a size is given."""
    if size:
        image = F.interpolate(image, size=(size, size), mode="bilinear", align_corners=True)
    x = network.maxpool(network.relu(network.bn1(network.conv1(image))))
    x = network.layer3(network.layer2(network.layer1(x)))
    return network.avgpool(network.layer4(x)).flatten(1), x.flatten(2).transpose(1, 2)


def rebuilt(settings, state):
    encoder = ResNetImageEncoder(**settings).eval()
    load_encoder(encoder, state)
    return encoder


@torch.no_grad()
def test_converted_resnet50_equals_the_restatement(resnet, converted):
    settings, state = converted
    assert settings["image_encoder"]["official_resize"] is True
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)).mul_(2).sub_(1)
    without = {**settings["image_encoder"], "official_resize": False}
    found = {}
    for given, size, tokens in ((settings["image_encoder"], 299, 361), (without, None, 196)):
        pooled, wanted = restated(resnet, image, size)
        features = found[size] = rebuilt(given, state)(image)
        assert features.tokens.shape == (1, tokens, 1024)
        assert (features.pooled - pooled).abs().max() <= 1e-6 * pooled.abs().max()
        assert (features.tokens - wanted).abs().max() <= 1e-6 * wanted.abs().max()
    apart = (found[299].pooled - found[None].pooled).abs().max() / found[299].pooled.abs().max()
    assert apart > 0.05  # what a converted encoder without it would be off by


@torch.no_grad()
def test_without_the_switch_nothing_changes_and_with_it_every_way_resizes():
    plain, official = (create_image_encoder("resnet_tiny", official_resize=on).eval() for on in (False, True))
    official.load_state_dict(plain.state_dict())
    image = torch.rand(2, 1, 96, 96)
    stages = plain.stages(image)
    assert torch.equal(plain(image).pooled, stages[-1].flatten(2).mean(2))
    assert torch.equal(plain(image).tokens, stages[-2].flatten(2).transpose(1, 2))
    larger = F.interpolate(image, size=(299, 299), mode="bilinear", align_corners=True)
    for one, other in zip(official(image)[:2], plain(larger)[:2], strict=True):
        assert torch.equal(one, other)
    assert torch.equal(official.local_features(image), plain.local_features(larger))
    assert torch.equal(torch.jit.script(official)(image).tokens, official(image).tokens)
    # a decoder takes stages of the image as it is, so that masks and boxes keep their places
    assert torch.equal(official.stages(image)[-1], plain.stages(image)[-1])


def test_a_name_rebuilds_it():
    image = torch.rand(1, 1, 64, 64)
    encoder = create_image_encoder(official_name("resnet_tiny")).eval()
    assert create_image_encoder("resnet_tiny_official", official_resize=True).official_resize
    assert encoder.official_resize
    assert official_name(official_name("resnet50")) == encoder_name({"block": "bottleneck", "layers": [3, 4, 6, 3]})
    with torch.no_grad():
        segmenter = create_segmenter("resnet_tiny_official", 1, 64).eval()
        assert segmenter(image).shape == (1, 1, 64, 64)
    for network in (segmenter, create_detector("resnet_tiny_official", 1, 64)):
        assert load_encoder(network, encoder.state_dict()) > 50


@pytest.mark.parametrize("name", ["vit_tiny", "monai:SegResNet", "resnet_tiy"])
def test_of_others_it_is_refused(name):
    with pytest.raises(ValueError, match=f"of a ResNet of ours, such as resnet50, got '{name}'"):
        create_image_encoder(name, official_resize=True)


def test_of_volumes_it_is_refused():
    with pytest.raises(ValueError, match="of images, got spatial_dims=3"):
        create_image_encoder("resnet_tiny_official", spatial_dims=3)


@torch.no_grad()
@pytest.mark.parametrize("place", [(60, 160), (112, 112), (168, 40)])
def test_maps_of_tokens_stay_in_their_place(place):
    """What changes in the image changes the tokens there, when their map is drawn over the image."""
    torch.manual_seed(0)
    encoder = create_image_encoder("resnet_tiny_official").eval()
    image = torch.rand(1, 1, 224, 224)
    changed = image.clone()
    changed[..., place[0] - 8 : place[0] + 8, place[1] - 8 : place[1] + 8] += 1
    moved = (encoder(changed).tokens - encoder(image).tokens).square().sum(2)
    heat = _enlarge(moved[:, None], (19, 19), (224, 224))[0, 0].clamp_min(0)
    axis = torch.arange(224) + 0.5
    found = [(heat.sum(dim) @ axis / heat.sum()).item() for dim in (1, 0)]
    assert found == pytest.approx(place, abs=6)  # half a token
