# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from monai_mgca.losses import TokenAlignmentLoss
from monai_mgca.networks import (
    AttentionMatcher,
    ProjectionHead,
    ReportEncoder,
    ViTImageEncoder,
    aggregate_words,
    attention_to_weights,
)
from monai_mgca.weights import load_encoder
from monai_mgca.weights.official_conversion import rename_official


def golden(shared: Path, name: str) -> tuple[dict[str, torch.Tensor], dict]:
    with np.load(shared / "goldens" / f"{name}.npz") as file:
        info = json.loads(file["info_json"].tobytes().decode()) if "info_json" in file.files else {}
        return {key: torch.from_numpy(file[key]) for key in file.files if key != "info_json"}, info


def weights_of(tensors: dict, prefix: str) -> dict:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def official_word_ids(tokens: list[str]) -> list[int]:
    """Word of each token by the rule of the official code, slot 0 for [CLS], -1 for none."""
    ids, word = [-1] * len(tokens), -1
    for i, token in enumerate(tokens[:-1]):
        if token == "[SEP]":
            ids[i] = word + 1
            return ids
        word += not token.startswith("##")
        ids[i] = word
    return [-1 if i == word else i for i in ids]


def head_of(state: dict, name: str) -> ProjectionHead:
    part = weights_of(state, name)
    head = ProjectionHead(
        part["linear1.weight"].shape[1], *part["linear1.weight"].shape[:1], len(part["linear2.weight"])
    )
    head.load_state_dict(part)
    return head


def close(given: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(given, wanted, rtol=0, atol=tolerance)


def test_vision_encoder_equals_the_official_one(shared):
    tensors, _ = golden(shared, "tiny_vision_encoder")
    names = {
        "vit.": "img_encoder_q.model.",
        "global.": "img_encoder_q.global_embed.",
        "local.": "img_encoder_q.local_embed.",
    }
    state = rename_official(
        {
            official + key: value
            for ours, official in names.items()
            for key, value in weights_of(tensors, f"weights/{ours}").items()
        }
    )
    encoder = ViTImageEncoder(32, in_channels=3, patch_size=8, hidden_size=24, mlp_dim=96, num_layers=2, num_heads=3)
    load_encoder(encoder, state)
    encoder.eval()
    data = weights_of(tensors, "data/")
    with torch.no_grad():
        features = encoder(data["images"])
        close(torch.cat((features.pooled[:, None], features.tokens), dim=1), data["tokens"])
        close(features.attention, data["last_attention"].mean(1)[:, 0, 1:])
        for name, given, golden_name in (
            ("image_head.", features.pooled, "global"),
            ("image_token_head.", features.tokens, "local"),
        ):
            head = head_of(state, name)
            close(head.project(given), data[f"{golden_name}_proj_train"])
            close(head.eval().project(given), data[f"{golden_name}_proj_eval_after_one_train_step"])


def text_encoder(state: dict, **options: bool) -> ReportEncoder:
    sizes = {
        "vocab_size": 177,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    encoder = ReportEncoder({**sizes, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}, **options)
    token_types = torch.zeros(2, 32)
    part = {**weights_of(state, "report_encoder."), "model.embeddings.token_type_embeddings.weight": token_types}
    encoder.load_state_dict(part)
    return encoder.eval()


@pytest.fixture
def text(shared):
    tensors, _ = golden(shared, "tiny_text_encoder")
    vocabulary = (shared / "goldens" / "vocab.txt").read_text().splitlines()
    official = {f"text_encoder_q.{key}": value for key, value in weights_of(tensors, "weights/").items()}
    official.pop("text_encoder_q.model.embeddings.position_ids")
    return rename_official(official), weights_of(tensors, "data/"), vocabulary


def test_text_encoder_equals_the_official_one(text):
    state, data, vocabulary = text
    ids, mask = data["input_ids"], data["attention_mask"]
    with torch.no_grad():
        states, attention = text_encoder(state, official_embeddings=True)(ids, mask)
        close(states, data["last_hidden_state"])
        close(attention, data["last_attention"].mean(1)[:, 0])
        states, attention = text_encoder(state, official_embeddings=True, official_attention=True)(ids, mask)
        # the golden has no slot for [CLS], as we
        word_ids = torch.tensor([official_word_ids([vocabulary[i] for i in row]) for row in ids]) - 1
        words, attention, _ = aggregate_words(states, attention, word_ids.clamp_min(-1), ids.shape[1] - 1)
        close(words, data["word_feat"])
        close(attention, data["word_attn"])
        close(states[:, 0], data["report_feat"])
        # from the golden's features and in float64, as batch norm over few rows enlarges rounding; without a mask, as
        # the official statistics take the empty slots in
        for name, given, wanted in (("report_head.", "report_feat", "report"), ("word_head.", "word_feat", "word")):
            head = head_of(state, name).double()
            close(head.project(data[given].double()), data[f"{wanted}_proj_train"].double())


def test_text_encoder_with_real_positions(text):
    state, data, _ = text
    with torch.no_grad():
        states, _ = text_encoder(state)(data["input_ids"], data["attention_mask"])
    close(states, data["last_hidden_state_if_positions_were_0_to_L"])


@pytest.mark.parametrize("name", ["aggregate_edge", "aggregate_full"])
def test_words_equal_the_official_ones(shared, name):
    tensors, info = golden(shared, name)
    word_ids = torch.tensor([official_word_ids(tokens) for tokens in info["tokens"]])
    # official pairing: token i with the attention to token i + 1
    attention = F.pad(tensors["in/cls_attention"], (0, 1))
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        pieces = tensors["in/embeddings"].to(dtype).requires_grad_()
        words, word_attention, mask = aggregate_words(pieces, attention, word_ids)
        close(words, tensors[f"out/agg_embeddings{str(dtype)[-2:]}"], tolerance)
    close(word_attention, tensors["out/agg_attention"], 1e-6)
    (gradient,) = torch.autograd.grad(words, pieces, tensors["in/cotangent"].double())
    close(gradient, tensors["out/grad_embeddings64"], 1e-14)
    assert torch.equal(mask, tensors["out/agg_embeddings64"].any(2))


@pytest.mark.parametrize("name", ["loss_12_vit_b8_mha", "loss_13_resnet_b8_mha_heads2"])
def test_learned_matcher_equals_the_official_one(shared, name):
    tensors, info = golden(shared, name)
    options, losses = info["hparams"], info["losses64"]
    image, words = (
        F.normalize(tensors[f"in/{part}_raw"].double(), dim=-1, eps=1e-12).requires_grad_()
        for part in ("patch", "word")
    )
    official = {
        key.removeprefix("mha/").replace("/", "."): value for key, value in tensors.items() if key.startswith("mha/")
    }
    state = rename_official(official)
    word_matcher, image_matcher = (AttentionMatcher(16, options["num_heads"]).double() for _ in range(2))
    word_matcher.load_state_dict(weights_of(state, "word_matcher."))
    image_matcher.load_state_dict(weights_of(state, "image_matcher."))
    visible, vit = ~tensors["in/pad_mask"], info["mode"] == "vit"
    word_weights = attention_to_weights(tensors["in/word_attn_pre"].double())
    image_weights = attention_to_weights(tensors["in/patch_attn_heads"].double().mean(1)) if vit else None
    loss = TokenAlignmentLoss(options["local_temperature"], mask_padding=False)
    sides = {
        "word": loss(words, word_matcher(words, image), word_weights),
        "patch": loss(image, image_matcher(image, words, visible, normalize=not vit), image_weights),
    }
    for side, value in sides.items():
        assert value.item() == pytest.approx(losses[f"loss_{side}"], abs=1e-9)
        gradients = torch.autograd.grad(value, (words, image))
        for part, gradient in zip(("word", "patch"), gradients, strict=True):
            close(gradient, tensors[f"grad64/g_{side}__{part}"], 1e-8)
