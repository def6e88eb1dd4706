# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ast
import io
import json
import logging
import sys
from copy import copy
from logging.config import fileConfig
from pathlib import Path

import pytest

from monai_mgca.data.check.problem import Problem, format_problems
from monai_mgca.utils import CheckpointError, DataError, OptionError, explain_errors
from monai_mgca.utils.arguments import ArgumentParser
from monai_mgca.utils.console import Lines, VisibleFormatter, name_some, say, visible, visible_lines
from monai_mgca.utils.errors import StorageError, first_cause
from monai_mgca.utils.progress import list_problems
from monai_mgca.utils.run_log import start_run_log
from monai_mgca.visualize.page import TEMPLATES, write_page

ROOT = Path(__file__).resolve().parents[2]
# what turns the screen red, names the window, goes back in the line, ends it, writes backwards, and is no letter
HOSTILE = "a\x1b[31m\x1b]0;x\x07\r\n\t\x9b2J\x7f\u202egnp.\u2028\udc80.png"
SHOWN = r"a\x1b[31m\x1b]0;x\x07\r\n\t\x9b2J\x7f\u202egnp.\u2028\udc80.png"
NAMES = [
    "Röntgen.png",
    "胸部/レントゲン.png",
    "صورة.png",
    "👩\u200d⚕️.png",
    "C:\\new\\table.png",
    "a b'c\"d=e.png",
    "\xa0",
]


def test_what_is_hidden_is_shown():
    assert visible(HOSTILE) == SHOWN
    assert visible_lines("a\n\tb\rc") == "a\n\tb\\rc"
    assert visible(visible(HOSTILE)) == SHOWN


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x202D, 0x2066, 0x2069, 0xD800])
def test_every_control_character(code):
    assert visible(chr(code)).isprintable()
    assert visible(chr(code)).isascii()


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_as_they_are(name):
    assert visible(name) == visible_lines(name) == name


@pytest.mark.parametrize("kind", [DataError, CheckpointError, OptionError, StorageError])
def test_errors(kind):
    error = kind(f"no such table: {HOSTILE}")
    assert str(error) == f"no such table: {SHOWN}"
    assert str(copy(error)) == str(error)
    assert str(kind(Lines(f"two\nlines \x1b {NAMES[1]}"))) == f"two\nlines \\x1b {NAMES[1]}"


def test_an_error_of_a_process_that_loads_data():
    text = f"Caught DataError in DataLoader worker process 0.\nOriginal Traceback:\nDataError: bad:\n  {SHOWN}: none\n"
    assert str(first_cause(RuntimeError(text))) == f"bad:\n  {SHOWN}: none"


def test_lists_have_a_line_for_each_file():
    message = list_problems(f"{HOSTILE}: bad", [(HOSTILE, "missing"), (NAMES[0], "a\nb")], "Mend.")
    assert message.splitlines() == [f"{SHOWN}: bad:", f"  {SHOWN}: missing", f"  {NAMES[0]}: a\\nb", "Mend."]
    assert str(DataError(message)) == message
    table = format_problems([Problem("missing", HOSTILE, "x\x1b")])
    assert table.splitlines()[-1] == f"  {SHOWN}: x\\x1b"
    assert name_some([HOSTILE, "b"]) == f"{SHOWN}, b"


def record(text):
    return logging.LogRecord("monai_mgca", logging.INFO, __file__, 1, "left out: %s", (text,), None)


def test_logs(global_state, tmp_path):
    assert VisibleFormatter("%(message)s").format(record("\x1b\nb")) == "left out: \\x1b\nb"
    start_run_log(tmp_path / "run.log")
    # without the half of a letter, which pytest's own capture could not send from one process to another
    logging.getLogger("monai_mgca.utils.test_visible").error(f"left out: {HOSTILE.encode('utf-8', 'ignore').decode()}")
    assert "\x1b" not in (tmp_path / "run.log").read_text()
    assert r"\x1b[31m" in (tmp_path / "run.log").read_text()


def test_the_console(capsys):
    say(HOSTILE)
    assert capsys.readouterr().out == SHOWN.replace(r"\n\t", "\n\t") + "\n"
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    say("Röntgen", file=narrow, flush=True)
    assert narrow.buffer.getvalue() == b"R\\xf6ntgen\n"


def test_errors_that_end_a_program(global_state, capsys):
    explain_errors()
    for error in (DataError(HOSTILE), KeyError("x")):
        sys.excepthook(type(error), error, None)
    OSError.__init__(error := OSError(HOSTILE))
    sys.excepthook(OSError, error, None)
    output = capsys.readouterr().err
    assert f"error: {SHOWN}\n" in output
    assert "\x1b" not in output.split("Traceback")[0]


def test_wrong_options(capsys):
    parser = ArgumentParser(prog="command")
    with pytest.raises(SystemExit):
        parser.parse_args([f"--{HOSTILE}"])
    assert SHOWN in capsys.readouterr().err


def test_pages(tmp_path):
    page = tmp_path / "page.html"
    write_page(
        page,
        HOSTILE,
        TEMPLATES.from_string(
            "{% extends 'base.html' %}{% block body %}<p>{{ name }}</p><p>{{ text }}</p>{{ 3 }}{% endblock %}"
        ),
        name=f"<b>{HOSTILE}",
        text="a\nb\x1b",
    )
    text = page.read_text(encoding="utf-8")
    assert "<p>&lt;b&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"\x1b[31m" in text
    assert "<p>a\nb\\x1b</p>3" in text


def test_nothing_else_prints():
    """All goes through what shows control characters, but for words of the package's own."""
    for path in (ROOT / "monai_mgca").rglob("*.py"):
        if path.name == "console.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            plain = name == "print" and all(isinstance(item, ast.Constant) for item in node.args)
            assert plain or name not in ("print", "logging.basicConfig", "logging.Formatter", "input"), (path, name)


def test_the_console_of_the_bundle(tmp_path):
    root, hook = logging.getLogger(), sys.excepthook
    before = root.handlers[:]
    try:
        fileConfig(ROOT / "bundles/mgca/configs/logging.conf", disable_existing_loggers=False)
        (handler,) = root.handlers
        handler.setStream(stream := io.StringIO())
        explain_errors()  # as every config begins
        logging.getLogger("monai_mgca").warning("left out: %s", HOSTILE)
        assert r"left out: a\x1b[31m" in stream.getvalue()
        assert "\x1b" not in stream.getvalue()
    finally:
        root.handlers[:], sys.excepthook = before, hook


def test_every_config_begins_so():
    for path in (ROOT / "bundles/mgca/configs").glob("*.json"):
        steps = json.loads(path.read_text()).get("initialize")
        if steps is not None:
            assert "$monai_mgca.utils.explain_errors()" in steps[:2], path
