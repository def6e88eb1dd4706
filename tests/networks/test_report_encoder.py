# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import time

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from monai_mgca.networks import ReportEncoder
from monai_mgca.transforms import TokenizeReport
from monai_mgca.utils import CheckpointError

SIZES = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
}
IDS = torch.tensor([[2, 7, 8, 9, 10, 3], [2, 11, 3, 0, 0, 0], [2, 12, 13, 14, 3, 0]])
MASK = (IDS > 0).long()


@pytest.fixture
def encoder() -> ReportEncoder:
    torch.manual_seed(0)
    return ReportEncoder(SIZES).eval()


@pytest.fixture
def folder(tmp_path, encoder):
    """A BERT as transformers saves it, config and weights."""
    transformers.BertModel(transformers.BertConfig(**SIZES)).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def eager(encoder: ReportEncoder) -> transformers.BertModel:
    """The same BERT with plain attention, which gives all probabilities."""
    config = transformers.BertConfig(**{**SIZES, "num_hidden_layers": len(encoder.model.encoder.layer)})
    config._attn_implementation = "eager"
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    model.load_state_dict(encoder.model.state_dict())
    return model


def test_shapes(encoder):
    states, attention = encoder(IDS, MASK)
    assert states.shape == (3, 6, 24)
    assert encoder.out_channels == 24
    assert attention.shape == (3, 6)
    assert not attention.requires_grad
    torch.testing.assert_close(attention.sum(1), torch.ones(3))
    assert (attention[MASK == 0] == 0).all()
    assert (attention[MASK == 1] > 0).all()


@pytest.mark.parametrize("num_layers", [None, 1, 2])
def test_equals_bert_with_eager_attention(num_layers):
    torch.manual_seed(0)
    encoder = ReportEncoder(SIZES, num_layers=num_layers).eval()
    model = eager(encoder)
    with torch.no_grad():
        expected = model(IDS, attention_mask=MASK, output_attentions=True)
        states, attention = encoder(IDS, MASK)
    torch.testing.assert_close(states[MASK > 0], expected.last_hidden_state[MASK > 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(attention, expected.attentions[-1][:, :, 0].mean(1), rtol=1e-4, atol=1e-6)
    assert attention.std() > 0.01


def test_padding_does_not_change_real_tokens(encoder):
    longer = torch.cat((IDS, torch.zeros(3, 5, dtype=torch.long)), dim=1)
    states, attention = encoder(IDS, MASK)
    more_states, more_attention = encoder(longer, (longer > 0).long())
    torch.testing.assert_close(more_states[:, :6][MASK > 0], states[MASK > 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(more_attention[:, :6], attention, rtol=1e-4, atol=1e-6)
    assert (more_attention[:, 6:] == 0).all()


def test_an_empty_report_is_finite(encoder):
    mask = MASK.clone()
    mask[1] = 0
    states, attention = encoder(IDS, mask)
    assert states.isfinite().all()
    assert attention[1, 0] == 1
    assert mask[1].sum() == 0, "the caller's mask is left alone"


def test_official_embeddings_have_no_position_and_no_type():
    torch.manual_seed(0)
    encoder = ReportEncoder(SIZES, official_embeddings=True).eval()
    order = torch.tensor([[0, 3, 1, 2, 4, 5]])
    states, _ = encoder(IDS[:1], MASK[:1])
    shuffled, _ = encoder(IDS[:1][:, order[0]], MASK[:1])
    torch.testing.assert_close(shuffled, states[:, order[0]], rtol=1e-4, atol=1e-5)
    types = encoder.model.embeddings.token_type_embeddings.weight
    assert (types == 0).all()
    assert not types.requires_grad
    plain = ReportEncoder(SIZES).eval()
    a, b = plain(IDS[:1], MASK[:1])[0], plain(IDS[:1][:, order[0]], MASK[:1])[0]
    assert not torch.allclose(b, a[:, order[0]], atol=1e-2)


def test_official_attention_is_that_of_the_next_token(encoder):
    expected = encoder(IDS, MASK)[1]
    encoder.official_attention = True
    attention = encoder(IDS, MASK)[1]
    torch.testing.assert_close(attention[:, :-1], expected[:, 1:])
    assert (attention[:, -1] == 0).all()


@pytest.mark.parametrize("checkpointing", [True, False])
def test_every_parameter_gets_a_gradient(checkpointing):
    torch.manual_seed(0)
    encoder = ReportEncoder(
        {**SIZES, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}, checkpointing=checkpointing
    ).train()
    encoder(IDS, MASK)[0].square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_checkpointing_gives_the_same_gradients():
    sizes = {**SIZES, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
    plain, saving = ReportEncoder(sizes).train(), ReportEncoder(sizes, checkpointing=True).train()
    saving.load_state_dict(plain.state_dict())
    calls = []
    saving.model.encoder.layer[0].attention.register_forward_hook(lambda *args: calls.append(1))
    weight = torch.randn(3, 6, 24)
    for encoder in (plain, saving):
        (encoder(IDS, MASK)[0] * weight).sum().backward()
    assert len(calls) == 2, "the layers are computed again in the backward pass"
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_frozen_stays_in_evaluation_mode_without_gradients():
    encoder = ReportEncoder(SIZES, freeze=True).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    states, _attention = encoder(IDS, MASK)
    assert not states.requires_grad
    assert torch.equal(states, encoder(IDS, MASK)[0])
    assert torch.nn.ModuleList([encoder]).train()[0].training is False
    assert ReportEncoder(SIZES).train().training is True


def test_from_a_folder(folder):
    expected = transformers.BertModel.from_pretrained(folder).state_dict()
    encoder = ReportEncoder(folder)
    state = encoder.model.state_dict()
    assert state
    assert all(torch.equal(value, expected[name]) for name, value in state.items())
    assert not any("pooler" in name for name in state)
    assert ReportEncoder(str(folder)).out_channels == 24
    fewer = ReportEncoder(folder, num_layers=2).model
    assert len(fewer.encoder.layer) == 2
    for name, value in fewer.state_dict().items():
        assert torch.equal(value, expected[name])


def test_from_a_folder_of_a_language_model(tmp_path):
    """The weights of a BERT with a head bear a prefix and the head's own tensors."""
    model = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    model.save_pretrained(tmp_path)
    for name, value in ReportEncoder(tmp_path).model.state_dict().items():
        assert torch.equal(value, model.bert.state_dict()[name])


def test_a_folder_without_weights_says_so(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds no weights .*pretrained=False") as error:
        ReportEncoder(folder)
    assert str(folder) in str(error.value)
    random = ReportEncoder(folder, pretrained=False)
    assert len(random.model.encoder.layer) == 3


def test_weights_that_lack_a_layer_are_an_error(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(CheckpointError, match=r"lacks weights .*encoder\.layer\.3\.") as error:
        ReportEncoder(folder)
    assert str(folder) in str(error.value)


def test_an_unreachable_hub_name_says_what_to_do(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # the variable was read at import
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"'nobody/no-such-bert' is neither .* pass the local folder"):
        ReportEncoder("nobody/no-such-bert")
    assert time.monotonic() - start < 5


def test_a_missing_folder_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"neither a folder with a config.json"):
        ReportEncoder(tmp_path / "missing")


def test_what_is_no_encoder_is_refused(tmp_path):
    transformers.GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"must be an encoder.*is a gpt2"):
        ReportEncoder(tmp_path)


@pytest.mark.parametrize("num_layers", [0, -1, 4])
def test_num_layers_is_named(num_layers):
    with pytest.raises(ValueError, match=f"num_layers must be 1 to 3, got {num_layers}"):
        ReportEncoder(SIZES, num_layers=num_layers)


def test_reports_that_are_too_long_are_an_error(encoder):
    ids = torch.full((1, 17), 5)
    with pytest.raises(ValueError, match="17 tokens, but the encoder knows 16: lower max_length"):
        encoder(ids, torch.ones_like(ids))


class TestOfOwnCode:
    """As CXR-BERT is published: a BERT under a name that transformers does not know, with code beside it."""

    @pytest.fixture
    def folder(self, tmp_path):
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        config = transformers.BertConfig(vocab_size=30, max_position_embeddings=16, **sizes)
        transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
        content = json.loads((tmp_path / "config.json").read_text())
        content |= {"model_type": "cxr-bert", "auto_map": {"AutoModel": "modeling_cxrbert.CXRBertModel"}}
        (tmp_path / "config.json").write_text(json.dumps(content))
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "effusion"]
        (tmp_path / "vocab.txt").write_text("\n".join(words))
        settings = {"tokenizer_class": "CXRBertTokenizer", "auto_map": {"AutoTokenizer": ["c.CXRBertTokenizer", None]}}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        return tmp_path

    def test_its_weights_are_those_of_a_bert(self, folder, caplog):
        with caplog.at_level("INFO"):
            encoder = ReportEncoder(str(folder)).eval()
        assert "code of its own (cxr-bert), which is not run" in caplog.text
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, "model_type": "bert"}))
        expected, ids = ReportEncoder(str(folder)).eval(), torch.tensor([[2, 5, 6, 3]])
        for found, wanted in zip(encoder(ids, ids > 0), expected(ids, ids > 0), strict=True):
            assert torch.equal(found, wanted)

    def test_its_tokenizer_too(self, folder):
        assert TokenizeReport(str(folder), max_length=5)("no effusion")["input_ids"].tolist() == [2, 5, 6, 3, 0]

    def test_layers_that_a_bert_does_not_have(self, folder):
        path = folder / "model.safetensors"
        state = load_file(path) | {"bert.encoder.layer.0.crossattention.self.query.weight": torch.zeros(16, 16)}
        save_file(state, path, metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=r"not quite a BERT, .*crossattention"):
            ReportEncoder(str(folder))

    @pytest.mark.parametrize("kind", ["evil", "distilbert-own"])
    def test_what_is_no_bert_says_what_to_set(self, folder, kind):
        content = json.loads((folder / "config.json").read_text())
        for name in ("hidden_size", "intermediate_size"):
            content.pop(name)
        (folder / "config.json").write_text(json.dumps({**content, "model_type": kind}))
        with pytest.raises(ValueError, match='Where its weights are a BERT, set "model_type": "bert" in it'):
            ReportEncoder(str(folder))

    def test_no_settings(self, tmp_path):
        with pytest.raises(ValueError, match=r"has no config.json: give the folder that holds it"):
            ReportEncoder(str(tmp_path))


class TestTokenizerOfAnotherModel:
    def test_beside_the_settings(self, tmp_path):
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(320))]
        (tmp_path / "vocab.txt").write_text("\n".join(words))
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 100}))
        with pytest.raises(ValueError, match="the tokenizer has 325 pieces, the encoder 100"):
            TokenizeReport(str(tmp_path))("w1")

    def test_in_the_encoder(self):
        encoder = ReportEncoder({**SIZES, "vocab_size": 50})
        with pytest.raises(ValueError, match="tokenizer has at least 61 pieces, the encoder 50"):
            encoder(torch.tensor([[2, 60, 3]]), torch.ones(1, 3))
