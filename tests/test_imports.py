# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The package imports, and imports nothing heavy, where the optional dependencies are not installed.

`import monai` itself loads what it finds of them, so they are hidden first.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = ("transformers", "pandas", "pydicom", "monailabel", "nibabel", "itk", "sklearn", "faiss")
MODULES = [
    module
    for module in ("monai_mgca", "monai_mgca.losses", "monai_mgca.metrics", "monai_mgca.networks")
    if ROOT.joinpath(*module.split("."), "__init__.py").is_file()
]
# what needs transformers, which the package requires, but its losses and metrics do not
NEEDY = ("ReportEncoder", "TransformersImageEncoder")
PROGRAM = """
import importlib, importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {optional!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import monai_mgca
light = "monai" not in sys.modules and "torch" not in sys.modules
for name in {modules!r}:
    try:
        package = importlib.import_module(name)
        for part in set(package.__all__) - {needy!r} if name != "monai_mgca" else ():
            getattr(package, part)
        print(name, "imported")
    except Exception as error:
        print(name, type(error).__name__, error)
print("loaded", sorted(set(sys.modules) & set({optional!r})))
print("light", light)
"""


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """What one process without the optional packages prints; MONAI takes seconds to import."""
    program = PROGRAM.format(optional=OPTIONAL, modules=MODULES, needy=set(NEEDY))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("module", MODULES)
def test_imports_without_the_optional_packages(lines, module):
    assert f"{module} imported" in lines


def test_optional_packages_stay_out(lines):
    assert "loaded []" in lines


def test_the_top_of_the_package_is_light(lines):
    assert "light True" in lines
