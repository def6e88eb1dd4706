# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The documentation site: it builds without a warning and without network, and holds every page and public name."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STUBS = sorted((ROOT / "monai_mgca").rglob("__init__.pyi"))
ROOMS = [".".join(stub.parent.relative_to(ROOT).parts) for stub in STUBS]


def public_names(room: str) -> list[str]:
    tree = ast.parse((ROOT / room.replace(".", "/") / "__init__.pyi").read_text())
    (names,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    return ast.literal_eval(names)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip('mkdocs is not installed: pip install -e ".[docs]" -c constraints.txt')
    folder = tmp_path_factory.mktemp("site")
    # no proxy leads anywhere: what asked for another host would fail
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def links(page: Path) -> set[Path]:
    """The pages that a page links to."""
    targets = re.findall(r'<a\b[^>]*?href="?([^"#> ]+\.html)', page.read_text(encoding="utf-8"))
    return {(page.parent / target).resolve() for target in targets if "://" not in target}


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_its_page(room):
    page = ROOT / "docs" / "reference" / f"{room.removeprefix('monai_mgca.').replace('.', '_')}.md"
    assert re.findall(r"^::: (\S+)$", page.read_text(), flags=re.MULTILINE) == [room]


@pytest.mark.parametrize("room", ROOMS)
def test_no_public_name_is_a_module_too(room):
    """Whichever was imported first would hide the other."""
    modules = {path.stem for path in (ROOT / room.replace(".", "/")).iterdir()}
    assert not modules & set(public_names(room))


@pytest.mark.parametrize("room", ROOMS)
def test_reference_has_every_public_name(room, site):
    page = site / "reference" / f"{room.removeprefix('monai_mgca.').replace('.', '_')}.html"
    text = page.read_text(encoding="utf-8")
    described = set(re.findall(rf'id="?{re.escape(room)}\.(\w+)["> ]', text))
    others = [name for name in public_names(room) if name not in described]
    # CleanReportD and CleanReportDict are CleanReportd
    assert all(re.sub("D(ict)?$", "d", name) in described and f"<code>{name}</code>" in text for name in others)


def test_every_page_is_two_clicks_away(site):
    pages = {page for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(pages) == len(list((ROOT / "docs").rglob("*.md")))
    first = links(site / "index.html")
    assert pages - first - set().union(*map(links, first)) <= {site / "index.html"}


def test_no_page_asks_another_host(site):
    for page in site.rglob("*.html"):
        asked = re.findall(
            r'<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="?((?:https?:)?//[^"> ]+)', page.read_text()
        )
        assert not asked, page
