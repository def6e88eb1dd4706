# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from monai_mgca import __version__
from monai_mgca.apps.bundle_command import copy_bundle, main

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "monai_mgca", "bundles", "tests")
# what the bundle is: a run's files are none of it
BUNDLE = ["LICENSE", "configs/train.json", "configs/inference.json", "configs/metadata.json", "configs/logging.conf",
          "docs/data_license.txt", "docs/README.md", "large_files.yml", "models/.gitkeep"]  # fmt: skip
FOREIGN = ("data/sample", "eval", "models/model.pt", "models/model.json", "models/checkpoint_iteration=10.pt")


def run_python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    env = {**os.environ, "PYTHONPATH": str(path or "")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of what a wheel is built from, where training has been run."""
    folder = tmp_path_factory.mktemp("clone")
    for part in map(ROOT.joinpath, PARTS):
        if part.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "data", "eval", "*.pt", "*.npz", "*.egg-info")
            # monai_mgca/data is a package, bundles/mgca/data is not
            ignored = shutil.ignore_patterns("__pycache__") if part.name == "monai_mgca" else ignored
            shutil.copytree(part, folder / part.name, ignore=ignored)
        else:
            shutil.copy(part, folder)
    for name in FOREIGN:
        path = folder / "bundles" / "mgca" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("made by a run")
    return folder


@pytest.fixture(scope="module")
def installed(clone, tmp_path_factory):
    """A folder with the content of the wheel, built without network."""
    pytest.importorskip("setuptools", minversion="77", reason="setuptools 77 reads the license in pyproject.toml")
    dist, site = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    build = ("-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(dist))
    run_python(*build, cwd=clone)
    (wheel,) = dist.glob("*.whl")
    assert wheel.name == f"monai_mgca-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    return site


def test_wheel_holds_package_and_bundle(installed):
    files = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    endings = ("*.py", "*.pyi", "*.html")
    sources = {path.relative_to(ROOT).as_posix() for end in endings for path in (ROOT / "monai_mgca").rglob(end)}
    assert sources <= files
    assert "monai_mgca/py.typed" in files
    assert {f"monai_mgca/_bundle/{name}" for name in BUNDLE} <= files
    info = f"monai_mgca-{__version__}.dist-info"
    assert f"{info}/licenses/LICENSE" in files
    assert not [name for name in files if not name.startswith(("monai_mgca/", info))]
    assert not [name for name in files for foreign in FOREIGN if name.startswith(f"monai_mgca/_bundle/{foreign}")]


def test_readme_is_the_description(installed):
    metadata = (installed / f"monai_mgca-{__version__}.dist-info" / "METADATA").read_text()
    assert "# MONAI MGCA" in metadata


@pytest.mark.parametrize("where", ["wheel", "clone"])
def test_command_copies_the_bundle(request, tmp_path, where):
    path = request.getfixturevalue("installed" if where == "wheel" else "clone")
    printed = run_python("-m", "monai_mgca", "bundle", "new/mgca", cwd=tmp_path, path=path)
    assert printed.startswith("The bundle is in new/mgca.")
    copy = tmp_path / "new" / "mgca"
    assert all((copy / name).is_file() for name in BUNDLE)
    assert not any((copy / name).exists() for name in FOREIGN)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mgca"]


def test_refuses_an_existing_folder(tmp_path, capsys):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="exists already: name a new folder"):
        copy_bundle(tmp_path)
    assert main([str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_failed_copy_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        copy_bundle(tmp_path / "mgca")
    assert not list(tmp_path.iterdir())
