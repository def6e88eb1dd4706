# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The sample's reports in Spanish: the same studies, said as in English, and read again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import numpy as np
import pytest
from monai.utils import optional_import

from monai_mgca.data.datalist import read_datalist, report_letters
from monai_mgca.data.entry import SECTIONS
from monai_mgca.data.sample import english, spanish
from monai_mgca.data.sample.case import CLASSES, Finding, draw_anatomy, draw_findings
from monai_mgca.data.sample.radiographs import SAMPLE_LANGUAGES, make_sample
from monai_mgca.data.sample.small_report_encoder import write_report_encoder
from monai_mgca.data.sample.wording import LANGUAGES, vocabulary, write_phrase, write_report
from monai_mgca.text.words import find_words
from monai_mgca.transforms import CleanReport, TokenizeReport
from monai_mgca.utils import DataError

_, has_transformers = optional_import("transformers")

STUDIES = 300
# of the reports and phrases of `STUDIES` studies, and of the words, as they were before there was another language
ENGLISH = "c78bcfc0a863d85d617b271154051c5f1c6b6f43a51b654d83466fb515ee1766"

# what a sentence is about, by its first match
KINDS = {
    "device": r"tubos?\b|sonda|catéter|\bvía\b|marcapasos|drenaje|intubado|dispositivos",
    "opacity": r"opacidad|consolidación",
    "effusion": r"derrame|líquido pleural|ángulos costofrénicos",
    "pneumothorax": r"neumotórax|aire pleural",
    "nodule": r"nódulos?\b|nodular",
    "cardiomegaly": r"cardiomegalia|corazón|silueta cardíaca",
}
ABSENT = r"^(sin|no)\b|tamaño normal|están libres"
SIZES = {
    "small": r"pequeñ|mínim|\bleve|diminuto|ligera|incipiente",
    "moderate": r"moderad|median|apreciable",
    "large": r"extens|importante|\bampli[oa]\b|grande|voluminoso|marcada|severa|masiva",
}
ZONES = {"upper": "superior", "mid": r"\b(inter)?medi[oa]\b", "lower": "inferior|basal"}
FORMS = {"patchy": "parchead", "confluent": "confluente", "hazy": "tenue", "endotracheal tube": "endotraqueal|intubado"}
FORMS |= {"enteric tube": "sonda", "central line": r"catéter|\bvía\b", "pacemaker": "marcapasos"}
FORMS |= {"chest tube": "tubo torácico|drenaje"}


def studies(language: str) -> Iterator[tuple[tuple[Finding, ...], str, float]]:
    """Findings, report, and what is drawn next, of some studies."""
    for seed in range(STUDIES):
        rng = np.random.default_rng([1, seed])
        anatomy, findings = draw_anatomy(rng), draw_findings(rng)
        yield findings, write_report(anatomy, findings, seed % 3 == 0, rng, language), rng.random()


def only(patterns: dict[str, str], sentence: str) -> str:
    """The one name whose pattern is in a sentence, or ""."""
    found = [name for name, pattern in patterns.items() if re.search(pattern, sentence)]
    assert len(found) < 2, (sentence, found)
    return "".join(found)


def read_finding(kind: str, sentence: str) -> Finding:
    """What a sentence or phrase says of a finding."""
    sides = set(re.findall(r"derech|izquierd", sentence.replace("ventrículo derecho", "")))
    assert len(sides) < 2, sentence
    side = {"derech": "right", "izquierd": "left", "": ""}["".join(sides)]
    diameter = int((re.search(r"(\d+) mm", sentence) or [0, 0])[1])
    size = only(SIZES, sentence) if kind != "device" else ""
    if kind == "nodule" and not size:  # its diameter says it
        size = "small" if diameter < 15 else "moderate" if diameter < 23 else "large"
    zone = only(ZONES, sentence) if kind in ("opacity", "nodule") else ""
    form = only(FORMS, sentence) if kind in ("opacity", "device") else ""
    return Finding(kind, side, zone, size, form, diameter)


def read_report(report: str) -> tuple[list[Finding], set[str]]:
    """Every finding that is said to be there, as often as it is said, and the classes that are said to be absent."""
    present, absent = [], set()
    for sentence in re.sub(r"\b\d\. ", "", report).lower().strip(".").split(". "):
        kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, sentence)), "")
        kind = kind or ("opacity" if "evidencia de neumonía" in sentence else "")
        if kind and re.search(ABSENT, sentence):
            absent.add(kind)
        elif kind:
            present.append(read_finding(kind, sentence))
    return present, absent


def shape(table: object) -> object:
    """A table without its words: its keys, how many wordings there are, and the slots of each."""
    if isinstance(table, dict):
        return {key: shape(value) for key, value in table.items()}
    if isinstance(table, tuple):
        return [shape(value) for value in table]
    return {slot.removesuffix("_a") for _, slot, *_ in Formatter().parse(str(table)) if slot}


class TestWording:
    def test_english_is_as_it_was(self):
        digest = hashlib.sha256()
        for findings, report, _ in studies("en"):
            digest.update("\n".join([report, *map(write_phrase, findings)]).encode())
        digest.update(" ".join(vocabulary()).encode())
        assert digest.hexdigest() == ENGLISH

    def test_languages_have_the_same_tables(self):
        own = {"FEMININE", "PHRASE", "TERMS", "CLASSES", "DEVICES"}
        tables, others = (
            {n: t for n, t in vars(m).items() if n.isupper() and n not in own} for m in (english, spanish)
        )
        assert tables.keys() == others.keys()
        for name, table in tables.items():
            assert shape(table) == shape(others[name]), name
        assert set(spanish.PHRASE) == set(english.PHRASE) == set(CLASSES)
        assert set(english.TERMS) == {*spanish.TERMS, *CLASSES}

    def test_the_same_is_drawn_after_the_report(self):
        assert [(f, drawn) for f, _, drawn in studies("en")] == [(f, drawn) for f, _, drawn in studies("es")]

    def test_spanish_reports_say_what_is_there(self):
        seen = set()
        for findings, report, _ in studies("es"):
            present, absent = read_report(report)
            assert sorted(present, key=repr) == sorted([*findings] * 2, key=repr), report  # impression and findings
            assert not absent & {finding.kind for finding in findings}
            seen |= absent
            for finding in findings:
                phrase = write_phrase(finding, "es")
                assert read_finding(finding.kind, phrase) == Finding(**{**vars(finding), "millimeters": 0})
        assert seen == set(CLASSES)

    def test_gender_and_accents(self):
        text = " ".join(report for _, report, _ in studies("es")).lower()
        assert not re.search(r"(opacidad|lámina|zona|base|pared torácica) \w+o\b(?! (campo|lado))", text)
        assert not re.search(r"(derrame|neumotórax|nódulo|hemidiafragma|pulmón) (\w+a)\b", text)
        assert {"corazón", "neumotórax", "pequeño", "pequeña", "derrame"} <= set(re.findall(r"\w+", text))
        assert not any(mark in text for mark in ("{", "}", "  ", ",.", " ,"))


@pytest.mark.skipif(not has_transformers, reason="needs transformers")
class TestTokenizer:
    def test_every_word_is_whole(self, tmp_path):
        write_report_encoder(tmp_path, "+".join(LANGUAGES))
        clean, tokenize = CleanReport(letters="all"), TokenizeReport(str(tmp_path), max_length=128)
        for language in LANGUAGES:
            for _, report, _ in studies(language):
                sentences = clean(report)
                assert len(sentences) == len(re.sub(r"\b\d\. ", "", report).strip(".").split(". "))
                words = [word for sentence in sentences for word in sentence.split()]
                text = re.sub(r"\b\d\. ", "", report).lower()
                assert words == [text[begin:end] for begin, end in find_words(text)]
                tokens = tokenize(sentences)
                pieces = tokenize.tokenizer.convert_ids_to_tokens(tokens["input_ids"][tokens["word_ids"] >= 0])
                assert pieces == words

    def test_two_sentences_of_whole_words(self, tmp_path):
        write_report_encoder(tmp_path, "en+es")
        sentences = CleanReport(letters="all")("Corazón de tamaño normal. Opacidad de 1.5 cm.")
        assert sentences == ["corazón de tamaño normal", "opacidad de 1.5 cm"]
        tokens = TokenizeReport(str(tmp_path), max_length=24, whole_words=True)(sentences)
        assert tokens["sentence_ids"].max() == 1
        assert tokens["word_ids"].max() + 1 == 8
        assert "[UNK]" not in TokenizeReport(str(tmp_path)).tokenizer.tokenize("CORAZON, Ñandú; xyz 79.")


def contents_of(datalist: Path) -> dict[str, bytes]:
    pictures = sorted(datalist.parent.rglob("*.png"))
    return {file.relative_to(datalist.parent).as_posix(): file.read_bytes() for file in pictures}


def test_make_sample(tmp_path):
    texts, rest, pictures = {}, {}, {}
    for language in SAMPLE_LANGUAGES:
        path = make_sample(tmp_path / language, size=8, image_size=64, language=language, progress=False)
        document = read_datalist(path)
        said = {} if language == "en" else {"language": language}
        assert {key: document.get(key) for key in ("language", "letters")} == (
            {"language": language, "letters": "all"} if said else {"language": None, "letters": None}
        )
        assert document["settings"] == {"version": 1, "size": 8, "image_size": 64, "seed": 0, **said}
        assert report_letters(path) == ("all" if said else "ascii")
        entries = sorted((entry for section in SECTIONS for entry in document[section]), key=lambda entry: entry["id"])
        texts[language] = [(entry.pop("report"), entry.pop("box_phrases")) for entry in entries]
        rest[language] = [[entry["id"] for entry in document[section]] for section in SECTIONS], entries
        pictures[language] = contents_of(path)
    assert rest["en"] == rest["es"] == rest["en+es"]
    assert pictures["en"] == pictures["es"] == pictures["en+es"]
    assert len(pictures["en"]) == 24
    assert texts["en+es"] == [texts[("en", "es")[i % 2]][i] for i in range(8)]
    assert not any(a == b for (a, _), (b, _) in zip(texts["en"], texts["es"], strict=True))
    make_sample(tmp_path / "es", size=8, image_size=64, progress=False)  # another language replaces it
    assert (tmp_path / "es" / "datalist.json").read_bytes() == (tmp_path / "en" / "datalist.json").read_bytes()
    with pytest.raises(DataError, match=r"language must be one of en, es, en\+es, got fr"):
        make_sample(tmp_path / "fr", language="fr")
