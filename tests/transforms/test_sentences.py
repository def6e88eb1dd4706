# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch

from monai_mgca.transforms import RandSelectSentencesd, TokenizeReport


@pytest.fixture
def report(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "clear", "lungs", "no", "effu", "##sion"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    return TokenizeReport(str(tmp_path), max_length=14)(["clear lungs", "no effusion", "no lungs"])


def test_sentences_of_tokens(report):
    assert report["sentence_ids"].tolist() == [-1, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, -1, -1, -1]
    assert report["word_ids"].tolist() == [-1, 0, 1, -1, 2, 3, 3, -1, 4, 5, -1, -1, -1, -1], "a full stop is no word"


def test_keeps_whole_sentences_and_the_frame(report):
    select = RandSelectSentencesd(prob=1, share=0.5).set_random_state(0)
    seen = set()
    for _ in range(50):
        result = select(report)
        kept = {int(s) for s, m in zip(report["sentence_ids"], result["attention_mask"], strict=True) if m and s >= 0}
        assert kept, "at least one sentence is kept"
        seen.add(frozenset(kept))
        inside = torch.tensor([int(s) in kept for s in report["sentence_ids"]])
        assert torch.equal(result["word_ids"], torch.where(inside, report["word_ids"], -1))
        assert torch.equal(result["attention_mask"], report["attention_mask"] * (inside | (report["sentence_ids"] < 0)))
        assert torch.equal(result["input_ids"], report["input_ids"])
    assert len(seen) == 7, "every selection of three sentences comes"
    assert report["attention_mask"].sum() == 12, "the input is not changed"


def test_same_seed_same_selection(report):
    one, two = (RandSelectSentencesd(prob=0.5).set_random_state(3) for _ in range(2))
    assert all(torch.equal(one(report)["word_ids"], two(report)["word_ids"]) for _ in range(20))


def test_no_selection_without_probability(report):
    assert torch.equal(RandSelectSentencesd(prob=0)(report)["word_ids"], report["word_ids"])


def test_report_of_padding_only():
    empty = {k: torch.full((4,), v) for k, v in (("attention_mask", 0), ("word_ids", -1), ("sentence_ids", -1))}
    assert torch.equal(RandSelectSentencesd(prob=1)(empty)["word_ids"], empty["word_ids"])


def test_ill_share():
    with pytest.raises(ValueError, match="share"):
        RandSelectSentencesd(share=2)
