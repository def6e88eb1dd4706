# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

import signal
import sys
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_mgca.text.sections import join_report, report_from_text, split_sections
from monai_mgca.transforms import CleanReport, TokenizeReport

# every code point, surrogates too
ANY = st.text(st.integers(0, sys.maxunicode).map(chr), max_size=60)
# what reports are made of, and what is awkward in them
PIECES = st.sampled_from(
    (
        *("no", "effusion", "Opacité", "2.5", "cm", "XXXX", "___", "[** Name **]", "[**", "**]", "1.", "2)", ".", "!?"),
        *(
            "\n",
            "\t",
            "\0",
            "\x1c",
            "\u202e",
            "\u0301",
            "e\u0301",
            "ﬁ",
            "İ",
            "ß",
            "\ud800",
            "\u2028",
            "正常",
            "١",
            "²",
            "_",
            "-",
        ),
        *("FINDINGS:", "IMPRESSION:", "FINAL REPORT", "CHEST PA:", "EXAM :", "IMPRESSION  AND   RECOMMENDATIONS:", ":"),
    )
)
REPORTS = st.one_of(ANY, st.lists(PIECES, max_size=25).map("".join), st.lists(PIECES, max_size=25).map(" ".join))


@given(text=REPORTS, official=st.booleans())
def test_any_text_is_cleaned_to_ascii_words(text, official):
    clean = CleanReport(official, min_words=1)
    sentences = clean(text)
    for sentence in sentences:
        assert sentence
        assert sentence.isascii()
        assert sentence == sentence.lower()
        assert sentence.split(" ") == sentence.split()
    assert clean.has_words(text) == bool(sentences)


@given(text=REPORTS)
def test_cleaning_what_is_clean_changes_nothing(text):
    clean = CleanReport(min_words=1)
    sentences = clean(text)
    assert [clean(sentence) for sentence in sentences] == [[sentence] for sentence in sentences]


@given(text=REPORTS, least=st.integers(1, 5))
def test_few_words_give_no_sentence(text, least):
    words = sum(len(sentence.split()) for sentence in CleanReport(min_words=1)(text))
    assert bool(CleanReport(min_words=least)(text)) == (words >= least)


@given(text=REPORTS)
def test_sections_hold_what_is_in_the_text(text):
    sections = split_sections(text)
    assert set(sections) <= {"findings", "impression", "view", "other", "preamble"}
    for body in sections.values():
        assert body
        assert body == " ".join(body.split())
        assert all(word in text.split() or word in text for word in body.split())
    report = report_from_text(text)
    assert report == join_report(sections.get("findings") or sections.get("view", ""), sections.get("impression", ""))


LONG = {
    "letters": "a" * 200_000,
    "blanks": " " * 200_000,
    "tabs": "\t" * 200_000,
    "lines": "\n" * 200_000,
    "stops": "." * 200_000,
    "numbers": "1." * 100_000,
    "digits": "9" * 200_000,
    "decimals": "1.5" * 70_000,
    "marks that never close": "[**" * 70_000,
    "underscores": "_" * 200_000,
    "crosses": "X" * 200_000,
    "headings": "FINDINGS: " * 20_000,
    "capitals": "A B " * 50_000,
    "capitals on lines": "ABC DEF\n" * 25_000,
    "a line of heading letters": "ABC " * 50_000 + ":",
    "blanks before headings": ("\n" + " " * 300) * 600 + "FINDINGS",
    "final reports": "FINAL REPORT\n" * 15_000,
    "final reports behind blanks": (" " * 300 + "FINAL REPORT x\n") * 600,
    "combining marks": "e" + "\u0301" * 100_000,
    "list numbers with blanks": ("1. " + " " * 50) * 3000,
}


@pytest.fixture
def twenty_seconds():
    """Of the processor, which is a hundred times what is needed; a quadratic way takes minutes to hours."""

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, 20)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize("name", LONG)
def test_long_texts_come_to_an_end(twenty_seconds, name):
    for clean in (CleanReport(), CleanReport(official=True)):
        clean(LONG[name])
        clean.has_words(LONG[name])
    split_sections(LONG[name])


@pytest.fixture(scope="module")
def tokenize():
    transformers = pytest.importorskip("transformers")
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        ".",
        *"abcdefgz019",
        "no",
        "##s",
        "##o",
        "##a",
        "effusion",
        "clear",
    ]
    tokenizer = transformers.BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)})
    return {length: TokenizeReport(tokenizer, length) for length in (3, 8, 24)}


@given(text=REPORTS, length=st.sampled_from((3, 8, 24)))
def test_pieces_belong_to_words_and_sentences(tokenize, text, length):
    sentences = CleanReport(min_words=1)(text)
    found = tokenize[length](sentences)
    ids, mask, words, places = (
        found[key].tolist() for key in ("input_ids", "attention_mask", "word_ids", "sentence_ids")
    )
    used = sum(mask)
    assert len(ids) == length
    assert mask == [1] * used + [0] * (length - used)
    assert words[0] == -1
    assert set(words[used - 1 :]) == {-1}
    kept = [word for word in words if word >= 0]
    assert [word for word, _ in groupby(kept)] == list(range(len(set(kept))))  # from 0 on, without gaps
    assert all(place >= 0 for word, place in zip(words, places, strict=True) if word >= 0)
    inside = [place for place in places if place >= 0]
    assert inside == sorted(inside)
    assert not inside or max(inside) < len(sentences)
    for word in set(kept):
        assert len({place for w, place in zip(words, places, strict=True) if w == word}) == 1
    if used < length:  # nothing was cut
        assert len(set(kept)) == sum(len(tokenizer_words(sentence)) for sentence in sentences)
        assert set(inside) == set(range(len(sentences)))


def tokenizer_words(sentence: str) -> list[str]:
    """Words as BERT has them: the stop within a decimal is one of its own."""
    return sentence.replace(".", " . ").split()
