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

import torch

__all__ = ["elements_at_once", "slices"]

# Similarities held at once: half a MiB in float32, which stays in a CPU's cache; on a GPU few large steps are faster.
CPU_ELEMENTS, GPU_ELEMENTS = 2**17, 2**24


def elements_at_once(device: torch.device) -> int:
    """How many similarities of tokens to hold at once on a device."""
    return CPU_ELEMENTS if device.type == "cpu" else GPU_ELEMENTS


def slices(count: int, step: int) -> list[slice]:
    """A range in steps.

    Args:
        count: its length.
        step: of each part but perhaps the last.

    Example::

        print(slices(5, 2))  # [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
