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

from types import SimpleNamespace

__all__ = ["switches"]


def switches(**values: bool | str) -> SimpleNamespace:
    """Truth values of a config's switches, which the command line hands over as text: ``--amp false`` is "false".

    Args:
        values: each a bool, or "true" or "false" in any case.

    Returns:
        The same names with bools.

    Raises:
        ValueError: for any other value, naming the switch.

    Example::

        print(switches(amp="false", resume=True).amp)
    """
    made = SimpleNamespace()
    for name, value in values.items():
        text = str(value).lower()
        if text not in ("true", "false"):
            raise ValueError(f"{name} must be true or false, got {value!r}.")
        setattr(made, name, text == "true")
    return made
