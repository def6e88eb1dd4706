# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

import pytest

from monai_mgca.text.markup import end_lines, strip_markup
from monai_mgca.text.rtf import rtf_to_text
from monai_mgca.text.sentence_cleaner import report_doubts
from monai_mgca.transforms import CleanReport

RTF = r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0 Arial;}}{\colortbl;\red0\green0\blue0;}{\*\generator Riched20;}"
CLEANED = [
    # HTML and XML
    (
        "Nodule &lt; 3&nbsp;mm in left lung &amp; no effusion.<br/>Clear.",
        ["nodule 3 mm in left lung no effusion", "clear"],
    ),
    ("<p>No effusion</p><P class='x'>Clear lungs</P>", ["no effusion", "clear lungs"]),
    ("<ul><li>Edema of lungs</li><li>no mass</li></ul>", ["edema of lungs", "no mass"]),
    ("&amp;lt;br&amp;gt;No acute&#160;disease &#xB1;", ["no acute disease"]),
    (
        "<html><head><style>p {color: red}</style></head><body><b>No</b> acute <!-- note --> disease",
        ["no acute disease"],
    ),
    ('<content styleCode="Bold">No acute</content><x:y/> disease', ["no acute disease"]),
    ("<![CDATA[No acute disease]]>", ["no acute disease"]),
    ("10<sup>3</sup> of 2 cm<sup>2</sup>", ["10 3 of 2 cm2"]),
    ("The previously<BR>described mass", ["the previously described mass"]),
    # Excel
    ("Left lower lobe opacity._x000D_\nNo effusion._x000D_", ["left lower lobe opacity", "no effusion"]),
    ("Left_x0020_lower_x000d_lobe", ["left lower lobe"]),
    # RTF
    (RTF + r"\f0\fs20 Left lower lobe opacity.\par No effusion.\par}", ["left lower lobe opacity", "no effusion"]),
    (RTF + r"\pard Left opacity\par No effusion}", ["left opacity", "no effusion"]),
    (RTF + r"Gr\'f6\'dfe 3 cm, p\u322?uco \{ok\}\tab b{\b old}}", ["grosse 3 cm pluco ok bold"]),
    (RTF + r"{\pict\wmetafile8 0102abcdef}\uc0\u8805 3 mm nodule", ["3 mm nodule"]),
    ("FINDINGS " + RTF + "No acute disease}", ["findings", "no acute disease"]),
    (r"\b0\fs20 Left opacity.\par No effusion\par", ["left opacity", "no effusion"]),
    # HL7
    (r"Left lower lobe opacity.\.br\No effusion.\.br\ ", ["left lower lobe opacity", "no effusion"]),
    (r"\H\Mass\N\ 2 \T\ 3 \X0D0A\of \S\lung\E\ ", ["mass 2 3 of lung"]),
    (r"Clear lungs\.sp2\\.in+4\No effusion", ["clear lungs", "no effusion"]),
    (
        "PID|1||7||DOE^JOHN\rOBX|1|TX|1^CXR||Clear lungs~No \\T\\ effusion.||||||F\rNTE|1||Normal\rNTE|2||heart",
        ["clear lungs", "no effusion", "normal heart"],
    ),
    ("Clear lungs.~No effusion~~Heart normal", ["clear lungs", "no effusion", "heart normal"]),
    ("Clear lungs.|No effusion", ["clear lungs", "no effusion"]),
    # strings as programs write them
    (r"Left opacity.\nNo effusion.\r\n\tClear", ["left opacity", "no effusion", "clear"]),
    (r"Opacit\u00e9 du poumon", ["opacite du poumon"]),
]


@pytest.mark.parametrize(("text", "sentences"), CLEANED)
def test_markup_becomes_no_words(text, sentences):
    assert CleanReport()(text) == sentences
    assert CleanReport().has_words(text)
    assert strip_markup(text)[1]
    assert [reason for reason, _ in report_doubts(text)] == ["report has markup"]
    plain = strip_markup(text)[0]
    assert strip_markup(plain) == (plain, ())


PLAIN = (
    "a nodule of ~5 mm, L|R",
    "about:~5 mm",
    "nodule < 3 mm and > 2",
    "a<b and c>d",
    "pH<pKa> 7",
    "SpO2<90 & HR>100",
    "R&D x&y; COPD & CHF;",
    "left\\right and\\or",
    "XXXX <unk> [** a **] ___ b_x c",
    "{curly} #1 *bold*",
    "x < y > z",
)


@pytest.mark.parametrize("text", PLAIN)
def test_signs_of_plain_text_stay(text):
    assert strip_markup(text) == (text, ())
    assert not list(report_doubts(text))


def test_markup_alone_is_no_word():
    for text in ("<p>&nbsp;<br/></p><div>x</div>", "&lt;&gt;&amp; a &nbsp;", "_x000D_ _x000D_ a _x000D_"):
        assert not CleanReport().has_words(text)
        assert CleanReport()(text) == []


def test_official_cleaning_stays():
    assert CleanReport(official=True)("No&nbsp;mass seen.<br>x y") == ["no nbsp mass seen", "br x y"]


def test_cut_rtf_comes_to_an_end():
    whole = RTF + r"\f0 Clear lungs.\par{\b No} effusion.}"
    for end in range(0, len(whole), 7):
        assert isinstance(rtf_to_text(whole[:end]), str)
    assert rtf_to_text("{\\rtf1 " + "{" * 50_000) == ""
    assert strip_markup("{\\rtf1 a}" * 3000)[1] == ("RTF",)


LINES = [
    ("1. Mild edema\n2. Effusion", "1. Mild edema.\n2. Effusion"),
    ("- edema\n- mass", "- edema.\n- mass"),
    ("LUNGS: clear\nHeart size: normal", "LUNGS: clear.\nHeart size: normal"),
    ("Heart normal\n\nLungs clear", "Heart normal.\n\nLungs clear"),
    ("There is no\neffusion in the\nLeft lung", "There is no\neffusion in the\nLeft lung"),
    ("Heart normal.\n\nLungs clear", "Heart normal.\n\nLungs clear"),
    ("measures 3 x\n4.5 cm", "measures 3 x\n4.5 cm"),
    ("Left opacity\x0bNo effusion", "Left opacity.\nNo effusion"),
    ("x" * 70 + "\x0bNo effusion", "x" * 70 + "\nNo effusion"),
    ("no line end", "no line end"),
]


@pytest.mark.parametrize(("text", "ended"), LINES)
def test_statements_that_end_with_their_line(text, ended):
    assert end_lines(text) == ended


def test_long_texts_come_to_an_end():
    for piece in (
        "<",
        "<a ",
        "&amp;",
        "\\",
        "{\\rtf",
        "<!--",
        "_x000D_",
        "<b>",
        "\n ",
        "1.\n",
        "A:\n",
        "<a b=c ",
        "\\par ",
    ):
        text = piece * (40_000 // len(piece))
        end_lines(strip_markup(text)[0])
