# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

import json
import pickle

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset

from monai_mgca.transforms import TokenizeReport, TokenizeReportd

transformers = pytest.importorskip("transformers")

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "no",
    "effusion",
    "##s",
    "##ion",
    "clear",
    "lung",
    ".",
    "2",
    "5",
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    return tmp_path


@pytest.fixture
def tokenizer():
    return transformers.BertTokenizerFast(vocab={piece: i for i, piece in enumerate(PIECES)})


SENTENCES = ["no effusions", "clear lungs"]  # [CLS] no effusion ##s . clear lung ##s . [SEP], officially without stops
CASES = [
    # length, official, word_ids
    (10, False, [-1, 0, 1, 1, -1, 2, 3, 3, -1, -1]),
    (10, True, [-1, 0, 1, 1, 2, 3, 3, 4, -1, -1]),  # [SEP] is a word
    (8, False, [-1, 0, 1, 1, -1, 2, 3, -1]),
    (8, True, [-1, 0, 1, 1, 2, -1, -1, -1]),  # full: the last word and [SEP] are lost
    (6, False, [-1, 0, 1, 1, -1, -1]),
    (6, True, [-1, 0, 1, 1, -1, -1]),
]


@pytest.mark.parametrize(("length", "official", "expected"), CASES)
def test_word_ids(tokenizer, length, official, expected):
    output = TokenizeReport(tokenizer, length, official)(SENTENCES)
    assert output["word_ids"].tolist() == expected
    assert output["input_ids"][0] == 2
    assert (output["input_ids"] == 3).sum() == 1
    filled = min(length, 8 if official else 10)
    assert output["attention_mask"].tolist() == [1] * filled + [0] * (length - filled)
    for value in output.values():
        assert value.shape == (length,)
        assert value.dtype == torch.int64


def test_sources_and_pickling(folder, tokenizer):
    expected = TokenizeReport(tokenizer, 12)(SENTENCES)
    bert = folder / "bert"
    tokenizer.save_pretrained(bert)
    model = folder / "model"  # what older hub repositories hold
    model.mkdir()
    (model / "vocab.txt").write_text("\n".join(PIECES))
    (model / "config.json").write_text('{"model_type": "bert"}')
    for source in (folder, str(folder), bert, model):
        transform = TokenizeReport(source, 12)
        for copy in (transform, pickle.loads(pickle.dumps(transform))):
            assert all(torch.equal(copy(SENTENCES)[key], expected[key]) for key in expected)


def test_workers(tokenizer):
    transform = TokenizeReportd("report", tokenizer, 12)
    entry = transform({"report": SENTENCES})  # used before the fork
    batch = next(iter(DataLoader(Dataset([{"report": SENTENCES}] * 2, transform), batch_size=2, num_workers=1)))
    assert torch.equal(batch["word_ids"][1], entry["word_ids"])


def test_ill_arg(folder, tokenizer, monkeypatch):
    with pytest.raises(ValueError, match="max_length"):
        TokenizeReport(tokenizer, 2)
    with pytest.raises(ValueError, match="one key"):
        TokenizeReportd(["report", "note"], tokenizer)
    with pytest.raises(TypeError, match="got list"):
        TokenizeReport(tokenizer)([1])
    with pytest.raises(ValueError, match="from_pretrained"):
        TokenizeReport(transformers.BertTokenizerFast(vocab_file=str(folder / "vocab.txt")))(SENTENCES)
    with pytest.raises(ValueError, match="fast tokenizer"):
        TokenizeReport(object())(SENTENCES)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty.*local folder"):
        TokenizeReport(folder / "empty")(SENTENCES)

    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", no_network)
    transform = TokenizeReport("emilyalsentzer/Bio_ClinicalBERT")  # loads nothing yet
    with pytest.raises(ValueError, match=r"Bio_ClinicalBERT.*local folder"):
        transform(SENTENCES)


def _golden_tokenizer(shared):
    pieces = (shared / "goldens" / "vocab.txt").read_text().split()
    return transformers.BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=False)


def test_ids_equal_the_goldens(shared):
    tokenize = TokenizeReport(_golden_tokenizer(shared), official=True)
    reports = json.loads((shared / "goldens" / "report_text.json").read_text())["reports"]
    kept = [report for report in reports if report["sentences"]]
    assert len(kept) == 14
    for report in kept:
        output = tokenize(report["sentences"])
        assert output["input_ids"].tolist() == report["input_ids"]
        assert output["attention_mask"].tolist() == report["attention_mask"]


@pytest.mark.parametrize("name", ["edge", "full"])
def test_official_aggregation_equals_the_goldens(shared, name):
    from monai_mgca.transforms.tokenize_report import _official_word_ids

    golden = np.load(shared / "goldens" / f"aggregate_{name}.npz")
    info = json.loads(bytes(golden["info_json"]))
    for row, tokens in enumerate(info["tokens"]):
        ids = np.array(_official_word_ids(tokens, "[SEP]"))
        slots = np.eye(len(tokens))[ids] * (ids >= 0)[:, None]  # (piece, slot)
        words = slots.T @ golden["in/embeddings"][row].astype(float)
        attention = slots[:-1].T @ golden["in/cls_attention"][row]  # of piece i: that of i + 1
        np.testing.assert_allclose(words[:-1], golden["out/agg_embeddings64"][row, 1:], atol=1e-12)
        np.testing.assert_allclose(attention[:-1], golden["out/agg_attention"][row, 1:], atol=1e-6)
        assert _words(tokens, ids) == info["words"][row][1:]


@pytest.mark.parametrize("name", ["01_vit_b8_L112", "02_vit_b4_L48", "03_resnet_b4_L112"])
def test_official_words_equal_the_pipeline(shared, name):
    tokenizer = _golden_tokenizer(shared)
    info = json.loads(bytes(np.load(shared / "goldens" / f"pipeline_{name}.npz")["info_json"]))
    tokenize = TokenizeReport(tokenizer, len(info["input_ids"][0]), official=True)
    for text, ids, words in zip(info["texts"], info["input_ids"], info["sents"], strict=True):
        output = tokenize(text)
        assert output["input_ids"].tolist() == ids
        assert _words(tokenizer.convert_ids_to_tokens(ids), output["word_ids"]) == words[1:]


def _words(tokens, word_ids):
    """The words that the ids make of the pieces, [PAD] where there is none, less the slot of [CLS]."""
    words = [""] * (len(tokens) - 1)
    for token, word in zip(tokens, word_ids, strict=True):
        if word >= 0:
            words[word] += token.removeprefix("##")
    return [word or "[PAD]" for word in words]
