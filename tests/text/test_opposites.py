# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The rule-based opposite of a sentence, on a list of sentences whose opposites a reader wrote."""

from pathlib import Path

import pytest

from monai_mgca.text.opposites import opposite_sentence

LINES = Path(__file__).with_name("opposites.txt").read_text(encoding="utf-8").splitlines()
PAIRS = [tuple(line.split(" => ")) for line in LINES if not line.startswith("#")]


def test_the_list():
    """Of 200 sentences those are counted whose opposite is another one than the reader's: all are listed here."""
    assert len(PAIRS) >= 200
    wrong = {sentence for sentence, expected in PAIRS if (opposite_sentence(sentence) or "-") != expected}
    assert wrong == {
        "lungs are clear and heart size is normal",  # of two statements one is turned
        "no effusion and the heart is enlarged",
        "the lungs are clear no effusion",
        "heart size top normal",
        "low lung volumes",
        "tortuous aorta",
        "no longer seen effusion",
    }


@pytest.mark.parametrize("sentence", ["There is NO pleural effusion.", "  there is no   pleural effusion . "])
def test_as_it_was_written(sentence):
    assert opposite_sentence(sentence) == "there is pleural effusion"


@pytest.mark.parametrize("sentence", ["", ".", "Impression:", "a" * 50_000, "no " * 20_000, "there is " * 10_000])
def test_any_text_comes_to_an_end(sentence):
    opposite_sentence(sentence)


def test_it_is_another_sentence():
    assert all(opposite_sentence(sentence) != sentence for sentence, _ in PAIRS)
