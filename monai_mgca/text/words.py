# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The words of a text in any language, and which of them the pieces of a tokenizer belong to."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby

__all__ = ["count_words", "find_words", "words_of_pieces"]

# Scripts that put no space between words: Thai, Lao, Burmese, Khmer, Chinese and Japanese.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# beyond it are no scripts
_LAST_MARK = 0x1F000
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")


@lru_cache(maxsize=1)
def _word() -> re.Pattern[str]:
    """Letters, digits and the marks upon them; 2.5, 2,5, v1.2 and .5 are one word."""
    codes = (code for code in range(0x300, _LAST_MARK) if unicodedata.category(chr(code))[0] == "M")
    ranges = []
    for _, run in groupby(enumerate(codes), lambda pair: pair[1] - pair[0]):
        first, *rest = (chr(code) for _, code in run)
        ranges.append(f"{first}-{rest[-1]}" if rest else first)
    letter = f"(?:[^\\W_]|[{''.join(ranges)}])"
    return re.compile(rf"{letter}+(?:(?<=[0-9])[.,][0-9]+{letter}*)*|(?<![\w.])\.[0-9]+")


def find_words(text: str) -> list[tuple[int, int]]:
    """The words of a text: its letters, digits and the marks upon them, with the point or comma within a number.

    Args:
        text: any text; what other signs there are is no word.

    Returns:
        The begin and end of each.

    Example::

        print([text[begin:end] for text in ["Corazón, 1.5 cm."] for begin, end in find_words(text)])
        # ['Corazón', '1.5', 'cm']
    """
    return [match.span() for match in _word().finditer(text)]


def count_words(text: str) -> int:
    """The number of words; in scripts that put no space between words, every sign counts as one.

    Args:
        text: as that of :func:`find_words`.

    Example::

        print(count_words("no pleural effusion"), count_words("无胸腔积液"))  # 3 5
    """
    return sum(len(_IS_UNSPACED.findall(text, *span)) or 1 for span in find_words(text))


def words_of_pieces(text: str, pieces: Sequence[tuple[int, int] | None]) -> list[int | None]:
    """The word of each piece of a tokenizer, by what the piece covers of the text.

    A word is one of :func:`find_words`, or any other sign. A piece that covers several, as SentencePiece may make
    of a word and its full stop, is of the first word; one that covers a space alone is of none. Where a script puts no
    space between words, every piece is a word: those are the words that the tokenizer has learned.

    Args:
        text: the text.
        pieces: begin and end of each piece in the text; None for what is not of the text.

    Returns:
        Numbers that are equal for the pieces of a word, and rise; None where there is no word.

    Example::

        print(words_of_pieces("a 1.5", [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]))  # [0, None, 2, 2, 2]
    """
    word_at: dict[int, int] = {}
    for begin, end in find_words(text):
        word_at |= dict.fromkeys(range(begin, end), begin)
    return list(_numbered(text, pieces, word_at))


def _numbered(text: str, pieces: Sequence[tuple[int, int] | None], word_at: Mapping[int, int]) -> Iterator[int | None]:
    word, covered = -1, 0  # of the piece before, and how far it reaches
    for begin, end in (piece or (0, 0) for piece in pieces):
        written = [place for place in range(begin, end) if not text[place].isspace()]
        place = next(filter(word_at.__contains__, written), written[0] if written else None)
        if place is None:
            yield None
            continue
        found = word_at.get(place, place)
        if found < place and place >= covered and _IS_UNSPACED.search(text, place - 1, place + 1):
            found = place
        # what goes on with a word that was cut so is of its last part
        word, covered = max(word, found), max(covered, end)
        yield word
