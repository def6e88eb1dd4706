# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Adapters of low rank: which layers get them, that nothing else is trained, and that they merge."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from monai_mgca.networks import ImageEncoder, ImageFeatures, ReportEncoder, create_image_encoder, merged_state
from monai_mgca.networks.adaptation.choose_layers import choose_layers
from monai_mgca.networks.adaptation.lora import add_adapters, has_adapters
from monai_mgca.networks.adaptation.tower_groups import tower_body
from monai_mgca.utils import DataError
from monai_mgca.utils.errors import OptionError
from monai_mgca.weights import load_network, merge_adapters, write_adapters

peft = pytest.importorskip("peft")

BERT = {"vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
VIT = {"image_size": 32, "hidden_size": 48, "mlp_dim": 96, "num_layers": 2, "num_heads": 2}
IMAGE = (torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)),)
REPORT = (torch.tensor([[2, 7, 8, 9, 3], [2, 5, 6, 3, 0]]), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]))
TIMM = "timm:vit_tiny_patch16_224(embed_dim=32, depth=2, num_heads=2)"
TOWERS = {
    "vit": (lambda: create_image_encoder("vit_compact", **VIT), IMAGE),
    "resnet": (lambda: create_image_encoder("resnet_tiny", width=8), IMAGE),
    "bert": (lambda: ReportEncoder(BERT), REPORT),
    "xlm-roberta": (lambda: ReportEncoder({"model_type": "xlm-roberta", **BERT}), REPORT),
    "timm": (lambda: create_image_encoder(TIMM, image_size=32), IMAGE),
    "monai": (
        lambda: create_image_encoder("monai:SegResNet(init_filters=8)", image_size=16, spatial_dims=3),
        (torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)),),
    ),
}


def make(name: str):
    if name == "timm":
        pytest.importorskip("timm")
    torch.manual_seed(0)
    create, inputs = TOWERS[name]
    return create(), inputs


def features(encoder: nn.Module, inputs) -> list[torch.Tensor]:
    with torch.no_grad():
        return [part for part in encoder.eval()(*inputs) if part is not None]


def disturb(encoder: nn.Module) -> None:
    """As after some training: adapters that do something."""
    generator = torch.Generator().manual_seed(1)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def adapted(name: str):
    """A plain encoder, one with adapters that do something, and inputs."""
    (plain, inputs), (encoder, _) = make(name), make(name)
    add_adapters(encoder, 2, *(tensor[:1] for tensor in inputs))
    disturb(encoder)
    return plain, encoder, inputs


@pytest.fixture(autouse=True)
def _few_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", TOWERS)
class TestTowers:
    def test_at_first_nothing_is_changed(self, name):
        encoder, inputs = make(name)
        state, before = {key: value.clone() for key, value in encoder.state_dict().items()}, features(encoder, inputs)
        add_adapters(encoder, 2, *(tensor[:1] for tensor in inputs))
        for part, was in zip(features(encoder, inputs), before, strict=True):
            torch.testing.assert_close(part, was, rtol=0, atol=1e-6)
        merged = merged_state(encoder)
        assert list(merged) == list(state)
        assert all(torch.equal(merged[key], state[key]) for key in state)

    def test_merged_weights_give_the_same_features(self, name):
        plain, encoder, inputs = adapted(name)
        before = features(plain, inputs)
        load_network(plain, merged_state(encoder))
        with_adapters = features(encoder, inputs)
        assert not torch.allclose(before[0], with_adapters[0], atol=1e-3)
        for part, other in zip(features(plain, inputs), with_adapters, strict=True):
            assert (part - other).abs().max() <= 1e-5

    def test_merged_as_peft_merges(self, name):
        _, encoder, _ = adapted(name)
        ours, body = merged_state(encoder), tower_body(encoder)
        for _, layer in [item for item in body.named_modules() if hasattr(item[1], "lora_A")]:
            layer.merge()
            layer.lora_A.clear()
        theirs = {key.replace(".base_layer", ""): value for key, value in encoder.state_dict().items()}
        kept = {key: value for key, value in theirs.items() if ".lora_B." not in key}
        assert ours.keys() == kept.keys()
        assert all(torch.equal(ours[key], kept[key]) for key in ours)

    def test_peft_reads_what_is_written(self, name, tmp_path):
        """peft itself puts the adapters onto the plain network, and so do we."""
        plain, encoder, inputs = adapted(name)
        parent = nn.Module()
        parent.image_encoder = encoder
        (folder,) = write_adapters(parent, tmp_path)
        assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
        with_adapters = features(encoder, inputs)
        peft.PeftModel.from_pretrained(tower_body(plain), str(folder))
        for part, other in zip(features(plain, inputs), with_adapters, strict=True):
            assert (part - other).abs().max() <= 1e-5
        again = merge_adapters(make(name)[0], folder)
        merged = merged_state(encoder)
        assert all(torch.equal(again.state_dict()[key], merged[key]) for key in merged)

    def test_adapters_alone_are_trained_and_all_of_them(self, name):
        _, encoder, inputs = adapted(name)
        trained = {key for key, parameter in encoder.named_parameters() if parameter.requires_grad}
        assert trained
        assert all(".lora_" in key for key in trained)
        buffers = {key: value.clone() for key, value in encoder.named_buffers()}
        sum(part.sum() for part in encoder.train()(*inputs)[:2]).backward()
        assert {key for key, parameter in encoder.named_parameters() if parameter.grad is not None} == trained
        assert all(torch.equal(value, buffers[key]) for key, value in encoder.named_buffers())


class TestShare:
    """Of the sizes that the paper trains, below 2 % of the weights train at rank 8."""

    @pytest.mark.parametrize(
        ("name", "layers", "share"), [("vit_base", 48, 0.0138), ("resnet50", 19, 0.0147), ("bert", 72, 0.0123)]
    )
    def test_of_the_paper(self, name, layers, share):
        with torch.device("meta"):  # whose random weights take no time
            encoder = ReportEncoder({"vocab_size": 28996}) if name == "bert" else create_image_encoder(name)
        encoder.to_empty(device="cpu")
        for value in (*encoder.parameters(), *encoder.buffers()):
            value.data.zero_()
        found = add_adapters(encoder, 8, *(REPORT if name == "bert" else (torch.zeros(1, 1, 224, 224),)))
        assert found < 0.02
        assert found == pytest.approx(share, abs=5e-5)
        assert sum(hasattr(part, "base_layer") for part in encoder.modules()) == layers

    def test_of_a_resnet_those_worth_it(self):
        with torch.device("meta"):
            encoder = create_image_encoder("resnet50")
        chosen = choose_layers(encoder, encoder.backbone, 8, torch.zeros(1, 1, 64, 64, device="meta"))
        assert {name.rpartition(".")[2] for name in chosen if "downsample" not in name} == {"conv2"}  # 3 x 3
        assert "conv1" not in choose_layers(encoder, encoder.backbone, 1, torch.zeros(1, 1, 64, 64, device="meta"))

    def test_is_what_trains(self):
        encoder, inputs = make("vit")
        weights = sum(parameter.numel() for parameter in encoder.parameters())
        share = add_adapters(encoder, 2, *inputs)
        trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        assert share == sum(parameter.numel() for parameter in trained) / weights

    def test_a_small_network_is_warned_about(self, caplog):
        encoder, inputs = make("vit")
        assert add_adapters(encoder, 8, *inputs) > 0.02
        assert "A lower lora_rank trains less" in caplog.text


class Uncalled(ImageEncoder):
    """Reads the weights of a layer without calling it, and has one that nothing depends on."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.stem = nn.Conv2d(1, 8, 16, 16)
        self.read, self.called, self.idle = (nn.Linear(8, 8) for _ in range(3))
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, image):
        tokens = self.depthwise(self.stem(image)).flatten(2).mT
        tokens = self.called(nn.functional.linear(tokens, self.read.weight, self.read.bias))
        return ImageFeatures(tokens.mean(1), tokens, None)


def test_layers_that_are_not_called_get_none():
    assert choose_layers(encoder := Uncalled(), encoder, 1, *IMAGE) == ["called"]


def test_half_precision():
    plain, encoder, inputs = adapted("vit")
    load_network(plain, merged_state(encoder))
    with torch.autocast("cpu", torch.bfloat16):
        one, other = features(plain, inputs)[0], features(encoder, inputs)[0]
    assert torch.nn.functional.cosine_similarity(one.float(), other.float()).min() > 0.999


class TestErrors:
    def test_without_peft(self, monkeypatch):
        monkeypatch.setattr("monai_mgca.utils.extras.find_spec", lambda name: None)
        encoder, inputs = make("vit")
        with pytest.raises(DataError, match=r'lora_rank needs peft.*pip install "monai-mgca\[peft\]"'):
            add_adapters(encoder, 2, *inputs)

    def test_nothing_to_adapt(self):
        class Stem(Uncalled):
            def forward(self, image):
                tokens = self.stem(image).flatten(2).mT
                return ImageFeatures(tokens.mean(1), tokens, None)

        with pytest.raises(OptionError, match="lora_towers has image: Stem has no linear layer"):
            add_adapters(Stem(), 2, *IMAGE)

    def test_no_files(self, tmp_path):
        with pytest.raises(ValueError, match=r"no adapter_config\.json and no adapter_model\.safetensors"):
            merge_adapters(make("vit")[0], tmp_path)

    def test_files_of_another_network(self, tmp_path):
        _, encoder, _ = adapted("vit")
        parent = nn.Module()
        parent.image_encoder = encoder
        (folder,) = write_adapters(parent, tmp_path)
        for options in ({"hidden_size": 24}, {"num_layers": 1}):
            other = create_image_encoder("vit_compact", **{**VIT, **options})
            with pytest.raises(ValueError, match="are of another network"):
                merge_adapters(other, folder)
        assert "peft" in sys.modules

    def test_of_a_network_without_adapters_nothing_is_written(self, tmp_path):
        parent = nn.Module()
        parent.image_encoder, _ = make("vit")
        assert write_adapters(parent, tmp_path / "adapters") == []
        assert not (tmp_path / "adapters").exists()
        assert not has_adapters(parent)
        assert merged_state(parent).keys() == parent.state_dict().keys()

    def test_those_of_an_earlier_training_go(self, tmp_path):
        parent = nn.Module()
        _, parent.image_encoder, _ = adapted("vit")
        (folder,) = write_adapters(parent, tmp_path)
        (folder / "notes.txt").touch()
        parent.image_encoder, _ = make("vit")
        assert write_adapters(parent, tmp_path) == []
        assert [path.name for path in folder.iterdir()] == ["notes.txt"]
