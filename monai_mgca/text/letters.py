# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Letters of any script: written in ASCII, where a reader of English would do so, or kept as they are."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

__all__ = ["foreign_scripts", "keep_letters", "to_latin"]

# Letters that Unicode does not decompose, and whose names do not end in the letter that is written for them.
_SPECIAL = {
    "LATIN SMALL LETTER SHARP S": "ss",
    "LATIN CAPITAL LETTER SHARP S": "SS",
    "LATIN SMALL LETTER THORN": "th",
    "LATIN CAPITAL LETTER THORN": "Th",
    "LATIN SMALL LETTER ETH": "d",
    "LATIN CAPITAL LETTER ETH": "D",
    "LATIN SMALL LETTER ENG": "ng",
    "LATIN CAPITAL LETTER ENG": "Ng",
    "LATIN SMALL LETTER SCHWA": "e",
    "LATIN CAPITAL LETTER SCHWA": "E",
    "LATIN SMALL LETTER OPEN E": "e",
    "LATIN CAPITAL LETTER OPEN E": "E",
    "LATIN SMALL LETTER OPEN O": "o",
    "LATIN CAPITAL LETTER OPEN O": "O",
    "LATIN SMALL LETTER DOTLESS I": "i",
    "LATIN SMALL LETTER DOTLESS J": "j",
    "LATIN SMALL LETTER KRA": "q",
    "MULTIPLICATION SIGN": "x",  # as in "3 x 4 cm"
}
# "LATIN SMALL LETTER L WITH STROKE", "LATIN CAPITAL LETTER AE", "LATIN SMALL LIGATURE OE"
_NAMED = re.compile(r"LATIN (SMALL|CAPITAL) (?:LETTER|LIGATURE) ([A-Z]{1,2})(?: WITH .+)?")
_VULGAR = "".join(chr(code) for code in (0xBC, 0xBD, 0xBE, *range(0x2150, 0x215F), 0x2189))
_FRACTION = re.compile(rf"(?:(?<![\w.,/])(\d+)[^\S\n]?)?([{_VULGAR}])")
_SUPERSCRIPT = re.compile(r"(?<=\d)(?=[\u00b2\u00b3\u00b9\u2070-\u207b])")
_MIDDLE_DOT = re.compile(r"(?<=\d)\u00b7(?=\d)")
_MICRO = re.compile(r"[\u00b5\u03bc](?=[A-Za-z])")
# a Greek letter by itself among Latin ones: "α1-antitrypsin", "β-blocker"
_LONE_GREEK = re.compile(r"(?<![\u0370-\u03ff])[\u0391-\u03bb\u03bd-\u03c9](?![\u0370-\u03ff])")
_BREAKS = str.maketrans(dict.fromkeys("\x85\u2028\u2029", "\n"))
_SCRIPTS = {"Cjk": "Chinese", "Hangul": "Korean", "Hiragana": "Japanese", "Katakana": "Japanese"}


class _Folding(dict):
    """What is written for a character, made when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = found = self._fold(chr(code))
        return found

    def _fold(self, c: str) -> str:
        if c.isascii():
            return c
        category, name = unicodedata.category(c), unicodedata.name(c, "")
        if category in ("Cf", "Mn", "Me") or unicodedata.combining(c):  # soft hyphens, zero widths, accents
            return ""
        if category == "Nd":
            return str(unicodedata.decimal(c))
        if name in _SPECIAL:
            return _SPECIAL[name]
        whole = unicodedata.normalize("NFKD", c)
        if whole != c:
            return "".join(self[ord(part)] for part in whole)
        named = _NAMED.fullmatch(name)
        return c if not named else named[2].lower() if named[1] == "SMALL" else named[2]


class _Keeping(_Folding):
    """The same, but letters and the accents and vowel signs upon them stay what they are."""

    def _fold(self, c: str) -> str:
        if unicodedata.category(c)[0] not in "LM":
            return super()._fold(c)
        # wide letters, ligatures and shapes of Arabic letters have a plain form; signs that choose a shape go
        return "" if "VARIATION SELECTOR" in unicodedata.name(c, "") else unicodedata.normalize("NFKC", c)


_FOLDING, _KEEPING = _Folding(), _Keeping()


def to_latin(text: str) -> str:
    """Write a text in ASCII as far as its letters have such a form.

    Accents go, letters without a decomposition are transliterated (ß to ss, ł to l, æ to ae), fractions
    become decimals (1½ to 1.5), superscripts do not join the digits before them, invisible characters vanish. Letters
    of other scripts stay.

    Args:
        text: any text.

    Example::

        print(to_latin("Größe 1½ cm"))  # "Grosse 1.5 cm"
    """
    if text.isascii():
        return text
    text = _numbers(text)
    text = _LONE_GREEK.sub(lambda match: unicodedata.name(match[0], "").split(" WITH ")[0].split(" ")[-1].lower(), text)
    return _MICRO.sub("u", text).translate(_FOLDING)


def keep_letters(text: str) -> str:
    """Write letters in one way, as their own scripts do: accents and letters that are not Latin stay.

    All else is as :func:`to_latin` has it: digits of any script and fractions become ASCII, invisible characters go.

    Args:
        text: any text.

    Example::

        print(keep_letters("Größe 1½ cm, ｘ ﬁne"))  # "Größe 1.5 cm, x fine"
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _numbers(text).translate(_KEEPING))


def _numbers(text: str) -> str:
    """Lines end with a line feed, numbers are decimals."""
    text = _FRACTION.sub(_decimal, text.translate(_BREAKS))
    return _MIDDLE_DOT.sub(".", _SUPERSCRIPT.sub(" ", text))


def _decimal(match: re.Match) -> str:
    value = (int(match[1]) if match[1] and len(match[1]) < 5 else 0) + unicodedata.numeric(match[2])
    written = f"{value:.3f}".rstrip("0").rstrip(".")
    if match[1] and len(match[1]) >= 5:  # no measure
        return f"{match[1]} {written}"
    before = match.string[match.start() - 1 : match.start()]
    return f" {written}" if before.isalnum() or before == "." else written


def foreign_scripts(text: str) -> tuple[Counter, int]:
    """The letters that have no Latin form, by script, and the number of those that have.

    Args:
        text: as :func:`to_latin` returns it.

    Example::

        print(foreign_scripts("CT легких"))  # (Counter({'Cyrillic': 6}), 2)
    """
    foreign: Counter = Counter()
    for c, number in Counter(text).items() if not text.isascii() else ():
        if not c.isascii() and c.isalpha():
            script = unicodedata.name(c, "unknown").split(" ")[0].split("-")[0].title()
            if script not in ("Latin", "Modifier"):
                foreign[_SCRIPTS.get(script, script)] += number
    return foreign, sum(map(text.count, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")) if foreign else 0
