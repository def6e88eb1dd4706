# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

import ast
import re
import sys
from pathlib import Path

import pytest

from monai_mgca.apps import anchors
from monai_mgca.apps.card import card_command as report
from monai_mgca.apps.probe import probe_command as probe
from monai_mgca.utils import DataError
from monai_mgca.utils.extras import EXTRAS, require_extra

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"sklearn": "scikit-learn", "faiss": "faiss-cpu"}


@pytest.fixture
def without(monkeypatch):
    """Hides packages as if they were not installed."""

    def hide(*names):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_extras_are_those_of_setup():
    tree = ast.parse((ROOT / "setup.py").read_text())
    lists = {
        node.targets[0].id: [
            re.match(r"[\w-]+", item.value)[0] for item in node.value.elts if isinstance(item, ast.Constant)
        ]
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
    }
    for extra, modules in EXTRAS.items():
        assert {NAMES.get(module, module) for module in modules} <= set(lists[extra.upper()])


def test_what_is_there_is_no_error(without):
    require_extra("probe", "This", "json")
    without("json")
    with pytest.raises(DataError, match=r'This needs json, not installed here: pip install "monai-mgca\[probe\]"\.'):
        require_extra("probe", "This", "json")


@pytest.mark.parametrize("missing", [("sklearn",), ("matplotlib",), ("sklearn", "matplotlib")])
def test_probe_names_them_before_it_reads_anything(without, capsys, missing):
    without(*missing)
    assert probe.main(["--checkpoint", "nowhere.pt", "--datalist", "nowhere.json"]) == 2
    told = capsys.readouterr().err
    assert 'pip install "monai-mgca[probe]"' in told and all(name in told for name in missing)
    assert "nowhere" not in told


def test_anchors_name_them_before_they_read_anything(without, capsys):
    without("sklearn")
    assert anchors.main(["nowhere.json", "--image-size", "64"]) == 2
    assert capsys.readouterr().err.startswith("error: Fitting anchors needs sklearn")


def test_the_report_page_says_so_at_its_beginning(monkeypatch, caplog, capsys):
    monkeypatch.setattr(report, "has_matplotlib", False)
    assert report.main(["--checkpoint", "nowhere/model_pretrain.pt"]) == 2
    assert 'matplotlib is missing: pip install "monai-mgca[probe]"' in caplog.text
