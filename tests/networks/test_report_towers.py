# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Report encoders of other kinds than BERT, as transformers saves them: small, with random weights."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from monai_mgca.losses import MGCALoss
from monai_mgca.networks import MGCA, LastAttention, ReportEncoder, create_image_encoder
from monai_mgca.utils import CheckpointError

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
KINDS = {
    "bert": transformers.BertConfig(**SIZES),
    "roberta": transformers.RobertaConfig(**SIZES),
    "xlm-roberta": transformers.XLMRobertaConfig(**SIZES),
    "mpnet": transformers.MPNetConfig(**SIZES),
    "deberta": transformers.DebertaConfig(**SIZES, **RELATIVE, max_relative_positions=8),
    "deberta-v2": transformers.DebertaV2Config(
        **SIZES, **RELATIVE, position_buckets=4, share_att_key=True, norm_rel_ebd="layer_norm"
    ),
    "modernbert": transformers.ModernBertConfig(
        **SIZES, local_attention=4, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3
    ),
    "distilbert": transformers.DistilBertConfig(
        vocab_size=50, dim=32, n_layers=3, n_heads=4, hidden_dim=48, max_position_embeddings=24
    ),
    "electra": transformers.ElectraConfig(**SIZES, embedding_size=16),
}
IDS = torch.tensor([[2, 7, 8, 9, 10, 11, 3], [2, 11, 12, 3, 0, 0, 0], [2, 12, 13, 14, 3, 0, 0]])
MASK = (IDS > 0).long()
WORDS = torch.tensor([[-1, 0, 0, 1, 2, 3, -1], [-1, 0, 1, -1, -1, -1, -1], [-1, 0, 1, 2, -1, -1, -1]])


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory):
    """A folder with a model of a kind, whose weights are large enough for attention to differ."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    config = KINDS[request.param]
    config.initializer_range = 0.3
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


def own(folder, **settings):
    """What the library itself makes of the folder."""
    return transformers.AutoModel.from_pretrained(folder, trust_remote_code=False, **settings).eval()


def test_states_and_attention_are_the_librarys(saved):
    encoder, plain = ReportEncoder(saved).eval(), own(saved, attn_implementation="eager")
    with torch.no_grad():
        expected = plain(input_ids=IDS, attention_mask=MASK, output_attentions=True)
        states, attention = encoder(IDS, MASK)
    assert encoder.out_channels == states.shape[2] == 32
    torch.testing.assert_close(states[MASK > 0], expected.last_hidden_state[MASK > 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(attention, expected.attentions[-1][:, :, 0].mean(1), rtol=0, atol=1e-5)
    assert (attention[MASK == 0] == 0).all()
    assert attention.std() > 0.01


def test_every_weight_is_accounted_for(saved):
    state, expected = ReportEncoder(saved).model.state_dict(), own(saved).state_dict()
    assert set(expected) - set(state) == {name for name in expected if name.startswith("pooler.")}
    assert state
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


def test_missing_and_foreign_weights_are_named(saved, tmp_path, caplog):
    (tmp_path / "config.json").write_text((saved / "config.json").read_text())
    state = load_file(saved / "model.safetensors")
    state["lm_head.decoder.bias"] = torch.zeros(50)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with caplog.at_level("INFO"):
        ReportEncoder(tmp_path)
    assert "lm_head.decoder.bias" in caplog.text
    layer = next(name for name in state if ".2." in name and name.endswith("weight"))
    save_file({k: v for k, v in state.items() if k != layer}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights of the report encoder: .*\.2\."):
        ReportEncoder(tmp_path)


def test_a_training_step(saved):
    """Through MGCA and its loss, with recomputed layers: all that is trained has a gradient."""
    torch.manual_seed(0)
    checkpointing = not saved.name.startswith("mpnet")  # which cannot
    if not checkpointing:
        with pytest.raises(ValueError, match="A mpnet cannot recompute its layers: leave checkpointing at False"):
            ReportEncoder(saved, checkpointing=True)
    encoder = ReportEncoder(saved, num_layers=2, checkpointing=checkpointing)
    network = MGCA(create_image_encoder("resnet_tiny"), encoder, embed_dim=8, hidden_dim=16, num_prototypes=10).train()
    output = network(torch.rand(3, 1, 32, 32), IDS, MASK, WORDS)
    loss = MGCALoss()(output)
    (loss if isinstance(loss, torch.Tensor) else sum(loss.values())).backward()
    assert [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_fewer_layers_are_the_first(saved):
    encoder, plain = ReportEncoder(saved, num_layers=2).eval(), own(saved)
    with torch.no_grad():
        states, _ = encoder(IDS, MASK)
        hidden = plain(input_ids=IDS, attention_mask=MASK, output_hidden_states=True).hidden_states
    expected = plain.final_norm(hidden[2]) if hasattr(plain, "final_norm") else hidden[2]
    torch.testing.assert_close(states[MASK > 0], expected[MASK > 0], rtol=0, atol=1e-5)


def test_length_is_limited_by_positions(saved):
    encoder = ReportEncoder(saved, pretrained=False).eval()
    # RoBERTa and alike count from behind the padding on
    limit = 22 if saved.name.startswith(("roberta", "xlm-roberta", "mpnet")) else 24
    ids = torch.full((1, limit), 5)
    assert encoder(ids, torch.ones_like(ids))[0].isfinite().all()
    ids = torch.full((1, limit + 1), 5)
    with pytest.raises(ValueError, match=f"{limit + 1} tokens, but the encoder knows {limit}: lower max_length"):
        encoder(ids, torch.ones_like(ids))


def test_frozen_and_half_precision(saved):
    encoder = ReportEncoder(saved, freeze=True).train()
    assert not any(module.training for module in encoder.modules())
    expected, _ = encoder(IDS, MASK)
    assert not expected.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        states, attention = encoder(IDS, MASK)
    assert attention.dtype == torch.float32
    torch.testing.assert_close(attention.sum(1), torch.ones(3), rtol=0, atol=1e-3)
    assert states.isfinite().all()


class TestDictionaries:
    def test_of_another_kind(self):
        encoder = ReportEncoder({"model_type": "roberta", **SIZES}).eval()
        assert encoder.model.config.model_type == "roberta"
        assert encoder(IDS, MASK)[0].shape == (3, 7, 32)
        assert ReportEncoder({"model_type": "distilbert", "vocab_size": 50, "hidden_size": 24}).out_channels == 24

    def test_unknown(self):
        with pytest.raises(ValueError, match=r"transformers knows no model_type 'robberta'. Take an encoder"):
            ReportEncoder({"model_type": "robberta"})
        with pytest.raises(ValueError, match=r"RobertaConfig has no setting \['hiden_size'\]"):
            ReportEncoder({"model_type": "roberta", "hiden_size": 8})
        with pytest.raises(ValueError, match="official_embeddings are those of a BERT"):
            ReportEncoder({"model_type": "roberta", **SIZES}, official_embeddings=True)


class TestRefusals:
    OTHERS = {
        "gpt2": (transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20), "reads from left to right"),
        "t5": (
            transformers.T5Config(d_model=8, num_layers=1, num_heads=2, d_ff=8, vocab_size=20),
            "has a decoder, too",
        ),
        "bart": (transformers.BartConfig(vocab_size=20), "has a decoder, too"),
        "vit": (transformers.ViTConfig(hidden_size=8, num_attention_heads=2), "cannot be the report encoder"),
        "fnet": (
            transformers.FNetConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1),
            "No attention was computed",
        ),
        "clip_text_model": (
            transformers.CLIPTextConfig(**{**SIZES, "num_hidden_layers": 1}),
            "its first token sees no other",
        ),
    }

    @pytest.mark.parametrize("kind", OTHERS)
    def test_what_is_no_encoder(self, tmp_path, kind):
        config, reason = self.OTHERS[kind]
        config.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=rf"{reason}.*Take an encoder: BERT, DistilBERT, .*sentence-transformers"):
            ReportEncoder(tmp_path, pretrained=False)

    def test_what_is_not_there(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"neither a folder with a config.json nor a hub name .* pass the local folder"
        ):
            ReportEncoder("nobody/no-such-roberta")
        with pytest.raises(ValueError, match=r"has no config.json: give the folder that holds it"):
            ReportEncoder(tmp_path)


def sentence_folder(folder, place="", **pooling):
    """As sentence-transformers saves its models."""
    (folder / place).mkdir(parents=True, exist_ok=True)
    transformers.MPNetModel(KINDS["mpnet"]).save_pretrained(folder / place)
    modules = [{"idx": 0, "name": "0", "path": place, "type": "sentence_transformers.models.Transformer"}]
    modules += [{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    modules += [{"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    modes = {f"pooling_mode_{mode}": False for mode in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **modes, **pooling}))


class TestSentenceTransformers:
    @pytest.mark.parametrize("place", ["", "0_Transformer"])
    def test_own_pooling(self, tmp_path, place):
        sentence_folder(tmp_path, place, pooling_mode_mean_tokens=True)
        encoder = ReportEncoder(tmp_path)
        assert encoder.model.config.model_type == "mpnet"
        assert encoder.own_pooling() == "mean"
        image = create_image_encoder("resnet_tiny")
        network = MGCA(image, encoder, embed_dim=8, hidden_dim=16, num_prototypes=4, pool_report="own").eval()
        expected = MGCA(image, encoder, embed_dim=8, hidden_dim=16, num_prototypes=4, pool_report="mean").eval()
        expected.load_state_dict(network.state_dict())
        found, wanted = (net.encode_report(IDS, MASK, WORDS) for net in (network, expected))
        assert all(torch.equal(value, wanted[key]) for key, value in found.items())

    def test_others(self, tmp_path, saved):
        assert ReportEncoder(saved).own_pooling() == "cls"
        assert ReportEncoder(SIZES).own_pooling() == "cls"
        sentence_folder(tmp_path, pooling_mode_max_tokens=True)
        encoder = ReportEncoder(str(tmp_path))
        with pytest.raises(ValueError, match=r"is max_tokens, which MGCA does not have: .*--pool_report mean or cls"):
            encoder.own_pooling()


def test_whatever_stands_for_padding_is_not_seen(saved):
    """Of a tokenizer without a token for padding it is token 0, which of RoBERTa and alike is another one."""
    encoder = ReportEncoder(saved).eval()
    pad = encoder.model.config.pad_token_id or 0
    ids = torch.tensor([[2, 7, 8, 9, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0]])
    expected = encoder(ids[:, :5], mask[:, :5])
    for filler in (0, pad):
        states, attention = encoder(ids.masked_fill(mask == 0, filler), mask)
        torch.testing.assert_close(states[:, :5], expected[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(attention[:, :5], expected[1], rtol=0, atol=1e-6)


class TestWithoutFirstToken:
    """A tokenizer that puts no token before a text: the report is the mean, weighed by the mean's query."""

    @pytest.fixture
    def folder(self, tmp_path, train_tokenizer):
        torch.manual_seed(0)
        train_tokenizer("bytes", ["no effusion"], 280, cls=None, sep=None).save_pretrained(tmp_path)
        config = transformers.RobertaConfig(**{**SIZES, "vocab_size": 300}, initializer_range=0.3)
        transformers.RobertaModel(config).save_pretrained(tmp_path)
        return tmp_path

    def test_weights_are_of_the_mean_query(self, folder):
        encoder = ReportEncoder(folder).eval()
        assert encoder.first_token is False
        states, attention = encoder(IDS, MASK)
        plain = own(folder, attn_implementation="eager")
        keys = {}
        last = plain.encoder.layer[-1].attention.self
        for name in ("query", "key"):
            getattr(last, name).register_forward_hook(lambda _, __, out, name=name: keys.update({name: out}))
        expected = plain(input_ids=IDS, attention_mask=MASK).last_hidden_state
        torch.testing.assert_close(states[MASK > 0], expected[MASK > 0], rtol=0, atol=1e-5)
        for row, mask in enumerate(MASK.bool()):
            query, key = (keys[name][row][mask].unflatten(1, [4, 8]) for name in ("query", "key"))
            scores = torch.einsum("hd,nhd->hn", query.mean(0), key) / 8**0.5
            torch.testing.assert_close(attention[row][mask], scores.softmax(1).mean(0), rtol=0, atol=1e-5)
        assert (attention[MASK == 0] == 0).all()

    def test_scores_give_the_same_row(self, folder):
        """Where a network multiplies by itself, the scores are seen in place of queries and keys."""
        rows = []
        for implementation in ("sdpa", "eager"):
            model = own(folder, attn_implementation=implementation)
            with LastAttention() as seen:
                model(input_ids=IDS, attention_mask=MASK)
            rows.append(seen.mean_row(MASK))
        torch.testing.assert_close(rows[0], rows[1], rtol=0, atol=1e-6)

    def test_the_report_is_the_mean(self, folder):
        sizes = {"embed_dim": 8, "hidden_dim": 16, "num_prototypes": 4}
        network = MGCA(create_image_encoder("resnet_tiny"), ReportEncoder(folder), **sizes, pool_report="cls")
        assert network.pool_report == "mean"
