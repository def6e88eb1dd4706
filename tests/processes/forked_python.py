#!/usr/bin/env -S python3 -IS
# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Does what ``python`` does with these arguments, in a fork of the server that the environment names.

It is ``sys.executable`` in commands that start more Pythons, such as MONAI Label and torchrun. Signals go on to the
fork, and where this one is killed, so is that.
"""

import json
import os
import signal
import socket
import sys
import tempfile

request = {
    "arguments": [argument for argument in sys.argv[1:] if argument != "-u"],
    "cwd": os.getcwd(),
    "env": dict(os.environ),
    "new_session": False,
    "heed_permissions": False,
    "forking": True,
}
status, theirs = socket.socketpair()
with tempfile.TemporaryFile("w+", encoding="utf-8") as content, theirs:
    json.dump(request, content)
    content.seek(0)
    place = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    place.connect(os.environ["FORK_SERVER"])
    socket.send_fds(place, [b"+"], [content.fileno(), 0, 1, 2, theirs.fileno()])
answers = status.makefile()
process = int(answers.readline())
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: os.kill(process, number))
code = int(answers.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
