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

from .annotations import annotation_problems, image_size
from .datalist import load_datalist, read_datalist, write_datalist
from .dataset import CachedOnDiskDataset, check_batch_size, make_dataset
from .fraction import take_fraction
from .labeled import class_names, load_labeled
from .resolve import find_images, find_volumes, resolve_dataset
from .sample import make_sample
from .sections import join_report, report_from_text, split_sections
from .split import split_by_patient
from .stream import StreamDataset, StreamSampler
from .volume_sample import make_volume_sample

__all__ = [
    "CachedOnDiskDataset",
    "StreamDataset",
    "StreamSampler",
    "annotation_problems",
    "check_batch_size",
    "class_names",
    "find_images",
    "find_volumes",
    "image_size",
    "join_report",
    "load_datalist",
    "load_labeled",
    "make_dataset",
    "make_sample",
    "make_volume_sample",
    "read_datalist",
    "report_from_text",
    "resolve_dataset",
    "split_by_patient",
    "split_sections",
    "take_fraction",
    "write_datalist",
]
