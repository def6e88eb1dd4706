# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Whole words of tokenizers of all kinds: none is cut by a number, an accent or a piece, and a space is none."""

from __future__ import annotations

import csv
import unicodedata

import pytest

from monai_mgca.text.words import words_of_pieces
from monai_mgca.transforms import CleanReport, RandSelectSentencesd, TokenizeReport

transformers = pytest.importorskip("transformers")

KINDS = ("wordpiece", "bytes", "unigram")
REPORTS = [
    "Corazón de tamaño normal. Opacidad de 1.5 cm.",
    "Größe 2,5 cm, unverändert. Kein Erguß an T8.",
    "Cœur de volume normal. Pas d'épanchement pleural à droite, 10.25 mm.",
    "Легкие без изменений. Очаг 1,5 см в S6.",
    "No effusion. A 2.5 cm nodule in the right upper lobe, previously .8 cm.",
]


def without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")


def decode_bytes(tokens: list[str]) -> str:
    from tokenizers import decoders

    return decoders.ByteLevel().decode(tokens).strip()


# how the pieces of a word are joined, and what a tokenizer makes of its letters
JOIN = {
    "wordpiece": lambda tokens: "".join(token.removeprefix("##") for token in tokens),
    "bytes": decode_bytes,
    "unigram": lambda tokens: "".join(tokens).replace("\u2581", ""),
}
LETTERS = {"wordpiece": without_accents, "bytes": str, "unigram": str}


def assert_whole(kind: str, tokenize: TokenizeReport, sentences: list[str]) -> None:
    """The words are those between the spaces of the clean sentences, in their order, each of its sentence."""
    found = tokenize(sentences)
    assert found["attention_mask"].sum() < tokenize.max_length, "nothing was cut"
    tokens = tokenize.tokenizer.convert_ids_to_tokens(found["input_ids"].tolist())
    pieces: dict[int, list[str]] = {}
    for token, word in zip(tokens, found["word_ids"].tolist(), strict=True):
        if word >= 0:
            pieces.setdefault(word, []).append(token)
    # a piece may hold the full stop behind its word, too
    joined = [JOIN[kind](some).removesuffix(".") for some in pieces.values()]
    assert joined == [LETTERS[kind](word) for word in " ".join(sentences).split(" ")]
    assert list(pieces) == list(range(len(pieces)))
    places = dict(zip(found["word_ids"].tolist(), found["sentence_ids"].tolist(), strict=True))
    assert [places[word] for word in pieces] == [i for i, some in enumerate(sentences) for _ in some.split(" ")]


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_other_languages(train_tokenizer, kind):
    clean = CleanReport(letters="all")
    sentences = [clean(report) for report in REPORTS]
    texts = [LETTERS[kind](" ".join(some)) for some in sentences]
    tokenize = TokenizeReport(train_tokenizer(kind, texts, 330 if kind == "bytes" else 150), 200, whole_words=True)
    for some in sentences:
        assert_whole(kind, tokenize, some)


@pytest.fixture(scope="module")
def real_reports(shared):
    with (shared / "data" / "cxr" / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "iu_xray"]
    cleaned = [CleanReport()(row["text"]) for row in rows[:: len(rows) // 200]]
    return [sentences for sentences in cleaned if sentences][:200]


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_real_reports(train_tokenizer, real_reports, kind):
    assert len(real_reports) == 200
    texts = [" ".join(sentences) for sentences in real_reports]
    assert any(char.isdigit() for text in texts for char in text)
    tokenize = TokenizeReport(train_tokenizer(kind, texts, 600), 512, whole_words=True)
    for sentences in real_reports:
        assert_whole(kind, tokenize, sentences)


def test_words_of_bert_are_as_it_cuts_them(train_tokenizer):
    """Unless they are asked for, so that its trainings stay as they are."""
    tokenizer = train_tokenizer("wordpiece", ["opacity of 1.5 cm"], 60)
    for whole, count in ((None, 6), (False, 6), (True, 4)):
        found = TokenizeReport(tokenizer, 40, whole_words=whole)(["opacity of 1.5 cm"])
        assert found["word_ids"].max() + 1 == count


@pytest.mark.parametrize("kind", ["bytes", "unigram"])
def test_a_space_is_no_word(train_tokenizer, kind):
    """Not the one before a text either; it is of the sentence that it leads to."""
    tokenizer = train_tokenizer(kind, ["lung clear"] * 3, 270 if kind == "bytes" else 16)
    tokenize = TokenizeReport(tokenizer, 40)
    found = tokenize(["xyz lung", "clear lung"])
    tokens = tokenizer.convert_ids_to_tokens(found["input_ids"].tolist())
    spaces = [i for i, token in enumerate(tokens) if token in ("\u2581", "\u0120")]
    assert spaces
    assert all(found["word_ids"][i] == -1 for i in spaces)
    assert all(found["sentence_ids"][i] == found["sentence_ids"][i + 1] for i in spaces)
    assert found["word_ids"].max() + 1 == 4
    kept = RandSelectSentencesd(prob=1.0).set_random_state(0)(found)["word_ids"]
    assert len(set(kept.tolist()) - {-1}) == 2, "one of both sentences, whole"


def test_unspaced_scripts_have_the_words_of_the_tokenizer(train_tokenizer):
    texts = ["心影大小正常", "两肺清晰", "心影正常", "两肺正常"] * 5
    sentences = CleanReport(letters="all")("心影大小正常。两肺清晰 1.5cm。")
    for kind in ("bytes", "unigram"):
        found = TokenizeReport(train_tokenizer(kind, texts, 300 if kind == "bytes" else 30), 60)(sentences)
        words = found["word_ids"].max() + 1
        assert 3 <= words <= 12, "neither one for all nor one for each byte"
    # two signs in one piece, a sign in two pieces, letters behind them
    assert words_of_pieces("心影大ct", [(0, 2), (2, 3), (2, 3), (3, 4), (4, 5)]) == [0, 2, 2, 3, 3]


def test_a_piece_of_a_word_and_a_sign_is_of_the_word():
    assert words_of_pieces("(a b)", [(0, 2), (2, 3), (3, 5)]) == [1, None, 3]
    assert words_of_pieces("a / b", [(0, 1), (1, 3), (3, 5)]) == [0, 2, 4]


class TestUnusualTokenizers:
    TEXT = ["no effusion", "clear lungs"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_without_a_padding_token(self, train_tokenizer, kind, tmp_path):
        texts = [" ".join(self.TEXT)]
        train_tokenizer(kind, texts, 300, pad=None).save_pretrained(tmp_path)
        found = TokenizeReport(tmp_path, 40)(self.TEXT)
        length = int(found["attention_mask"].sum())
        assert length < 40
        assert (found["input_ids"][length:] == 0).all()
        assert found["word_ids"].max() == 3
        assert TokenizeReport(tmp_path).tokenizer.pad_token is None, "the tokenizer is left as it is"

    @pytest.mark.parametrize("kind", KINDS)
    def test_with_other_special_tokens(self, train_tokenizer, kind, tmp_path):
        other = {"cls": "<begin>", "sep": "<end>", "pad": "<nothing>", "unk": "<what>"}
        train_tokenizer(kind, [" ".join(self.TEXT)], 300, **other).save_pretrained(tmp_path)
        tokenize = TokenizeReport(str(tmp_path), 40)
        found = tokenize(self.TEXT)
        tokens = tokenize.tokenizer.convert_ids_to_tokens(found["input_ids"].tolist())
        length = int(found["attention_mask"].sum())
        assert (tokens[0], tokens[length - 1], tokens[-1]) == ("<begin>", "<end>", "<nothing>")
        assert (found["word_ids"][0], found["word_ids"][length - 1], found["word_ids"].max()) == (-1, -1, 3)

    def test_with_any_length(self, train_tokenizer, tmp_path):
        tokenizer = train_tokenizer("bytes", [" ".join(self.TEXT)], 300)
        assert tokenizer.model_max_length > 1e20
        found = TokenizeReport(tokenizer, 5)(self.TEXT)
        assert found["attention_mask"].tolist() == [1] * 5
        assert found["input_ids"][-1] == tokenizer.sep_token_id, "cut, and closed"

    def test_a_slow_one_says_what_would_work(self):
        class Slow:
            is_fast = False

        with pytest.raises(
            ValueError, match=r"a fast tokenizer .* got Slow: take a model whose folder holds a tokenizer"
        ):
            TokenizeReport(Slow())(["no effusion"])
