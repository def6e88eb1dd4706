# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The packages, of which one is a folder elsewhere; all else about the project is in pyproject.toml."""

from __future__ import annotations

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["monai_mgca", "monai_mgca.*"]), "monai_mgca._bundle"])
