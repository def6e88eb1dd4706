# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The house rules that a machine can check: one-way imports, optional dependencies, headers, short functions, style."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "monai_mgca"
FILES = sorted(PACKAGE.rglob("*.py"))
STUBS = sorted(PACKAGE.rglob("*.pyi"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OPTIONAL = {"faiss", "matplotlib", "monailabel", "onnx", "onnxruntime", "pandas", "sklearn"}
LONGEST = 60

HEADER = """\
# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""
MOST = 22  # files in a folder
# a task's metric, handler and loss may have its name
OF_TASKS = {"losses", "metrics", "handlers"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: none in functions, none for the type checker alone."""
    for child in ast.iter_child_nodes(node):
        is_typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not is_typing and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from at_import_time(child)


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


def shared_names(paths: Iterable[Path]) -> set[str]:
    """Names of several files, of which some are no metric, handler or loss; ``paths`` begin with the package."""
    places = defaultdict(list)
    for path in paths:
        places[path.name].append(path.parts[1])
    several = {name: found for name, found in places.items() if len(found) > 1 and name != "__init__.py"}
    return {name for name, found in several.items() if not OF_TASKS.issuperset(found) or len(set(found)) < len(found)}


def crowded(paths: Iterable[Path]) -> set[str]:
    counts = Counter(str(path.parent) for path in paths if path.name != "__init__.py")
    return {folder for folder, number in counts.items() if number > MOST}


def test_files_have_names_of_their_own():
    assert shared_names(path.relative_to(ROOT) for path in FILES) == set()


def test_folders_can_be_overlooked():
    assert crowded(path.relative_to(ROOT) for path in FILES) == set()


def test_imports_point_one_way():
    """The contract is in pyproject.toml."""
    linter = shutil.which("lint-imports")
    if linter is None:
        pytest.skip("import-linter is not installed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_optional_packages_are_imported_where_they_are_used(path):
    found = hard(path.read_text())
    if "label" in path.parts:  # made of MONAI Label's classes, and imported by its server alone
        found = [name for name in found if name.split(".")[0] != "monailabel"]
    assert found == [], "import it where it is used"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_are_short(path):
    assert long_functions(path.read_text()) == []


def test_headers():
    texts = {name_of(path): path.read_text() for path in [*FILES, *STUBS, *TESTS]}
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


def test_the_check_sees_shared_names():
    names = ["losses/a.py", "metrics/a.py", "io/b.py", "data/b.py", "losses/c.py", "io/__init__.py", "data/__init__.py"]
    assert shared_names(Path("monai_mgca", name) for name in names) == {"b.py"}


def test_the_check_sees_crowded_folders():
    assert crowded(Path("io", f"{number}.py") for number in range(MOST + 1)) == {"io"}
    assert crowded(Path("io", f"{number}.py") for number in range(MOST)) == set()


def test_the_check_sees_hard_imports():
    assert hard("import pandas as pd\nfrom sklearn.metrics import auc") == ["pandas", "sklearn.metrics"]
    assert hard("try:\n    import faiss\nexcept ImportError:\n    faiss = None") == ["faiss"]
    assert hard("def f():\n    import pandas\nif TYPE_CHECKING:\n    import faiss\nfrom .pandas import x") == []


def test_the_check_sees_long_functions():
    assert long_functions("def f():\n" + "    x = 1\n" * LONGEST) == [f"f: {LONGEST + 1} lines"]
    assert long_functions("def f():\n" + "    x = 1\n" * (LONGEST - 1)) == []
