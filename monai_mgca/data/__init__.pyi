# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .annotations import annotation_problems, image_size
from .datalist import load_datalist, read_datalist, report_letters, write_datalist
from .dataset import CachedOnDiskDataset, check_batch_size, make_dataset
from .find_dataset import find_images, find_volumes, resolve_dataset, resolve_trained, trained_sample_edge
from .fraction import take_fraction
from .labeled import class_names, load_labeled
from .sample.radiographs import make_sample
from .sample.volumes import make_volume_sample
from .split import split_by_patient
from .stream import StreamDataset, StreamSampler, flatten_patches

__all__ = [
    "CachedOnDiskDataset",
    "StreamDataset",
    "StreamSampler",
    "annotation_problems",
    "check_batch_size",
    "class_names",
    "find_images",
    "find_volumes",
    "flatten_patches",
    "image_size",
    "load_datalist",
    "load_labeled",
    "make_dataset",
    "make_sample",
    "make_volume_sample",
    "read_datalist",
    "report_letters",
    "resolve_dataset",
    "resolve_trained",
    "split_by_patient",
    "take_fraction",
    "trained_sample_edge",
    "write_datalist",
]
