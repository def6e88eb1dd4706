# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

import ast
import re
import sys
from pathlib import Path

import pytest

from monai_mgca import probe, report
from monai_mgca.data import anchors
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
