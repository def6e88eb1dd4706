# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""A process that imports torch, MONAI and this package once, and forks for every command that a test runs.

A new process of Python needs ten seconds of imports before it does anything, a fork of this one some hundredths of a
second. Arguments, folder, environment, streams, signals, what is done at exit and the exit code are as in a new
process; only the interpreter is not taken to pieces at the end, which would copy all of the memory that they share. The
server runs no operation of torch, whose threads a fork does not have.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
from typing import Any, NoReturn

# what commands import sooner or later; what is not installed is left out
MODULES = (
    "torch",
    "torch._dynamo",
    "torch.distributed.algorithms.join",
    "torch.distributed.optim",
    "torch.utils.tensorboard",
    "torchvision",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "monai.bundle",
    "monai.engines",
    "monai.handlers",
    "fire",
    "ignite.handlers",
    "itk",
    "nibabel",
    "pydicom",
    "pytest",
)
# packages import what is in them when it is asked for
OWN = (
    "apps",
    "data",
    "engines",
    "handlers",
    "losses",
    "metrics",
    "networks",
    "options",
    "transforms",
    "utils",
    "weights",
)


# the program that asks this one, in place of a Python that a command starts by itself
CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "forked_python.py")


def import_all() -> None:
    """Import what there is of ``MODULES``."""
    for name in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for room in OWN:
        package = importlib.import_module(f"monai_mgca.{room}")
        for name in package.__all__:
            getattr(package, name)


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Give a forked process what a new one gets from who starts it."""
    if request["new_session"]:
        os.setsid()
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    if request["heed_permissions"]:
        heed_permissions()
    if request["forking"]:
        sys.executable = CLIENT
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    tempfile.tempdir = None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    sys.path[1:1] = [path for path in request["env"].get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]


def heed_permissions() -> None:
    """Take from root what lets it write where permissions forbid it: those of the owner are then root's too."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, of this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same of further capabilities
    if libc.capget(header, sets) == 0:
        for place in range(3):
            sets[place] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.capset(header, sets)


def execute(arguments: list[str]) -> None:
    """Do what ``python`` does with these arguments."""
    kind, *rest = arguments
    if kind == "-m":
        sys.argv, sys.path[0] = rest, os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = arguments, os.path.dirname(os.path.abspath(kind))
        runpy.run_path(kind, run_name="__main__")


def leave(arguments: list[str]) -> NoReturn:
    """Execute a command, and end as Python does."""
    code: Any = 0
    try:
        execute(arguments)
    except SystemExit as error:
        code = error.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def serve(requests: socket.socket, owner: int) -> tuple[dict[str, Any], list[int]]:
    """Wait for requests until one of them is this process's own, as it is in a fork."""
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if owner in select.select([requests, owner], [], [])[0]:
            os._exit(0)
        data, descriptors, _, _ = socket.recv_fds(requests, 1, 5)
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    os.close(owner)
    requests.close()
    content, *streams, place = descriptors
    status = socket.socket(fileno=place)
    process = os.fork()
    if process == 0:
        status.close()
        with open(content, encoding="utf-8") as file:
            return json.load(file), streams
    # this one stays to say how the command ends
    for descriptor in (content, *streams):
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status.sendall(b"%d\n" % process)
    if data == b"+":  # from another Python, whose place it takes: when that is killed, this goes, too
        end = os.pidfd_open(process)
        if end not in select.select([end, status], [], [])[0]:
            os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(OSError):  # nobody waits for it any more
        status.sendall(b"%d\n" % code)
    os._exit(0)


if __name__ == "__main__":
    gc.disable()  # which takes a fifth of the time of the imports
    import_all()
    gc.enable()
    gc.freeze()  # a collection in a fork would touch, and so copy, all that was imported
    request, streams = serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    become(request, streams)
    leave(request["arguments"])
