# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

import json
from argparse import Namespace
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from monai_mgca.apps.weights_command import main
from monai_mgca.networks import MGCA, ImageEmbedder, ProjectionHead, ReportEncoder, ResNetImageEncoder, ViTImageEncoder
from monai_mgca.utils import CheckpointError
from monai_mgca.weights import load_encoder
from monai_mgca.weights.official_conversion import convert_official_checkpoint

BERT = {"vocab_size": 30, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
VIT = {"image_size": 32, "patch_size": 8, "hidden_size": 24, "mlp_dim": 48, "num_layers": 2, "num_heads": 3}


def head_shapes(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    local = (1,) if "local" in prefix else ()
    shapes = {"0.weight": (20, channels, *local), "0.bias": (20,), "3.weight": (8, 20, *local), "3.bias": (8,)}
    shapes |= {"1.weight": (20,), "1.bias": (20,)}
    for norm, size in (("1", 20), ("4", 8)):
        shapes |= {f"{norm}.running_mean": (size,), f"{norm}.running_var": (size,), f"{norm}.num_batches_tracked": ()}
    return {f"{prefix}.head.{key}": shape for key, shape in shapes.items()}


def vit_shapes() -> dict[str, tuple[int, ...]]:
    shapes = {"cls_token": (1, 1, 24), "pos_embed": (1, 17, 24), "norm.weight": (24,), "norm.bias": (24,)}
    shapes |= {"patch_embed.proj.weight": (24, 3, 8, 8), "patch_embed.proj.bias": (24,)}
    layers = {"norm1": (24,), "attn.qkv": (72, 24), "attn.proj": (24, 24), "norm2": (24,)}
    layers |= {"mlp.fc1": (48, 24), "mlp.fc2": (24, 48)}
    for block in range(2):
        for name, shape in layers.items():
            shapes |= {f"blocks.{block}.{name}.weight": shape, f"blocks.{block}.{name}.bias": shape[:1]}
    return shapes


def bert_shapes(layers: int) -> dict[str, tuple[int, ...]]:
    norm = {"LayerNorm.weight": (16,), "LayerNorm.bias": (16,)}
    shapes = {
        "word_embeddings.weight": (30, 16),
        "position_embeddings.weight": (40, 16),
        "position_ids": (1, 40),
        **norm,
    }
    shapes = {f"embeddings.{key}": shape for key, shape in shapes.items()}
    linears = {"intermediate.dense": (32, 16), "output.dense": (16, 32)}
    for kind in ("attention", "crossattention"):
        linears |= {f"{kind}.self.{name}": (16, 16) for name in ("query", "key", "value")}
        linears |= {f"{kind}.output.dense": (16, 16)}
    for layer in range(layers):
        for name, shape in linears.items():
            shapes |= {f"encoder.layer.{layer}.{name}.weight": shape, f"encoder.layer.{layer}.{name}.bias": shape[:1]}
        for name in ("attention.output.", "crossattention.output.", "output."):
            shapes |= {f"encoder.layer.{layer}.{name}{key}": shape for key, shape in norm.items()}
    return shapes


def published(kind: str = "vit", layers: int = 6, matcher: bool = True) -> dict[str, torch.Tensor]:
    """Random tensors by the names of the published weights."""
    if kind == "vit":
        image, channels = vit_shapes(), (24, 24)
    else:
        state = ResNetImageEncoder("basic", (1, 1, 1, 1), width=8, in_channels=3).backbone.state_dict()
        image, channels = {key: tuple(value.shape) for key, value in state.items()}, (64, 32)
    shapes = {f"img_encoder_q.model.{key}": shape for key, shape in image.items()}
    shapes |= {f"text_encoder_q.model.{key}": shape for key, shape in bert_shapes(layers).items()}
    shapes |= head_shapes("img_encoder_q.global_embed", channels[0])
    shapes |= head_shapes("img_encoder_q.local_embed", channels[1])
    shapes |= head_shapes("text_encoder_q.global_embed", 16) | head_shapes("text_encoder_q.local_embed", 16)
    shapes["prototype_layer.weight"] = (5, 8)
    for side in ("word", "patch") if matcher else ():
        sizes = {"in_proj_weight": (24, 8), "in_proj_bias": (24,), "out_proj.weight": (8, 8), "out_proj.bias": (8,)}
        shapes |= {f"{side}_local_atten_layer.{key}": shape for key, shape in sizes.items()}
    whole = ("num_batches_tracked", "position_ids")
    return {
        key: torch.ones(shape).long() if key.endswith(whole) else torch.rand(shape) for key, shape in shapes.items()
    }


def save(path: Path, state: dict[str, torch.Tensor], **others) -> Path:
    torch.save({"epoch": 3, "state_dict": state, "callbacks": {"stop": {"best": torch.tensor(1.0)}}, **others}, path)
    return path


def built(settings: dict) -> MGCA:
    image = settings["image_encoder"]
    encoder = ViTImageEncoder(**image) if "patch_size" in image else ResNetImageEncoder(**image)
    return MGCA(encoder, ReportEncoder(**settings["report_encoder"]), **settings["network"])


def test_vit_file_becomes_a_network(tmp_path):
    state = published()
    path = save(tmp_path / "vit.ckpt", state, hyper_parameters=Namespace(seed=42), loops=defaultdict(dict))
    done = convert_official_checkpoint(path, tmp_path / "new" / "model_pretrain.pt")
    made = torch.load(tmp_path / "new" / "model_pretrain.pt", weights_only=True)
    network = MGCA(
        ViTImageEncoder(**VIT),
        ReportEncoder({**BERT, "num_hidden_layers": 6, "max_position_embeddings": 40}, official_embeddings=True),
        embed_dim=8,
        hidden_dim=20,
        num_prototypes=5,
        matcher="learned",
    )
    network.load_state_dict(made, strict=True)
    assert done.moved == len(made)
    assert done.architecture == "vit"
    assert all("crossattention" in name or name.endswith("position_ids") for name in done.ignored)
    assert len(done.ignored) + len(made) == len(state) + 1  # with the zeros for token types
    assert not (set(tmp_path.rglob("*.partial")))
    first = state["img_encoder_q.model.patch_embed.proj.weight"]
    position = state["img_encoder_q.model.pos_embed"]
    for ours, wanted in {
        "image_encoder.backbone.patch_embedding.patch_embeddings.weight": first.sum(1, keepdim=True),
        "image_encoder.backbone.cls_token": state["img_encoder_q.model.cls_token"] + position[:, :1],
        "image_encoder.backbone.patch_embedding.position_embeddings": position[:, 1:],
        "image_encoder.backbone.blocks.1.attn.out_proj.bias": state["img_encoder_q.model.blocks.1.attn.proj.bias"],
        "image_encoder.backbone.blocks.0.norm2.weight": state["img_encoder_q.model.blocks.0.norm2.weight"],
        "image_head.linear1.weight": state["img_encoder_q.global_embed.head.0.weight"],
        "image_token_head.linear2.weight": state["img_encoder_q.local_embed.head.3.weight"][:, :, 0],
        "report_head.norm1.running_var": state["text_encoder_q.global_embed.head.1.running_var"],
        "word_head.norm2.running_mean": state["text_encoder_q.local_embed.head.4.running_mean"],
        "prototypes.weight": state["prototype_layer.weight"],
        "word_matcher.attention.in_proj_weight": state["word_local_atten_layer.in_proj_weight"],
        "image_matcher.attention.out_proj.bias": state["patch_local_atten_layer.out_proj.bias"],
        "report_encoder.model.encoder.layer.5.output.dense.weight": state[
            "text_encoder_q.model.encoder.layer.5.output.dense.weight"
        ],
        "report_encoder.model.embeddings.token_type_embeddings.weight": torch.zeros(2, 16),
    }.items():
        assert torch.equal(made[ours], wanted), ours


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_settings_build_a_network_that_runs(kind, tmp_path):
    path = save(tmp_path / "any.ckpt", published(kind, matcher=False))
    done = convert_official_checkpoint(path, tmp_path / "all.safetensors", in_channels=3)
    network = built(json.loads(json.dumps(done.settings)))
    network.load_state_dict(load_file(tmp_path / "all.safetensors"), strict=True)
    assert done.architecture == kind
    assert network.normalize_image_context == (kind == "resnet")
    assert network.matcher == "similarity"
    assert network.report_encoder.official_attention
    ids = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]])
    with torch.no_grad():
        output = network.eval()(torch.rand(2, 3, 32, 32), ids, (ids > 0).long(), torch.tensor([[0, 1, 2, -1]] * 2))
    assert all(torch.isfinite(value).all() for value in output.values())


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_with_three_channels_nothing_is_summed(kind, tmp_path):
    """So every tensor that the official code runs can be had back, bit by bit; and the gray ones are made of them."""
    state = published(kind)
    path = save(tmp_path / "any.ckpt", state)
    done = convert_official_checkpoint(path, tmp_path / "rgb.pt", in_channels=3)
    made = torch.load(tmp_path / "rgb.pt", weights_only=True)
    vision = "image_encoder.backbone."
    held = {value.double().sum().item() for value in made.values()}
    if kind == "vit":
        back = torch.cat((made[f"{vision}cls_position"], made[f"{vision}patch_embedding.position_embeddings"]), dim=1)
        assert torch.equal(back, state.pop("img_encoder_q.model.pos_embed"))
        assert done.settings["image_encoder"]["cls_position"] is True
    assert all(value.double().sum().item() in held for key, value in state.items() if key not in done.ignored)
    gray = convert_official_checkpoint(path, tmp_path / "gray.pt")
    assert not gray.settings["image_encoder"].get("cls_position")
    folded = torch.load(tmp_path / "gray.pt", weights_only=True)
    image, both = torch.rand(2, 1, 32, 32), []
    for settings, weights, pixels in (
        (done.settings, made, image.expand(-1, 3, -1, -1)),
        (gray.settings, folded, image),
    ):
        network = built(settings)
        network.load_state_dict(weights, strict=True)
        both.append(network.eval().image_embedder()(pixels))
    torch.testing.assert_close(*both, rtol=0, atol=1e-5)


def test_encoder_alone_fits_the_embedder(tmp_path):
    path = save(tmp_path / "vit.ckpt", published())
    done = convert_official_checkpoint(path, tmp_path / "model.pt", encoder_only=True)
    embedder = ImageEmbedder(ViTImageEncoder(**VIT), ProjectionHead(24, 20, 8))
    embedder.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    assert done.moved == len(embedder.state_dict())
    assert load_encoder(ViTImageEncoder(**VIT), tmp_path / "model.pt") == len(vit_shapes())


def test_layers_and_matchers_that_never_ran_are_left_out(tmp_path):
    extra = {
        "text_encoder_q.model.pooler.dense.weight": torch.zeros(1),
        "img_encoder_q.model.head.bias": torch.zeros(1),
    }
    extra |= {"text_encoder_q.model.embeddings.token_type_embeddings.weight": torch.ones(2, 16)}
    state = published(layers=12) | extra
    path = save(tmp_path / "vit.ckpt", state, hyper_parameters={"use_local_atten": False, "num_heads": 1})
    done = convert_official_checkpoint(path, tmp_path / "out.pt")
    made = torch.load(tmp_path / "out.pt", weights_only=True)
    assert done.settings["report_encoder"]["source"]["num_hidden_layers"] == 6
    assert done.settings["network"]["matcher"] == "similarity"
    assert not made["report_encoder.model.embeddings.token_type_embeddings.weight"].any()
    assert set(extra) <= set(done.ignored)
    assert "word_local_atten_layer.in_proj_bias" in done.ignored
    path = save(tmp_path / "vit.ckpt", state, hyper_parameters={"use_local_atten": True, "num_heads": 2})
    done = convert_official_checkpoint(path, tmp_path / "out.pt")
    assert (done.settings["network"]["matcher"], done.settings["network"]["matcher_heads"]) == ("learned", 2)
    done = convert_official_checkpoint(path, tmp_path / "out.pt", matcher="similarity")
    assert done.settings["network"]["matcher"] == "similarity"


@pytest.mark.parametrize(
    "key",
    [
        "img_encoder_q.model.blocks.1.attn.proj.bias",
        "img_encoder_q.model.patch_embed.proj.weight",
        "img_encoder_q.model.cls_token",
        "img_encoder_q.global_embed.head.1.running_var",
        "text_encoder_q.local_embed.head.3.weight",
        "text_encoder_q.model.encoder.layer.4.attention.self.key.bias",
        "text_encoder_q.model.embeddings.word_embeddings.weight",
        "prototype_layer.weight",
        "patch_local_atten_layer.out_proj.bias",
    ],
)
def test_missing_tensors_are_named(key, tmp_path):
    state = published()
    del state[key]
    with pytest.raises(CheckpointError, match=key.split("model.")[-1] if "cls" in key else key):
        convert_official_checkpoint(save(tmp_path / "vit.ckpt", state), tmp_path / "out.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["vit.ckpt"]


@pytest.mark.parametrize(
    "key", ["queue", "img_encoder_q.model.blocks.0.attn.gate", "text_encoder_q.model.encoder.layer.0.adapter.weight"]
)
def test_foreign_tensors_are_named(key, tmp_path):
    state = published() | {key: torch.zeros(3)}
    with pytest.raises(CheckpointError, match=f"Foreign: {key}"):
        convert_official_checkpoint(save(tmp_path / "vit.ckpt", state), tmp_path / "out.pt")


def test_other_shapes_and_ill_arguments_are_refused(tmp_path):
    state = published() | {"text_encoder_q.global_embed.head.3.weight": torch.zeros(9, 20)}
    path = save(tmp_path / "vit.ckpt", state)
    with pytest.raises(
        CheckpointError, match=r"text_encoder_q.global_embed.head.3.weight \(\(9, 20\) instead of \(8, 20\)"
    ):
        convert_official_checkpoint(path, tmp_path / "out.pt")
    with pytest.raises(CheckpointError, match=r"must end with .pt or .safetensors"):
        convert_official_checkpoint(path, tmp_path / "out.ckpt")
    with pytest.raises(ValueError, match="in_channels must be 1 or 3"):
        convert_official_checkpoint(path, tmp_path / "out.pt", in_channels=2)


class Settings:
    """Stands for the classes that a training script leaves in its checkpoints."""


def test_pickled_classes_are_refused_by_name(tmp_path):
    path = save(tmp_path / "vit.ckpt", published(), hyper_parameters=Settings())
    with pytest.raises(CheckpointError, match=r"vit.ckpt' holds pickled objects .*Settings.*trusted"):
        convert_official_checkpoint(path, tmp_path / "out.pt")


def test_command_line_prints_what_it_did(tmp_path, capsys):
    path = save(tmp_path / "vit.ckpt", published())
    assert main(["convert", str(path), str(tmp_path / "out.pt"), "--in-channels", "3"]) == 0
    printed = capsys.readouterr().out
    assert "matcher learned" in printed
    assert "encoder.layer.*.crossattention.self.query.weight 0, 1, 2, 3, 4, 5" in printed
    settings = json.loads(printed[printed.index("{") :])
    built(settings).load_state_dict(torch.load(tmp_path / "out.pt", weights_only=True), strict=True)
