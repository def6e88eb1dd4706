# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""pyproject.toml and constraints.txt agree with each other on every Python that the README names."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@pytest.fixture
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def applies(requirement: Requirement, python: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"python_version": python})


def constraints(python: str) -> dict[str, SpecifierSet]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    chosen = [item for item in requirements if applies(item, python)]
    names = [canonicalize_name(item.name) for item in chosen]
    assert len(set(names)) == len(names), "a package is constrained twice"
    return {name: item.specifier for name, item in zip(names, chosen, strict=True)}


def requirements(project, python: str, extra: str = "") -> dict[str, SpecifierSet]:
    lines = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    found: dict[str, SpecifierSet] = {}
    for item in filter(lambda item: applies(item, python), map(Requirement, lines)):
        name = canonicalize_name(item.name)
        if name == project["name"]:  # an extra of its own extras
            for other in sorted(item.extras):
                for key, specifier in requirements(project, python, other).items():
                    found[key] = found.get(key, SpecifierSet()) & specifier
            continue
        found[name] = found.get(name, SpecifierSet()) & item.specifier
    return found


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("extra", ["", "test", "label", "dev"])
def test_pinned_versions_are_allowed(project, python, extra):
    pins = constraints(python)
    for name, specifier in requirements(project, python, extra).items():
        pinned = [item.version for item in pins.get(name, ()) if item.operator == "=="]
        assert all(specifier.contains(version) for version in pinned), name


@pytest.mark.parametrize("python", PYTHONS)
def test_numpy_2_and_pydicom_3_without_monai_label(project, python):
    core, label = (requirements(project, python, extra) for extra in ("", "label"))
    pins = constraints(python)
    for name, new, old in (("numpy", "2.2.6", "1.26.4"), ("pydicom", "3.0.2", "2.4.5")):
        assert (core[name] & pins[name]).contains(new), name
        assert (label[name] & pins[name]).contains(old), name
    assert label["pydicom"].contains("3.0.2") is False
    # NumPy 1 has no wheels for 3.13
    assert label["numpy"].contains("2.2.6") is (python == "3.13")


@pytest.mark.parametrize("python", PYTHONS)
def test_monai_label_by_pip_where_its_requirements_install(project, python):
    assert ("monailabel" in requirements(project, python, "label")) is (python != "3.13")
    assert ("monailabel" in requirements(project, python, "test")) is (python != "3.13")


def test_every_python_of_the_readme(project):
    first, last = re.search(r"^Python (3\.\d+) to (3\.\d+)", (ROOT / "README.md").read_text(), re.M).groups()
    assert (first, last) == (PYTHONS[0], PYTHONS[-1])
    named = [line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line]
    assert named == list(PYTHONS)
    assert project["requires-python"] == f">={first}"
    assert all(f" {python}" in (ROOT / ".ci" / "run").read_text() for python in PYTHONS[1:])


def test_workflow_tests_every_python_and_what_a_commit_checks(project):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    assert tuple(workflow["jobs"]["fast"]["strategy"]["matrix"]["python"]) == PYTHONS
    for job in workflow["jobs"].values():
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    ran = {step.get("run", "").split(" ")[0] for job in workflow["jobs"].values() for step in job["steps"]}
    commits = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (hooks,) = [repository["hooks"] for repository in commits["repos"]]
    assert all(hook["language"] == "system" for hook in hooks)
    tools = {hook["entry"].split()[0] for hook in hooks} - {"python"}
    assert tools == {"ruff", "mypy", "lint-imports"}
    assert tools <= ran
    named = requirements(project, "3.12", "dev")
    assert {"ruff", "mypy", "import-linter", "pre-commit"} <= set(named)
