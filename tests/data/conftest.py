# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from monai_mgca.apps.data_command import main


def draw(path: Path, size: tuple[int, int] = (60, 40), value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path, format="PNG")


@pytest.fixture
def collect(tmp_path, capsys):
    """Writes a table, makes its datalist, and gives entries by image and the summary, or the error."""

    def run(header, rows, *options, images=None, fails=False, encoding="utf-8"):
        with (tmp_path / "t.csv").open("w", newline="", encoding=encoding) as file:
            csv.writer(file).writerows([header.split(), *rows])
        for name in images if images is not None else {row[0] for row in rows}:
            draw(tmp_path / name)
        out = tmp_path / "list.json"
        out.unlink(missing_ok=True)
        where = () if "--image-template" in options else ("--image", header.split()[0])
        args = ["csv", tmp_path / "t.csv", *where, *options, "--output", out, "--fractions", 1, 0, 0]
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        assert code == (2 if fails else 0), captured.err
        if fails:
            assert not out.exists()
            return captured.err
        document = json.loads(out.read_text())
        return {entry["image"]: entry for entry in document["training"]}, document, captured.out

    return run
