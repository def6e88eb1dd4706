# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What is kept of a report encoder beside the weights is enough to build it again, whatever its kind."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from monai_mgca.networks import ReportEncoder
from monai_mgca.transforms import TokenizeReport
from monai_mgca.weights.report_encoder_files import keep_report_encoder

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
KINDS = {
    "wordpiece": transformers.ElectraConfig(vocab_size=300, embedding_size=16, **SIZES),
    "bytes": transformers.RobertaConfig(vocab_size=300, **SIZES),
    "unigram": transformers.XLMRobertaConfig(vocab_size=300, **SIZES),
}
SENTENCES = ["no effusion", "a nodule of 1.5 cm"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_copy_is_enough(tmp_path, train_tokenizer, kind):
    source = tmp_path / "source"
    tokenizer = train_tokenizer(kind, [" ".join(SENTENCES)], 290)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<study>"]})
    tokenizer.save_pretrained(source)
    KINDS[kind].save_pretrained(source)
    for name in ("merges.txt", "sentencepiece.bpe.model", "added_tokens.json"):  # as older ones have
        (source / name).write_text("{}")
    (source / "pytorch_model.bin").write_bytes(b"of the encoder")
    expected = TokenizeReport(source, 40)(SENTENCES)
    torch.manual_seed(0)
    encoder = ReportEncoder(source, pretrained=False).eval()
    states, attention = encoder(expected["input_ids"][None], expected["attention_mask"][None])

    copy = tmp_path / "models" / keep_report_encoder(source, tmp_path / "models")
    assert copy.name.startswith("report_encoder-")
    assert not (copy / "pytorch_model.bin").exists()
    assert all((copy / path.name).is_file() for path in source.iterdir() if path.name != "pytorch_model.bin")
    source.rename(tmp_path / "gone")
    found = TokenizeReport(copy, 40)(SENTENCES)
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
    built = ReportEncoder(str(copy), pretrained=False).eval()
    built.load_state_dict(encoder.state_dict())
    again = built(found["input_ids"][None], found["attention_mask"][None])
    assert torch.equal(again[0], states)
    assert torch.equal(again[1], attention)
    assert keep_report_encoder(copy, tmp_path / "models") == copy.name


def test_the_pooling_too(tmp_path):
    """Also where the encoder is in a folder of its own, as sentence-transformers once had it."""
    source = tmp_path / "source"
    transformers.BertConfig(vocab_size=30, **SIZES).save_pretrained(source / "0_Transformer")
    (source / "0_Transformer" / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no"]))
    kinds = {"0_Transformer": "Transformer", "1_Pooling": "Pooling"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (source / "modules.json").write_text(json.dumps(modules))
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    copy = tmp_path / "models" / keep_report_encoder(source, tmp_path / "models")
    assert ReportEncoder(copy, pretrained=False).own_pooling() == "mean"
    assert TokenizeReport(copy, 5)("no")["input_ids"].tolist() == [2, 5, 3, 0, 0]
