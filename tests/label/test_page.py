# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Every client's command of docs/monailabel.md does what the page says, on the built-in sample."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "monailabel.md"
CLIENT = "python docs/label_client.py"
URL = "http://127.0.0.1:8000"


def client_commands() -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [line for line in "".join(blocks).replace("\\\n", " ").splitlines() if line.startswith(("curl ", CLIENT))]


def test_every_command_of_a_client_runs(start_server, label_bundle, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    commands = client_commands()
    assert len(commands) > 8
    images = tmp_path / "bundles" / "mgca" / "data" / "sample" / "images"
    shutil.copytree(label_bundle.parent / "sample" / "images", images)
    for path in images.glob("*.png"):
        path.with_suffix(".txt").write_text("Small left pleural effusion. Heart size is normal.")
    server = start_server(images, label_bundle)
    client = f"{sys.executable} {ROOT / 'docs' / 'label_client.py'} --url {server.url}"
    for command in commands:
        command = command.replace('"max_epochs": 20', '"max_epochs": 1')
        command = command.replace(URL, server.url).replace("curl ", "curl --fail-with-body --max-time 300 ", 1)
        command = command.replace(CLIENT, client)
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        _wait(server)
    assert Image.open(tmp_path / "effusion.png").size == (64, 64)
    assert Image.open(tmp_path / "answers.png").size == (4 * (320 + 4), 320 + 18)
    assert (tmp_path / "mask.nrrd").read_bytes().startswith(b"NRRD")


def _wait(server) -> None:
    """Until the work that a command started is done."""
    for kind in ("train", "scoring"):
        for _ in range(2000):
            if server.ask("GET", f"/{kind}/?check_if_running=true").status_code == 404:
                break
            time.sleep(0.1)
