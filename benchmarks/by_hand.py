# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Reading as one would write it by hand, with pydicom, Pillow and torch alone, and ours beside it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import torch
from harness import alternate
from monai.transforms import Compose, Resized
from PIL import Image
from torch.nn.functional import interpolate, pad

from monai_mgca.data import StreamDataset, make_dataset
from monai_mgca.transforms import LoadRadiographd

__all__ = ["measure_by_hand"]

# Of a radiograph as devices write them: rows, columns, and the tags by which windows are applied.
SHAPE = (2500, 2048)
ROW = 5
WINDOWED = {"RescaleSlope": 1, "RescaleIntercept": -10, "WindowCenter": 2048, "WindowWidth": 3000}


def _smaller(image: torch.Tensor, longest: int) -> torch.Tensor:
    """(1, H, W), whose longer side becomes `longest` by area averages; one that fits stays as it is."""
    scale = longest / max(image.shape)
    size = [round(side * scale) for side in image.shape[1:]]
    return image if size == list(image.shape[1:]) else interpolate(image[None], size, mode="area")[0]


def dicom_by_hand(path: Path, longest: int) -> torch.Tensor:
    """Stored values: no window, no padding, no MONOCHROME1, no check of anything."""
    pixels = pydicom.dcmread(path).pixel_array
    return _smaller(torch.from_numpy(pixels.astype(np.float32))[None], longest)


def picture_by_hand(path: Path, longest: int, crop: int) -> torch.Tensor:
    """A gray picture of 8 bits, with a border where it is no square, a random crop, and values from -1 to 1."""
    with Image.open(path) as picture:
        image = torch.from_numpy(np.array(picture.convert("L"), dtype=np.float32))[None]
    image = _smaller(image, longest)
    down, across = (longest - side for side in image.shape[1:])
    if down or across:
        image = pad(image, (across // 2, across - across // 2, down // 2, down - down // 2))
    image = image.to(torch.uint8)
    top, left = (random.randint(0, longest - crop) for _ in range(2))
    return image[:, top : top + crop, left : left + crop].float() / 127.5 - 1


def write_dicom(path: Path, **tags: object) -> Path:
    """A radiograph of 12 bits, uncompressed."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    noise = np.random.default_rng(0).normal(0, 60, SHAPE)
    values = 1800 + 900 * np.sin(columns / 300) + 700 * np.cos(rows / 400) + noise
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = pydicom.uid.ComputedRadiographyImageStorage, "1.2.3"
    data = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.is_little_endian, data.is_implicit_VR = True, False
    data.Modality, data.PhotometricInterpretation, data.SamplesPerPixel = "CR", "MONOCHROME2", 1
    data.Rows, data.Columns = SHAPE
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    data.PixelData = values.clip(0, 4095).astype("<u2").tobytes()
    data.save_as(path)
    return path


def _print(name: str, ways: dict[str, Callable[[], object]], images: int) -> None:
    """Milliseconds an image, and how many times as long as the first way each takes."""
    seconds = alternate(ways, torch.device("cpu"), 15)
    first = next(iter(seconds.values()))
    print(f"{name}")
    for way, value in seconds.items():
        print(f"    {way:24s}{1000 * value / images:9.2f} ms{value / first:8.2f} times", flush=True)


def measure_by_hand(folder: Path, pictures: Sequence[Path], transforms: Sequence[Callable], crop: int) -> None:
    """Print how much longer the pretraining's steps of an image take than the same by hand.

    Args:
        folder: for the DICOM files.
        pictures: of 8 bits.
        transforms: of the pretraining.
        crop: the side of the random crop.
    """
    steps = [step for step in transforms if tuple(getattr(step, "keys", ())) == ("image",)]
    longest = next(step.resizer.spatial_size for step in steps if isinstance(step, Resized))
    sizes = " x ".join(map(str, SHAPE))
    for name, tags in (("with a window", WINDOWED), ("without a window", {})):
        path = write_dicom(folder / "radiograph.dcm", **tags)
        reading = [step for step in steps if isinstance(step, LoadRadiographd | Resized)]
        dataset = make_dataset([{"image": str(path)}], reading, track_meta=False)
        # several in a row, as in an epoch: else each way would pay for the memory that the other gave back
        ways = {
            "by hand": lambda path=path: [dicom_by_hand(path, longest) for _ in range(ROW)],
            "ours": lambda data=dataset: [data[0] for _ in range(ROW)],
        }
        _print(f"DICOM of {sizes}, {name}", ways, ROW)
    dataset = make_dataset([{"image": str(path)} for path in pictures], Compose(steps), track_meta=False)
    stream = StreamDataset(dataset)
    ways = {
        "by hand": lambda: [picture_by_hand(path, longest, crop) for path in pictures],
        "decoding alone": lambda: [np.asarray(Image.open(path)) for path in pictures],
        "ours": lambda: [dataset[i] for i in range(len(pictures))],
        "ours, each item seeded": lambda: [stream[i] for i in range(len(pictures))],
    }
    width, height = Image.open(pictures[0]).size
    _print(f"{len(pictures)} {Image.open(pictures[0]).format} of {height} x {width}", ways, len(pictures))
