# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

import logging
from configparser import ConfigParser
from pathlib import Path

import pytest

from monai_mgca.utils.run_log import start_run_log, stop_run_log

LOGGERS = ("monai_mgca", "monai_mgca.data", "ignite", "ignite.engine.engine.SupervisedTrainer")
CONF = Path(__file__).resolve().parents[2] / "bundles" / "mgca" / "configs" / "logging.conf"


@pytest.fixture
def log(tmp_path, monkeypatch):
    """The log of a run at the level of the bundle's logging.conf."""
    root = logging.getLogger()
    for logger in map(logging.getLogger, (None, *LOGGERS)):
        monkeypatch.setattr(logger, "level", logging.INFO)
        monkeypatch.setattr(logger, "_cache", {})
    yield start_run_log(tmp_path / "eval" / "run.log")
    stop_run_log()
    assert not any(type(handler).__name__ == "RunLog" for handler in root.handlers)


def say(name, text, level=logging.INFO):
    logging.getLogger(name).log(level, text)


def test_nothing_is_written_before_an_engine_runs(log):
    say("monai_mgca.data", "made the sample")
    say("monai_mgca.data", "one warning", logging.WARNING)
    assert not log.path.parent.exists()
    say("ignite.engine.engine.SupervisedTrainer", "Engine run starting")
    lines = log.path.read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "INFO monai_mgca.data: made the sample",
        "WARNING monai_mgca.data: one warning",
        "DEBUG ignite.engine.engine.SupervisedTrainer: Engine run starting",
    ]
    say("monai_mgca", "Epoch 1/2")
    assert log.path.read_text().splitlines()[-1].endswith("Epoch 1/2")


def test_an_error_is_written_at_once_with_what_came_before(log):
    say("monai_mgca.data", "made the sample")
    say("monai_mgca", "it failed", logging.ERROR)
    assert "made the sample" in log.path.read_text()
    assert "it failed" in log.path.read_text()


def test_a_log_is_continued(log, tmp_path):
    say("ignite", "first run")
    again = start_run_log(log.path)
    say("ignite", "second run")
    text = again.path.read_text()
    assert text.count("first run") == 1
    assert text.count("second run") == 1


def test_each_process_has_its_own(log, monkeypatch):
    monkeypatch.setattr("monai_mgca.utils.dist.rank", lambda: 1)
    say("ignite", "of the second")
    assert (log.path.parent / "run_rank1.log").is_file()


def test_the_console_of_the_bundle_is_spared_the_engines():
    conf = ConfigParser()
    conf.read(CONF)
    quiet = {section["qualname"] for section in conf.values() if section.get("propagate") == "0"}
    assert quiet == {"ignite", "monai.handlers.StatsHandler"}
    assert all(not section["handlers"] for section in conf.values() if section.get("propagate") == "0")
