# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Commands of Python, one or several that know of each other, each in a process that the fork server makes.

Used by the fixture ``forks`` of tests/conftest.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

PROGRAM = Path(__file__).with_name("fork_server.py")
ROOT = Path(__file__).resolve().parents[2]


def environment(**more: str) -> dict[str, str]:
    """This process's, with the repository before what is installed, without network, and with one thread."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **more}


def run_python(*arguments: str, cwd: str | Path, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    """What ``ForkServer.run`` does, in a new process: for the commands of the README, which must work as they stand."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout)


class Command:
    """A running command, with what one uses of :class:`subprocess.Popen`; its output goes to files."""

    def __init__(self, arguments: list[str], status: socket.socket, stdout: IO[str], stderr: IO[str]) -> None:
        self.args, self.returncode = arguments, None
        self._status, self._stdout, self._stderr = status, stdout, stderr
        self._answers = b""
        self.pid = int(self._answer(300))  # the server itself has to start with the first one

    def _answer(self, timeout: float) -> bytes:
        """The next line that the server says of it."""
        end = time.monotonic() + timeout
        while b"\n" not in self._answers:
            self._status.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self._status.recv(64)
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout) from None
            assert data, "the fork server has died"
            self._answers += data
        line, self._answers = self._answers.split(b"\n", 1)
        return line

    def wait(self, timeout: float = 240) -> int:
        """Its exit code, which is negative where a signal ended it."""
        if self.returncode is None:
            self.returncode = int(self._answer(timeout))
            self._status.close()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def communicate(self, timeout: float = 240) -> tuple[str, str]:
        """All that it has written, when it has ended."""
        self.wait(timeout)
        texts = []
        for file in (self._stdout, self._stderr):
            file.seek(0)
            texts.append(file.read())
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Place:
    """A folder where a fork server may be reached, and a pipe in it that is open for as long as it shall run."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        os.mkfifo(self.folder / "owner")
        self._pipe = os.open(self.folder / "owner", os.O_RDWR)

    def close(self) -> None:
        """End the server; commands that run go on."""
        # not the end of the pipe alone: processes that a test forked may have it open, too
        os.write(self._pipe, b".")
        os.close(self._pipe)
        self._folder.cleanup()


class ForkServer:
    """Starts the server with the first command, and ends it with the session, unless others share it.

    Args:
        shared: folder of a :class:`Place` that other processes use, too.
    """

    def __init__(self, shared: str | None = None) -> None:
        self._place = Place() if shared is None else None
        self._folder = Path(shared) if shared is not None else self._place.folder
        os.environ["FORK_SERVER"] = str(self._folder / "socket")
        self._server: subprocess.Popen | None = None
        self._socket: socket.socket | None = None

    def _requests(self) -> socket.socket:
        if self._socket is None:
            with open(self._folder / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not (self._folder / "socket").exists():
                    self._start()
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.connect(str(self._folder / "socket"))
        return self._socket

    def get_ready(self) -> None:
        """Start the server, so that it imports all before the first command comes."""
        self._requests()

    def _start(self) -> None:
        # the server looks for no GPU in a way that its forks would suffer from
        env = environment(PYTORCH_NVML_BASED_CUDA_CHECK="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
        # the order of a set is another one than here
        env["PYTHONHASHSEED"] = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
        owner = os.open(self._folder / "owner", os.O_RDONLY | os.O_NONBLOCK)
        # requests can come before the server has imported all
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as requests:
            requests.bind(str(self._folder / "socket"))
            handles = [requests.fileno(), owner]
            command = [sys.executable, str(PROGRAM), *map(str, handles)]
            self._server = subprocess.Popen(command, env=env, pass_fds=handles, stdin=subprocess.DEVNULL)
        os.close(owner)

    def start(
        self,
        *arguments: str,
        cwd: str | Path | None = None,
        env: dict[str, str] | None = None,
        output: str | Path | None = None,
        start_new_session: bool = False,
        heed_permissions: bool = False,
        forking: bool = False,
    ) -> Command:
        """Start ``python`` with these arguments: "-m" and a module, "-c" and a program, or a file.

        Args:
            arguments: of the command.
            cwd: its folder; that of this process if None.
            env: its whole environment; :func:`environment` if None.
            output: file to which stdout and stderr go together.
            start_new_session: whether it leads a session, and a group of processes, of its own.
            heed_permissions: whether it may not write where permissions forbid it, not even as root.
            forking: whether the Pythons that it starts as ``sys.executable`` are forks, too.
        """
        request = {
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd or os.getcwd()),
            "env": environment() if env is None else env,
            "new_session": start_new_session,
            "heed_permissions": heed_permissions,
            "forking": forking,
        }
        requests = self._requests()
        if output is not None:
            stdout = stderr = open(output, "w+", encoding="utf-8")  # noqa: SIM115  closed with the command
        else:
            stdout, stderr = (tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2))  # noqa: SIM115
        status, theirs = socket.socketpair()
        with tempfile.TemporaryFile("w+", encoding="utf-8") as content, open(os.devnull) as nothing, theirs:
            json.dump(request, content)
            content.seek(0)
            files = [content, nothing, stdout, stderr, theirs]
            socket.send_fds(requests, [b"."], [file.fileno() for file in files])
        return Command(request["arguments"], status, stdout, stderr)

    def run(self, *arguments: str, timeout: float = 240, **options: Any) -> subprocess.CompletedProcess[str]:
        """As :func:`subprocess.run` with ``python`` before the arguments, and captured output."""
        command = self.start(*arguments, **options)
        try:
            stdout, stderr = command.communicate(timeout)
        finally:
            command.kill()
        return subprocess.CompletedProcess(command.args, command.returncode, stdout, stderr)

    def run_together(
        self, *arguments: str, processes: int, timeout: float = 240, cwd: str | Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run several processes that know of each other, as torchrun does; one that fails ends the others.

        Returns:
            The exit code of the first that failed or 0, and what all have written.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
        world["LOCAL_WORLD_SIZE"] = world["WORLD_SIZE"]
        commands = [
            self.start(*arguments, cwd=cwd, env=environment(**world, RANK=str(rank), LOCAL_RANK=str(rank)))
            for rank in range(processes)
        ]
        end = time.monotonic() + timeout
        try:
            while any(command.poll() is None for command in commands) and time.monotonic() < end:
                if any(command.returncode for command in commands):
                    break
                time.sleep(0.01)
            code = next(filter(None, [command.returncode for command in commands]), 0)
            unfinished = [command for command in commands if command.returncode is None]
        finally:
            for command in commands:
                command.kill()
        texts = [command.communicate() for command in commands]
        if unfinished and not code:
            raise subprocess.TimeoutExpired(arguments, timeout, *map("".join, zip(*texts, strict=True)))
        return subprocess.CompletedProcess(arguments, code, *map("".join, zip(*texts, strict=True)))

    def close(self) -> None:
        """End the server, where it is this process's own; commands that run go on."""
        if self._socket is not None:
            self._socket.close()
        if self._place is not None:
            self._place.close()
        if self._server is not None:
            self._server.wait(60)
