# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Where the sentences of a report end in any language: not behind abbreviations, decimals and numbers of lists."""

from __future__ import annotations

import re

from monai_mgca.text.letters import keep_letters

__all__ = ["split_sentences"]

# A full stop behind one of these never ends a sentence. Separated by commas, without the last stop; a line is a
# language: English, Spanish, German, French, Portuguese, Italian, Dutch.
_ABBREVIATIONS = """
    dr, prof, mr, mrs, vs, approx, e.g, i.e,
    dra, sr, sra, srta, aprox, p. ej, v. gr, ej, vd, pág, págs,
    z. b, d. h, u. a, u. u, i. d. r, v. a, o. g, s. o, s. u, z. n, z. t, bzw, evtl, ggf, inkl, insb, insbes, sog, vgl,
    mme, mlle, env, p. ex, c.-à-d,
    exmo, exma,
    dott, dott.ssa, sig, sig.ra, ecc, p. es, cfr,
    dhr, mevr, bijv, d.w.z, o.a, m.n, i.v.m, t.o.v, t.p.v, m.b.t, evt"""
# Behind one of these it ends one only where a capital follows: sides, places and the like may come last.
_OFTEN_LAST = """
    ca, cf, etc, resp, obs, ong, es, max, min, sup, inf, lat, med, ant, post, prox, dist, std, dx, sx, sin, d, g, re,
    li, bds, bil, bilat, dir, esq, dta, der, dcha, dcho, izq, izda, izdo, seg, lig, art, th, lws, bws, hws"""
# Before a number it ends none.
_NUMBERED = "nr, nro, núm, num, n.o, n°, fig, figs, abb, afb, st, tab, pág, p, pt"

_LAST = """
    etc, max, min, sup, inf, lat, med, ant, post, prox, dist, std, sec, dx, sx, sin, d, g, re, li, bds, bil, bilat, dir,
    esq, dta, der, dcha, izq, izda, dcho, izdo, rechts, links, lob, seg, lig, art, v, a, n, th, lws, bws, hws, mm, cm"""
# Before a number it ends none.
_NUMBERED = "no, nos, nr, nro, núm, num, nº, n°, fig, figs, abb, afb, st, seg, tab, pág, p, pt"

_LAST = r"\.(?=[^\S\n]|[^\W\d_]|$)"
_BEFORE_SMALL = re.compile(r"[^\S\n]+(\S)")
# "der 3. Rippe", "am 5. Mai": German ordinals
_ORDINAL = re.compile(r"(?i)\b(?:d(?:er|ie|as|en|em|es)|am|im|vom|zum|zur|bis)[^\S\n]+[0-9]{1,2}\.(?=[^\S\n]+[^\W\d_])")
# marks of other scripts, and what they are in ours
_MARKS = str.maketrans(
    {**dict.fromkeys("。｡।॥۔։።", ". "), **dict.fromkeys("！", "! "), **dict.fromkeys("？؟", "? ")}
    | {**dict.fromkeys("；؛", "; "), **dict.fromkeys("：", ": "), **dict.fromkeys("，、،", ", ")}
)
# "1、" begins an item of a list as "1." does
_LISTED = re.compile(r"(^|[。；：！？.;:!?\n])([^\S\n]*[0-9]{1,2})、")
# a line of Chinese or Japanese that ends without a mark; such lines do not run on
_LINE = re.compile(r"(?<=[\u3005-\u3007\u3040-\u30ff\u3400-\u9fff])[^\S\n]*\n")
# "1.", "2)", "(3)" or "a)", alone or in a row, where a sentence begins; never the "2." of "2.5 cm" or of "2,5 cm"
_NUMBERS = re.compile(r"(^|[.!?:;\n])[^\S\n]*(?:\(?(?:[0-9]{1,2}(?:\.|\))|[a-hA-H]\))(?![0-9])\s*)+")
_STOP = re.compile(r"[.!?]+")
_QUOTES = '"\u201c\u201d'


def _pattern(names: str, last: str) -> re.Pattern[str]:
    parts = sorted({name.strip() for name in names.split(",")}, key=len, reverse=True)
    spelled = "|".join(re.escape(part).replace(r"\ ", " ?") for part in parts)
    return re.compile(rf"(?i)(?<![\w.])(?:{spelled}){last}")


_NEVER = _pattern(_ABBREVIATIONS, _LAST)
_BEFORE_CAPITAL = _pattern(_OFTEN_LAST, r"\.(?=[^\S\n]+\S)")
_BEFORE_NUMBER = _pattern(_NUMBERED, r"\.(?=[^\S\n]*[0-9])")


def split_sentences(text: str) -> list[str]:
    """Cut a report into its sentences.

    Args:
        text: without markup.

    Returns:
        The sentences as :func:`monai_mgca.text.letters.keep_letters` has them, with their signs, but without the
        numbers of lists; some may be blank.

    Example::

        print(split_sentences("1. Opacidad de 1.5 cm, aprox. basal. 2. Sin derrame."))
        # ['', ' Opacidad de 1.5 cm, aprox  basal', ' Sin derrame', '']
    """
    # before wide marks become narrow ones, which would join numbers
    text = keep_letters(_LISTED.sub(r"\1\2. ", _LINE.sub("。\n", text)).translate(_MARKS))
    text = _NUMBERS.sub(r"\1 ", text)
    for pattern in (_NEVER, _BEFORE_NUMBER, _ORDINAL):
        text = pattern.sub(lambda match: match[0].replace(".", " "), text)
    text = _BEFORE_CAPITAL.sub(_unless_capital, text)
    sentences, begin = [], 0
    for stop in _STOP.finditer(text):
        if _ends(text[stop.end() : stop.end() + 4].lstrip(_QUOTES)[:2]):
            sentences.append(text[begin : stop.start()])
            begin = stop.end()
    return [*sentences, text[begin:]]


def _unless_capital(match: re.Match) -> str:
    following = _BEFORE_SMALL.match(match.string, match.end())
    return match[0] if following and following[1].isupper() else match[0].replace(".", " ")


def _ends(following: str) -> bool:
    """Whether a sentence ends before these two characters: a space, the end, or a capital that lacks its space.

    A script without capitals puts no space behind its marks.
    """
    first, second = following[:1], following[1:]
    if not first or first.isspace():
        return True
    caseless = first.isalpha() and first.lower() == first.upper()
    return caseless or (first.isupper() and second.islower())
