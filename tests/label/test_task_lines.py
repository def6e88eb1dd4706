# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A client may ask for the status of a task while the task prints."""

import sys
import threading
from pathlib import Path

import pytest
from fastapi.encoders import jsonable_encoder
from monailabel.utils.async_tasks import utils

from monai_mgca.label.task_lines import TaskLines


def test_are_read_while_they_come():
    lines, done = TaskLines(maxlen=20), threading.Event()

    def write() -> None:
        while not done.is_set():
            lines.append("a line")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # a line comes between any two steps of the reading
    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(2000):
            jsonable_encoder({"details": lines})
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert jsonable_encoder({"details": lines}) == {"details": ["a line"] * 20}


def test_what_monai_label_uses_in_their_place():
    """Its own refuses to be changed while it is read; the server puts ours under the name that it makes one by."""
    own = utils.deque(["a line"] * 3, maxlen=20)
    reading = iter(own)
    own.append("another")
    with pytest.raises(RuntimeError, match="mutated during iteration"):
        next(reading)
    server = Path(__file__).parents[2] / "monai_mgca" / "label" / "server.py"
    assert "background_tasks.deque = TaskLines" in server.read_text(encoding="utf-8")
