# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import sys
from types import TracebackType

from monai_mgca.utils.dist import rank, world_size

__all__ = ["CheckpointError", "DataError", "explain_errors", "first_cause"]


class DataError(ValueError):
    """What is wrong with the data, naming the files or keys concerned and how to mend them."""


class CheckpointError(ValueError):
    """A checkpoint that does not fit, naming the tensors that are missing, foreign or of another shape."""


def first_cause(error: BaseException) -> BaseException:
    """What an error is about, below the ``RuntimeError`` that MONAI puts around it once or several times.

    Args:
        error: as it was caught. What another library said below our own error is left alone.
    """
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return error


# what gloo and NCCL say in a process when another one is gone
_GONE = ("Connection closed by peer", "Connection reset by peer", "remote process exit")


def explain_errors() -> None:
    """End a failed program with the first cause of its error, which MONAI's bundle wraps several times.

    The whole traceback is printed before it, as always. Of several processes, those that another one's failure ends
    say so in one line, so that the message of that one can be found.
    """

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        cause = first_cause(error)
        if world_size() > 1 and any(text in str(cause) for text in _GONE):
            told = str(cause).splitlines()[0]
            print(f"Process {rank()} ends because it lost another one, which tells the cause: {told}", file=sys.stderr)
            return
        sys.__excepthook__(kind, error, traceback)
        if cause is not error:
            print(f"\nThe cause: {type(cause).__name__}: {cause}", file=sys.stderr)

    sys.excepthook = hook
