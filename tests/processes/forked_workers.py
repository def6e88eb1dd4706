# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Runs the tests in forks of the process that collected them; a worker that is free takes the next file.

What all tests import is imported once, and no file waits for a worker that is busy. pytest-xdist starts each worker as
a new Python, which imports and collects everything again, and hands it two files ahead.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import warnings
from multiprocessing.connection import Connection, wait
from typing import Any

import pytest


class Reporting:
    """The plugin of a worker that sends on what the terminal shows."""

    def __init__(self, config: pytest.Config, channel: Connection) -> None:
        self.config, self.channel = config, channel

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        self.channel.send(("start", {"nodeid": nodeid, "location": location}))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.channel.send(("report", self.config.hook.pytest_report_to_serializable(config=self.config, report=report)))

    def pytest_warning_recorded(self, warning_message: Any, when: Any, nodeid: str, location: Any) -> None:
        shown = {name: getattr(warning_message, name) for name in ("category", "filename", "lineno")}
        shown["message"] = str(warning_message.message)
        self.channel.send(("warning", {"shown": shown, "when": when, "nodeid": nodeid, "location": location}))


def work(session: pytest.Session, files: list[list[pytest.Item]], queue: int, channel: Connection) -> None:
    """Run files until none is left."""
    config = session.config
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()  # into files that all forks would share
    capture.start_global_capturing()
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(Reporting(config, channel))
    with contextlib.suppress(KeyboardInterrupt):
        while (number := os.read(queue, 4)) and not (session.shouldfail or session.shouldstop):
            items = files[int.from_bytes(number, "little")]
            # after the last of them all is torn down but what is the session's
            for item, following in itertools.zip_longest(items, items[1:], fillvalue=session):
                config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if session.shouldfail or session.shouldstop:
                    break
        session._setupstate.teardown_exact(None)
        channel.send(("done", {}))


class Workers:
    """The forks, and what comes from them.

    Args:
        session: with all tests collected, and nothing run.
        count: of workers.
    """

    def __init__(self, session: pytest.Session, count: int) -> None:
        self.session, self.hook = session, session.config.hook
        files = [list(items) for _, items in itertools.groupby(session.items, key=lambda item: item.path)]
        session.config._tmp_path_factory.getbasetemp()  # one for all
        queue, fill = os.pipe()
        os.write(fill, b"".join(number.to_bytes(4, "little") for number in range(len(files))))
        os.close(fill)
        context = multiprocessing.get_context("fork")
        self.processes, self.running = {}, {}
        for place in range(count):
            channel, theirs = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(session, files, queue, theirs), name=f"worker {place}")
            process.start()
            theirs.close()
            self.processes[channel] = process
        os.close(queue)

    def follow(self) -> None:
        """Show what the workers report until all are done."""
        open_channels = set(self.processes)
        try:
            while open_channels:
                sentinels = {self.processes[channel].sentinel: channel for channel in open_channels}
                for ready in wait([*open_channels, *sentinels]):
                    channel = sentinels.get(ready, ready)
                    if channel in open_channels and not self._receive(channel):
                        open_channels.remove(channel)
                    self._stop_where_asked()
        finally:
            for process in self.processes.values():
                if process.is_alive() and open_channels:
                    process.terminate()
                process.join()

    def _receive(self, channel: Connection) -> bool:
        """One message of a worker; whether more can come."""
        try:
            if not channel.poll() and not self.processes[channel].is_alive() and not channel.poll():
                raise EOFError
            kind, content = channel.recv()
        except EOFError:
            self._died(channel)
            return False
        if kind == "start":
            self.running[channel] = content
            self.hook.pytest_runtest_logstart(**content)
        elif kind == "report":
            report = self.hook.pytest_report_from_serializable(config=self.session.config, data=content)
            self.hook.pytest_runtest_logreport(report=report)
        elif kind == "warning":
            message = warnings.WarningMessage(**content.pop("shown"))
            self.hook.pytest_warning_recorded.call_historic(kwargs={"warning_message": message, **content})
        return kind != "done"

    def _died(self, channel: Connection) -> None:
        """A worker that ended before its work is a failure of the test that it ran."""
        process = self.processes[channel]
        process.join()
        test = self.running.get(channel, {"nodeid": process.name, "location": ("", None, process.name)})
        words = f"{process.name} ended with exit code {process.exitcode}; what follows in this file was not run"
        report = pytest.TestReport(**test, keywords={}, outcome="failed", longrepr=words, when="call")
        self.hook.pytest_runtest_logreport(report=report)

    def _stop_where_asked(self) -> None:
        if self.session.shouldfail:
            raise self.session.Failed(self.session.shouldfail)
        if self.session.shouldstop:
            raise self.session.Interrupted(self.session.shouldstop)
