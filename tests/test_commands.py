# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The door: what `mgca` lists, and the help of every command, which is quick since it imports no deep learning."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from monai_mgca.__main__ import COMMANDS, main
from monai_mgca.apps.data_command import EXAMPLES, make_parser
from monai_mgca.apps.retrieve import retrieve_command
from monai_mgca.apps.retrieve.embedding_index import BACKENDS
from monai_mgca.data.sample.radiographs import SAMPLE_LANGUAGES
from monai_mgca.data.sources.siim_acr import ENCODINGS

HELP = [[name, "--help"] for name in COMMANDS]
HELP += [["data", source, "--help"] for source in EXAMPLES] + [["weights", "convert", "--help"]]

SOURCES = next(action.choices for action in make_parser()._actions if action.dest == "command")
CHOICES = [(retrieve_command._parser(), "--backend", BACKENDS), (SOURCES["siim_acr"], "--encoding", ENCODINGS)]
CHOICES += [(SOURCES["sample"], "--language", SAMPLE_LANGUAGES)]


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_ends_with_an_example(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    example = printed.partition("\nExample")[2].partition(":\n")[2]
    assert example.split()[:2] == ["mgca", arguments[0]]
    # nothing stands behind the example
    assert all(line.startswith("  ") for line in example.splitlines())


def test_alone_it_lists_the_commands(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    for name, (_, text) in COMMANDS.items():
        assert any(line.split(maxsplit=1) == [name, text] for line in printed.splitlines()), name


def test_readme_lists_them_too():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `mgca ([\w-]+)` \| (.+?) \|", text, flags=re.MULTILINE)
    assert rows == [(name, text) for name, (_, text) in COMMANDS.items()]


def test_unknown_command_is_refused_with_the_list(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["datta"])
    assert ended.value.code == 2
    assert "'datta'" in (printed := capsys.readouterr().err)
    assert "retrieve" in printed


def test_help_imports_no_deep_learning():
    code = f"""
        import sys
        from monai_mgca.__main__ import main

        main([])
        for arguments in {HELP}:
            try:
                main(arguments)
            except SystemExit as ended:
                assert ended.code == 0, arguments
            for heavy in ("torch", "monai", "transformers"):
                assert heavy not in sys.modules, (heavy, arguments)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(("parser", "option", "known"), CHOICES)
def test_choices_are_those_of_the_function(parser, option, known):
    """The commands write them out, since importing the function's module would take seconds."""
    (action,) = (action for action in parser._actions if option in action.option_strings)
    assert tuple(action.choices) == known
