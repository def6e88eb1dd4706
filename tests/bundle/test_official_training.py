# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The overlay official.json against the official training restated plainly: formulas, optimizer, schedule.

The restatement has the modules of torch, timm, torchvision and transformers, the tensors' official names, and loops.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from ignite.engine import Events
from torch import nn
from transformers import AutoTokenizer, BertConfig, BertModel

from monai_mgca.engines import PrepareBatchReport
from monai_mgca.weights.official_conversion import convert_official_checkpoint, rename_official

EPOCHS, STEPS, BATCH, SIZE, LENGTH = 5, 4, 8, 48, 40
HIDDEN, DIM, PROTOTYPES = 32, 16, 12
HIGHEST, LOWEST = 1e-4, 1e-8
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
BERT |= {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
TAU1, TAU2, TAU3, EPSILON = 0.07, 0.1, 0.2, 0.05


def tower(model: nn.Module, channels: int, token_channels: int) -> nn.ModuleDict:
    """An encoder with its two projections."""

    def head(linear, *size):
        layers = (linear(channels, HIDDEN, *size), nn.BatchNorm1d(HIDDEN), nn.ReLU(), linear(HIDDEN, DIM, *size))
        return nn.ModuleDict({"head": nn.Sequential(*layers, nn.BatchNorm1d(DIM, affine=False))})

    whole, channels = head(nn.Linear), token_channels
    return nn.ModuleDict({"model": model, "global_embed": whole, "local_embed": head(nn.Conv1d, 1)})


class Official(nn.Module):
    """The official network and its loss, by the formulas of the paper and what its code does otherwise."""

    def __init__(self, encoder: str, pieces: int, learned: bool) -> None:
        super().__init__()
        self.vit, self.learned = encoder.startswith("vit"), learned
        if self.vit:
            timm = pytest.importorskip("timm")
            sizes = {"img_size": SIZE, "patch_size": 16, "embed_dim": 128, "depth": 4, "num_heads": 4}
            self.img_encoder_q = tower(timm.models.VisionTransformer(num_classes=0, **sizes), 128, 128)
        else:
            resnet = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
            resnet.fc = nn.Identity()
            self.img_encoder_q = tower(resnet, 512, 256)
        config = BertConfig(vocab_size=pieces, **BERT)
        config._attn_implementation = "eager"
        self.text_encoder_q = tower(BertModel(config, add_pooling_layer=False), 32, 32)
        types = self.text_encoder_q["model"].embeddings.token_type_embeddings  # the official BERT has none
        nn.init.zeros_(types.weight)
        types.requires_grad_(False)
        self.prototype_layer = nn.Linear(DIM, PROTOTYPES, bias=False)
        if learned:
            self.word_local_atten_layer = nn.MultiheadAttention(DIM, 1, batch_first=True)
            self.patch_local_atten_layer = nn.MultiheadAttention(DIM, 1, batch_first=True)

    def encode_image(self, image):
        """Three equal channels -> image embedding, patch embeddings, patch weights."""
        model, seen = self.img_encoder_q["model"], {}
        last = model.blocks[-1] if self.vit else model.layer3
        last.register_forward_hook(lambda module, given, made: seen.update(given=given[0], made=made))
        if self.vit:
            states = model.forward_features(image)
            pooled, tokens = states[:, 0], states[:, 1:]
            with torch.no_grad():
                query, key, _ = last.attn.qkv(last.norm1(seen["given"])).unflatten(2, (3, 4, 32)).unbind(2)
                attention = (torch.einsum("bnhd,bmhd->bhnm", query, key) / math.sqrt(32)).softmax(3)
            weights = token_weights(attention[:, :, 0, 1:].mean(1))
        else:
            pooled, tokens = model(image), seen["made"].flatten(2).transpose(1, 2)
            weights = torch.full(tokens.shape[:2], 1 / tokens.shape[1])
        return *project(self.img_encoder_q, pooled, tokens), weights

    def encode_report(self, ids, tokens):
        """Token ids (B, L) and their texts -> report embedding, word embeddings, word weights, empty slots."""
        mask = torch.tensor([[token != "[PAD]" for token in row] for row in tokens])
        places = torch.zeros_like(ids)
        output = self.text_encoder_q["model"](ids, mask.long(), position_ids=places, output_attentions=True)
        states, attention = output.last_hidden_state, output.attentions[-1].mean(1)[:, 0].detach()
        words, weights = states.new_zeros(len(ids), LENGTH, 32), states.new_zeros(len(ids), LENGTH)
        for i, row in enumerate(tokens):
            for j, places in enumerate(word_slots(row)):
                words[i, j] = sum(states[i, place] for place in places)
                weights[i, j] = sum(attention[i, place + 1] for place in places)  # the attention to the next token
        empty = (words == 0).all(2)
        report, words = project(self.text_encoder_q, states[:, 0], words[:, 1:])  # slot 0 is [CLS]
        return report, words, token_weights(weights[:, 1:]), empty[:, 1:]

    def find(self, side, queries, keys, hidden=None):
        """For every query its mixture of the keys."""
        if self.learned:
            return getattr(self, f"{side}_local_atten_layer")(queries, keys, keys, key_padding_mask=hidden)[0]
        scores = queries @ keys.transpose(1, 2) / TAU2
        scores = scores if hidden is None else scores.masked_fill(hidden[:, None], -torch.inf)
        return scores.softmax(2) @ keys

    def forward(self, image, ids, tokens):
        """The loss of a batch."""
        v, z, z_weights = self.encode_image(image)
        t, r, r_weights, empty = self.encode_report(ids, tokens)
        own = torch.arange(len(v))
        instance = F.cross_entropy(v @ t.T / TAU1, own) + F.cross_entropy(t @ v.T / TAU1, own)
        found = F.normalize(self.find("word", r, z), dim=2)
        local = contrast(r, found, r_weights)
        found = self.find("patch", z, r, empty)
        local = local + contrast(z, found if self.vit else F.normalize(found, dim=2), z_weights)
        x_v, x_t = self.prototype_layer(v), self.prototype_layer(t)
        prototype = -(codes(x_t) * F.log_softmax(x_v / TAU3, 1)).sum(1).mean() / 2
        prototype = prototype - (codes(x_v) * F.log_softmax(x_t / TAU3, 1)).sum(1).mean() / 2
        return instance + local + prototype


def project(part, pooled, tokens):
    local = part["local_embed"]["head"](tokens.transpose(1, 2)).transpose(1, 2)
    return F.normalize(part["global_embed"]["head"](pooled), dim=1), F.normalize(local, dim=2)


def word_slots(tokens):
    """The places of the pieces of every slot: [CLS] first, [SEP] last; without one the last word is lost."""
    slots = []
    for i, token in enumerate(tokens[:-1]):
        if token.startswith("##") and slots:
            slots[-1].append(i)
        else:
            slots.append([i])
        if token == "[SEP]":
            return slots
    return slots[:-1]


def token_weights(attention):
    rows = []
    for row in attention:
        positive = row[row > 0]
        low, high = (torch.quantile(positive, share) if len(positive) else 0 for share in (0.1, 0.9))
        row = torch.where(row > 0, row.clamp(low, high), 0)
        rows.append(row / row.sum() if row.sum() > 0 else row)
    return torch.stack(rows)


def contrast(tokens, found, weights):
    """The two cross-entropies of a side, all slots among the negatives."""
    scores = tokens @ found.transpose(1, 2) / TAU2
    rows, columns = (s.log_softmax(2).diagonal(dim1=1, dim2=2) for s in (scores, scores.transpose(1, 2)))
    return -(weights * (rows + columns)).sum() / (2 * len(tokens))


@torch.no_grad()
def codes(scores):
    matrix = (scores / EPSILON).exp()
    for _ in range(3):
        matrix = matrix / matrix.sum(0) / PROTOTYPES
        matrix = matrix / matrix.sum(1, keepdim=True) / len(matrix)
    return matrix / matrix.sum(1, keepdim=True)


def rate(step):
    total, warm = EPOCHS * STEPS, int(0.4 * EPOCHS * STEPS)
    if step < warm:
        return LOWEST + (HIGHEST - LOWEST) * step / warm
    return LOWEST + (HIGHEST - LOWEST) * (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2


def train_plainly(network, batches, tokenizer):
    """The loss of every step."""
    optimizer = torch.optim.AdamW(network.parameters(), 1, betas=(0.9, 0.999), weight_decay=0.05, foreach=False)
    losses, prototypes = [], network.prototype_layer.weight
    for step, (image, ids) in enumerate(batches):
        prototypes.data = F.normalize(prototypes.data, dim=1)
        optimizer.zero_grad()
        loss = network(image, ids, [tokenizer.convert_ids_to_tokens(row) for row in ids.tolist()])
        loss.backward()
        if step < STEPS:  # the first epoch
            prototypes.grad = None
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


class Recorder(PrepareBatchReport):
    """Hands the images over in float64, and remembers what the network got."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def __call__(self, *args, **kwargs):
        image, ids, others, reports = super().__call__(*args, **kwargs)
        self.batches.append((image.double(), ids))
        return image.double(), ids, others, reports


@pytest.fixture
def train(new_bundle, tmp_path):
    """Trains by official.json from converted weights; gives what was fed, the losses, the weights before and after."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)

    def run(official, channels=3, **overrides):
        path, converted = tmp_path / "official.ckpt", tmp_path / f"converted_{channels}.pt"
        torch.save({"state_dict": official.state_dict()}, path)
        convert_official_checkpoint(path, converted, in_channels=channels)
        recorder, options = Recorder(), {"image_size": SIZE, "max_length": LENGTH, "hidden_dim": HIDDEN}
        options |= {"embed_dim": DIM, "num_prototypes": PROTOTYPES, "batch_size": BATCH, "epochs": EPOCHS}
        options |= {"learning_rate": HIGHEST, "min_learning_rate": LOWEST, "warmup": 0.4, "val_interval": EPOCHS + 1}
        options |= {"pretrained_path": str(converted), "train#trainer#prepare_batch": recorder, **overrides}
        options["network_def#report_encoder#source"] = {**BERT, "vocab_size": len(vocabulary(new_bundle))}
        workflow = new_bundle().workflow("train", "official", **options)
        workflow.initialize()
        losses, trainer = [], workflow.parser.get_parsed_content("train#trainer")
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output[0]["loss"].detach())
        )
        start = {name: value.clone() for name, value in trainer.network.state_dict().items()}
        trainer.run()
        return recorder.batches, [float(loss) for loss in losses], start, trainer.network.state_dict()

    yield run
    torch.set_default_dtype(before)


def vocabulary(new_bundle):
    return AutoTokenizer.from_pretrained(new_bundle().data / "report_encoder", trust_remote_code=False)


CASES = {
    "vit": {"image_encoder": "vit_compact"},
    "vit, learned matcher": {"image_encoder": "vit_compact", "matcher": "learned"},
    "resnet": {"image_encoder": "resnet18", "network_def#image_encoder#layers": [1, 1, 1, 1], "image_size": 32},
}


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps_are_the_official_ones(train, new_bundle, name):
    tokenizer = vocabulary(new_bundle)
    official = Official(CASES[name]["image_encoder"], len(tokenizer), "matcher" in CASES[name])
    batches, losses, _, weights = train(official, **CASES[name])
    assert len(batches) == EPOCHS * STEPS
    assert all(image.shape[1] == 3 for image, _ in batches)
    wanted = train_plainly(official.train(), batches, tokenizer)
    assert losses == pytest.approx(wanted, rel=0, abs=1e-8)
    expected = rename_official(official.state_dict())
    for key, value in weights.items():
        # a bias that batch norm takes away again has no gradient but rounding, of which AdamW makes steps
        tolerance = 1e-6 if key.endswith(("linear1.bias", "linear2.bias", "running_mean")) else 1e-8
        torch.testing.assert_close(value, expected[key].to(value.dtype), rtol=0, atol=tolerance, msg=key)


def test_what_is_folded_learns_at_a_third_and_at_half_of_the_rate(train, new_bundle):
    """What docs/official_weights.md says of gray kernels, and of [CLS] with its position in one."""
    official = Official("vit_compact", len(vocabulary(new_bundle)), learned=False)
    folded = {"channels": 1, "in_channels": 1, "network_def#image_encoder#cls_position": False}
    apart, gray = (train(official, image_encoder="vit_compact", **options) for options in ({}, folded))
    assert gray[1][0] == pytest.approx(apart[1][0], abs=1e-12)  # the same function of the image
    assert max(abs(a - b) for a, b in zip(apart[1], gray[1], strict=True)) > 1e-3

    def moved(run, *names):
        sums = (sum(state[f"image_encoder.backbone.{name}"].sum(1) for name in names) for state in run[2:])
        return torch.sub(*sums).norm().item()

    kernels = "patch_embedding.patch_embeddings.weight"
    assert moved(gray, kernels) / moved(apart, kernels) == pytest.approx(1 / 3, abs=0.03)
    assert moved(gray, "cls_token") / moved(apart, "cls_token", "cls_position") == pytest.approx(1 / 2, abs=0.06)
