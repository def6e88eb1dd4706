# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Cleans a report, as transforms of texts and of dictionaries."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import ImageMetaKey

from monai_mgca.text.sentence_cleaner import MIN_WORDS, SentenceCleaner
from monai_mgca.utils import DataError

__all__ = ["CleanReport", "CleanReportD", "CleanReportDict", "CleanReportd"]


class CleanReport(SentenceCleaner, Transform):
    """Cut a radiology report into clean, lower-case sentences of words, by default of ASCII.

    Numbers of lists ("1."), de-identification marks ("___", "XXXX", "[** ... **]"), markup (HTML, RTF, HL7, Excel's
    "_x000D_") and punctuation go, Latin letters are written in ASCII ("opacité" gives "opacite", "Größe" gives
    "grosse"), and decimals stay whole ("2.5 cm"; "1½" gives "1.5"). Letters of other scripts are dropped. A report with
    fewer than 3 words in all, or mostly in another script, gives no sentence: it is to be dropped, and
    :meth:`why_dropped` says why.

    With ``letters="all"`` reports may be in any language: accents and letters of all scripts stay, "2,5" is a number,
    the marks of Chinese, Arabic or Hindi end sentences, and abbreviations ("aprox.", "z. B.", "der 3. Rippe") do not.

    Args:
        official: clean exactly as the official MGCA code does, for its published weights. It cuts at every full stop
            and takes "2." for the number of a list ("2.5 cm" becomes "5 cm"), drops sentences of one word, keeps
            "___" and "XXXX" as words, and drops accented letters.
        min_words: texts with fewer give no sentence; 1 suits phrases and queries.
        letters: "ascii" for English reports, "all" for those of other languages. It needs a tokenizer that knows them.

    Raises:
        ValueError: when ``letters`` is neither, or "all" with ``official``.
        TypeError: when called with anything but a ``str``; the message names the type only.

    Example::

        from monai_mgca.transforms import CleanReport

        print(CleanReport()("1. A 2.5 cm nodule, previously ___.\\n2. No pleural effusion."))
        # ['a 2.5 cm nodule previously', 'no pleural effusion']
        print(CleanReport(letters="all")("Corazón de tamaño normal. Opacidad de 1.5 cm."))
        # ['corazón de tamaño normal', 'opacidad de 1.5 cm']
    """


class CleanReportd(MapTransform):
    """Dictionary-based version of :class:`CleanReport`: the list of sentences replaces the text under each key.

    Args:
        keys: keys of the report texts.
        official: see :class:`CleanReport`.
        allow_missing_keys: do not raise where a key is missing.
        letters: see :class:`CleanReport`.

    Raises:
        DataError: when a report is no text, has fewer than 3 words, or is not in Latin letters. The message names the
            key and the entry's image file, never the text. (``Compose(log_stats=True)`` of MONAI would log the text
            itself: leave it off.)
    """

    def __init__(
        self,
        keys: KeysCollection,
        official: bool = False,
        allow_missing_keys: bool = False,
        letters: str = "ascii",
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.clean = CleanReport(official, letters=letters)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            if not isinstance(d[key], str):
                raise DataError(f"the report '{key}'{_of_image(d)} must be a str, got {type(d[key]).__name__}.")
            sentences = self.clean(d[key])
            if not sentences:
                scripts = (self.clean.why_dropped(d[key]) or "").partition(": ")[2]
                is_so = f"is not in Latin letters ({scripts})" if scripts else f"has fewer than {MIN_WORDS} words"
                way = ", or keep its letters: --report_letters all" if scripts else ""
                raise DataError(
                    f"the report '{key}'{_of_image(d)} {is_so} after cleaning: remove the entry from the datalist{way}."
                )
            d[key] = sentences
        return d


def _of_image(data: Mapping[Hashable, Any]) -> str:
    """Say which entry is meant by its image file, where that is known."""
    image = data.get("image")
    name = image.meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(image, MetaTensor) else image
    return f" of {name}" if isinstance(name, str) or hasattr(name, "__fspath__") else ""


CleanReportD = CleanReportDict = CleanReportd
