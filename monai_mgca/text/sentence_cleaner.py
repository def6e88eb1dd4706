# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Cleans the text of a report: sentences of lower-case words, in ASCII or in the letters of their language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from monai_mgca.text.letters import foreign_scripts, to_latin
from monai_mgca.text.markup import end_items, end_lines, strip_markup
from monai_mgca.text.sentence_ends import split_sentences
from monai_mgca.text.words import count_words, find_words

__all__ = ["LETTERS", "MIN_WORDS", "SentenceCleaner", "report_doubts"]

# Which letters are kept: those of ASCII, in which others are written, or all.
LETTERS = ("ascii", "all")

# A report with fewer words says too little to be aligned with anything (the paper's rule).
MIN_WORDS = 3

# "___" and "[** ... **]" (MIMIC), "XXXX" (Open-i).
BRACKETS = re.compile(r"\[\*\*.*?\*\*\]", re.DOTALL)
MARKS = re.compile(r"_{2,}|\bX{3,}\b")
# "1." or "2)", alone or in a row, where a sentence begins; never the "2." of "2.5 cm".
LIST_NUMBERS = re.compile(r"(^|[.!?:;\n])[^\S\n]*(?:[0-9]{1,2}[.)](?![0-9])\s*)+")
# A full stop ends a sentence before a space, the end, a capital that lacks its space ("edema.No effusion"), or quotes
# that either follows.
SENTENCE_END = re.compile(r"[.!?]+(?=[\"\u201c\u201d]*(?:\s|$|[A-Z][a-z]))")
# "2.5", "v1.2" and ".5" are one word.
WORD = re.compile(r"[^\W_]+(?:(?<=[0-9])\.[0-9]+)*|(?<!\w)\.[0-9]+")
# From the first small letter between two spaces to the second space.
SMALL_LETTERS = re.compile(r"[a-z]\S*")
# What markup begins with, and the brackets: small letters may stand in it that are no words.
MARKUP = re.compile(r"[&<\\|]|_x|\[\*\*")


class SentenceCleaner:
    """What the transform :class:`monai_mgca.transforms.CleanReport` does, whose arguments these are; it needs no MONAI.

    Args:
        official: clean exactly as the official MGCA code does.
        min_words: texts with fewer give no sentence.
        letters: "ascii", or "all" for reports that are not English.

    Raises:
        ValueError: when ``letters`` is neither, or "all" with the official cleaning, which knows ASCII alone.

    Example::

        print(SentenceCleaner()("1. A 2.5 cm nodule, previously ___.\\n2. No pleural effusion."))
    """

    def __init__(self, official: bool = False, min_words: int = MIN_WORDS, letters: str = "ascii") -> None:
        if letters not in LETTERS:
            raise ValueError(f"letters must be one of {', '.join(LETTERS)}, got {letters!r}.")
        if official and letters == "all":
            raise ValueError("The official cleaning keeps ASCII alone: leave out letters='all' or official.")
        self.official = official
        self.min_words = min_words
        self.letters = letters

    def has_words(self, text: str) -> bool:
        """Whether the text has enough words to give any sentence; it is cut only where a look does not say.

        Args:
            text: as that of a call.
        """
        wanted = max(1, self.min_words)
        # nothing but markup and brackets [** ... **] takes small letters away: what holds one is a word, or several
        plain = not self.official and text.isascii() and not MARKUP.search(text)
        if plain and sum(1 for _ in islice(SMALL_LETTERS.finditer(text), wanted)) == wanted:
            return True
        return bool(self(text))

    def why_dropped(self, text: str) -> str | None:
        """Why a text gives no sentence, in words that hold nothing of the text; None where it gives some.

        Args:
            text: as that of a call.

        Example::

            print(SentenceCleaner().why_dropped("Легкие без изменений"))  # report not in Latin letters: Cyrillic
        """
        if self.has_words(text):
            return None
        scripts = [] if self.official or self.letters == "all" else _other_scripts(to_latin(strip_markup(text)[0]))
        return f"report not in Latin letters: {', '.join(scripts)}" if scripts else "report too short"

    def __call__(self, text: str) -> list[str]:
        """
        Args:
            text: the report: impression + " " + findings.

        Returns:
            The sentences, words joined by one space; an empty list where the report is to be dropped.
        """
        if not isinstance(text, str):
            raise TypeError(f"a report must be a str, got {type(text).__name__}.")
        if self.letters == "all":
            return self._in_all_letters(text)
        sentences = _official_sentences(text) if self.official else _sentences(text)
        if sum(len(words) for words in sentences) < self.min_words:
            return []
        return [" ".join(words) for words in sentences]

    def _in_all_letters(self, text: str) -> list[str]:
        # of a Turkish capital i the dot stays behind
        parts = (part.lower().replace("i\u0307", "i") for part in split_sentences(_plain(strip_markup(text)[0])))
        sentences = [" ".join(part[slice(*span)] for span in find_words(part)) for part in parts]
        sentences = [sentence for sentence in sentences if sentence]
        return sentences if sum(map(count_words, sentences)) >= self.min_words else []


def _ascii(words: list[str]) -> list[str]:
    """Drop the characters outside ASCII, and the words that consisted of them."""
    if all(map(str.isascii, words)):
        return words
    stripped = (word.encode("ascii", "ignore").decode("ascii") for word in words)
    return [word for word in stripped if word]


def _sentences(text: str) -> list[list[str]]:
    text = to_latin(strip_markup(text)[0])
    if _other_scripts(text):
        return []
    text = LIST_NUMBERS.sub(r"\1 ", _plain(text))
    sentences = (_ascii(WORD.findall(part.lower())) for part in SENTENCE_END.split(text))
    return [words for words in sentences if words]


def _plain(text: str) -> str:
    """A text whose statements end with full stops, without the marks of de-identification."""
    text = end_items(end_lines(text))
    last = text.rfind("**]") + 3  # behind it no bracket closes, and each that opens would be looked for to the end
    return MARKS.sub(" ", BRACKETS.sub(" ", text[:last]) + text[last:])


def _other_scripts(text: str) -> list[str]:
    """The scripts of a text that has more letters of them than Latin ones, the most frequent first."""
    scripts, latin = foreign_scripts(text)
    return [script for script, _ in scripts.most_common()] if scripts.total() > latin else []


def report_doubts(text: str, letters: str = "ascii") -> Iterator[tuple[str, str]]:
    """What :class:`SentenceCleaner` takes away of a report and a person may want to know: reasons and details.

    Args:
        text: the report.
        letters: see there.

    Example::

        print(list(report_doubts("Clear lungs.<br>No effusion.")))  # [('report has markup', 'HTML')]
    """
    plain, markup = strip_markup(text)
    if markup:
        yield "report has markup", ", ".join(markup)
    scripts, _ = foreign_scripts(to_latin(plain))
    if scripts and letters != "all":
        yield "report partly not in Latin letters", ", ".join(script for script, _ in scripts.most_common())


def _official_sentences(text: str) -> list[list[str]]:
    parts = (part for chunk in re.split(r"(?<![0-9])[0-9]+\.", text) for part in chunk.split("."))
    # One word is one word before the non-ASCII characters go: the order matters.
    sentences = (_ascii(words) for words in (re.findall(r"\w+", part.lower()) for part in parts) if len(words) > 1)
    return [words for words in sentences if words]
