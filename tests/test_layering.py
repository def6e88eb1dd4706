# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The house rules that a machine can check: one-way imports, optional dependencies, headers, short functions, style."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "monai_mgca"
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OPTIONAL = {"transformers", "pandas", "pydicom", "monailabel", "nibabel", "itk", "sklearn", "faiss"}
LONGEST = 60

_CORE = {"utils", "io", "transforms", "data", "networks", "losses", "metrics"}
_WORK = {"handlers", "engines", "inferers"}
# what each part may import besides itself
BELOW = {
    "utils": set(),
    "io": {"utils"},
    "transforms": {"utils", "io"},
    "data": {"utils", "io", "transforms"},
    "networks": {"utils"},
    "losses": {"utils"},
    "metrics": {"utils"},
    **{part: _CORE for part in _WORK},
    "bundle": _CORE | _WORK,
    "command": _CORE,
    **{part: _CORE | _WORK | {"command"} for part in ("ground", "probe", "report", "retrieve")},
    "label": _CORE | _WORK | {"bundle", "command"},
}
HEADER = """\
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
"""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST, package: list[str]) -> Iterator[tuple[str, int]]:
    """Absolute names of all that a file imports, also inside functions; ``package`` resolves relative imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: none in functions, none for the type checker alone."""
    for child in ast.iter_child_nodes(node):
        is_typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not is_typing and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from at_import_time(child)


def upward(source: str, parts: list[str]) -> list[str]:
    """Imports that point the wrong way, in a file of ``parts``, such as ["monai_mgca", "losses", "token.py"]."""
    own = parts[1].removesuffix(".py")
    allowed = {own} | BELOW.get(own, set())
    wrong = []
    for name, line in imports(ast.parse(source), parts[:-1]):
        top, *rest = name.split(".")
        if top == "monai_mgca" and rest and rest[0] != "__version__" and rest[0] not in allowed:
            wrong.append(f"line {line}: {name}")
    return wrong


def hard(source: str) -> list[str]:
    """Optional packages that are imported at module level."""
    names = []
    for node in at_import_time(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module or "")
    return [name for name in names if name.split(".")[0] in OPTIONAL]


def long_functions(source: str) -> list[str]:
    return [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno >= LONGEST
    ]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path):
    parts = list(path.relative_to(ROOT).parts)
    if len(parts) > 2 or parts[1] != "__init__.py":
        assert parts[1].removesuffix(".py") in BELOW, "a part of the package that the design does not know"
    assert upward(path.read_text(), parts) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_optional_packages_are_imported_where_they_are_used(path):
    found = hard(path.read_text())
    if path.parent.name == "label":  # made of MONAI Label's classes, and imported by its server alone
        found = [name for name in found if name.split(".")[0] != "monailabel"]
    assert found == [], "use optional_import"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_are_short(path):
    assert long_functions(path.read_text()) == []


def test_headers():
    texts = {name_of(path): path.read_text() for path in FILES + TESTS}
    first = {name: text.partition("\n")[2] if text.startswith("#!") else text for name, text in texts.items()}
    assert [name for name, text in first.items() if not text.startswith(HEADER)] == []


def test_style():
    """Format, and what else pyproject.toml asks of the code."""
    ruff = shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *command, "--no-cache", "."], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_there_is_something_to_check():
    assert {"utils", "networks", "losses"} <= {path.parent.name for path in FILES}
    assert Path(__file__).resolve() in TESTS


@pytest.mark.parametrize(
    "line",
    [
        "from monai_mgca.networks import MGCA",
        "import monai_mgca.metrics.retrieval",
        "from ..networks.mgca import MGCA",
        "from .. import networks",
        "from monai_mgca import label",
        "def f():\n    from monai_mgca.handlers import X",
    ],
)
def test_the_check_sees_wrong_ways(line):
    assert len(upward(line, ["monai_mgca", "losses", "token.py"])) == 1


@pytest.mark.parametrize("line", ["from .precision import x", "from ..utils.dist import rank", "import monai.losses"])
def test_the_check_lets_right_ways_pass(line):
    assert upward(line, ["monai_mgca", "losses", "token.py"]) == []


def test_the_check_sees_hard_imports():
    assert hard("import pandas as pd\nfrom pydicom.uid import UID") == ["pandas", "pydicom.uid"]
    assert hard("try:\n    import itk\nexcept ImportError:\n    itk = None") == ["itk"]
    assert hard("def f():\n    import pandas\nif TYPE_CHECKING:\n    import itk\nfrom .pandas import x") == []


def test_the_check_sees_long_functions():
    assert long_functions("def f():\n" + "    x = 1\n" * LONGEST) == [f"f: {LONGEST + 1} lines"]
    assert long_functions("def f():\n" + "    x = 1\n" * (LONGEST - 1)) == []
