# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

import re
import sys
from pathlib import Path

import pytest

from monai_mgca.apps import anchors_command as anchors
from monai_mgca.apps.card import card_command, compose_card
from monai_mgca.apps.probe import probe_command as probe
from monai_mgca.utils import DataError
from monai_mgca.utils.extras import EXTRAS, require_extra

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"sklearn": "scikit-learn", "faiss": "faiss-cpu"}


@pytest.fixture
def without(monkeypatch):
    """Hides packages as if they were not installed."""

    def hide(*names):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_extras_are_those_of_pyproject():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lists = {extra: [re.match(r"[\w-]+", line)[0] for line in lines] for extra, lines in extras.items()}
    for extra, modules in EXTRAS.items():
        assert {NAMES.get(module, module) for module in modules} <= set(lists[extra])


def test_what_is_there_is_no_error(without):
    require_extra("probe", "This", "json")
    without("json")
    with pytest.raises(DataError, match=r'This needs json, not installed here: pip install "monai-mgca\[probe\]"\.'):
        require_extra("probe", "This", "json")


@pytest.mark.parametrize("missing", [("sklearn",), ("matplotlib",), ("sklearn", "matplotlib")])
def test_probe_names_them_before_it_reads_anything(without, capsys, missing):
    without(*missing)
    assert probe.main(["--checkpoint", "nowhere.pt", "--datalist", "nowhere.json"]) == 2
    output = capsys.readouterr().err
    assert 'pip install "monai-mgca[probe]"' in output
    assert all(name in output for name in missing)
    assert "nowhere" not in output


def test_anchors_name_them_before_they_read_anything(without, capsys):
    without("sklearn")
    assert anchors.main(["nowhere.json", "--image-size", "64"]) == 2
    assert capsys.readouterr().err.startswith("error: Fitting anchors needs sklearn")


def test_the_card_says_so_at_its_beginning(monkeypatch, caplog, capsys):
    monkeypatch.setattr(compose_card, "has_matplotlib", False)
    assert card_command.main(["--checkpoint", "nowhere/model_pretrain.pt"]) == 2
    assert 'matplotlib is missing: pip install "monai-mgca[probe]"' in caplog.text
