# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Processes that MONAI Label starts for a client import nothing that a client names."""

from __future__ import annotations

import functools
import subprocess

import pytest
from monailabel.utils.async_tasks import task, utils

from monai_mgca.label.app import MGCAApp


@pytest.mark.parametrize(
    ("method", "request_"), [("train", {"model": "x"}), ("batch_infer", {"model": "x"}), ("scoring", {"method": "x"})]
)
def test_no_module_of_a_folder_that_a_client_names(tmp_path, monkeypatch, method, request_):
    """Python would run a ``sitecustomize.py`` there: a client may send one as a session, and learns its folder."""
    app, environments = MGCAApp.__new__(MGCAApp), []
    app._infers = app._trainers = {"x": None}

    def start(command, env, **_options):
        environments.append(env)
        raise OSError("enough")

    monkeypatch.setattr(MGCAApp, "info", lambda self: {})
    monkeypatch.setattr(task, "app_instance", lambda: app)
    monkeypatch.setattr(task, "run_background_task", functools.partial(utils.run_background_task, debug=True))
    monkeypatch.setattr(utils, "subprocess", type("", (), {**vars(subprocess), "Popen": staticmethod(start)}))
    monkeypatch.setenv("PYTHONPATH", "ours")
    with pytest.raises(OSError, match="enough"):
        task.AsyncTask.run(method, dict(request_), {"bundle_path": str(tmp_path)})
    assert environments[0]["PYTHONPATH"].startswith("ours")
    assert str(tmp_path) not in environments[0]["PYTHONPATH"]
