# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""How long the way from the disk to a batch takes: beside the same by hand, by stage, and what caching makes of it.

The transforms and caches are those of the pretraining config. Without a dataset the sample's images are enlarged to
--pixels and get noise, so that the PNG files are as large as those of hospitals.

    python benchmarks/data.py --by-hand
    python benchmarks/data.py --pixels 2000
    python benchmarks/data.py --dataset-dir DIR --datalist list.json --report-encoder DIR
    python benchmarks/data.py --entries 400000
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from by_hand import measure_by_hand
from monai.bundle import ConfigParser
from monai.data import DataLoader, list_data_collate
from PIL import Image

from monai_mgca.data import StreamDataset, StreamSampler, load_datalist, make_dataset, make_sample
from monai_mgca.data.sources.tables.csv_table import collect_table
from monai_mgca.data.without_meta import need_no_meta, without_meta
from monai_mgca.engines import PrepareBatchReport

CONFIG = Path(__file__).resolve().parents[1] / "bundles" / "mgca" / "configs" / "train.json"
SENTENCES = (
    "The heart is mildly enlarged.",
    "There is no focal consolidation, pleural effusion or pneumothorax.",
    "The cardiomediastinal silhouette and pulmonary vasculature are within normal limits.",
    "Left basilar atelectasis is again seen, unchanged from ___.",
    "Bilateral interstitial opacities suggest mild pulmonary edema.",
    "Right internal jugular catheter ends in the lower superior vena cava.",
)


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Print the seconds of a step, on the wall and of the processor, and the most memory so far."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:28s}{wall:9.2f} s{cpu:9.2f} s processor{memory:9.0f} MB at most", flush=True)


def write_table(folder: Path, count: int) -> Path:
    """A table of so many images and reports, 1.6 to a patient, and a file for each image."""
    draw, path, picture = random.Random(0), folder / "table.csv", io.BytesIO()
    Image.new("L", (8, 8)).save(picture, "png")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "text", "patient_id"))
        for i in range(count):
            patient = i * 5 // 8
            image = folder / "files" / f"p{patient % 997}" / f"{i}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(picture.getvalue())
            text = f"FINDINGS: {' '.join(draw.sample(SENTENCES, 5))} IMPRESSION: {draw.choice(SENTENCES)}"
            writer.writerow((image.relative_to(folder), text, f"p{patient}"))
    return path


def measure_entries(count: int) -> None:
    """From a table to the entries of all sections."""
    with tempfile.TemporaryDirectory() as folder:
        table, target = write_table(Path(folder), count), Path(folder) / "datalist.json"
        with timed("start of the package"):
            pass
        with timed(f"read {count} rows"):
            collection = collect_table(table, image="path", report="text", patient="patient_id")
        with timed("look for images, split, write"):
            collection.write(target)
        del collection
        with timed("load and check all sections"):
            sections = [load_datalist(target, section) for section in ("training", "validation", "test")]
        assert sum(map(len, sections)) == count


def enlarge(folder: Path, pixels: int) -> None:
    """Give the sample's images a size, and noise by which they do not shrink when they are packed."""
    noise = np.random.default_rng(0).normal(0, 4, (pixels, pixels))
    for path in sorted((folder / "images").iterdir()):
        image = Image.open(path).resize((pixels, pixels), Image.Resampling.BICUBIC)
        values = np.asarray(image) + np.roll(noise, len(path.name), 0)
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)


def as_jpeg(paths: list[Path], folder: Path) -> list[Path]:
    """Images of 256 x 256 pixels, as Open-i's: JPEG files as they are, others made into such."""
    made = [path if path.suffix == ".jpg" else folder / f"{path.stem}.jpg" for path in paths]
    for path, target in zip(paths, made, strict=True):
        if target != path:
            Image.open(path).convert("L").resize((256, 256), Image.Resampling.BOX).save(target, quality=90)
    return made


def load_transforms(args: argparse.Namespace, data_dir: str) -> list:
    parser = ConfigParser(json.loads(CONFIG.read_text()))
    encoder = args.report_encoder or f"{data_dir}/report_encoder"
    parser.update({"bundle_root": data_dir, "data_dir": data_dir, "use_sample": False, "report_encoder": encoder})
    parser.update({"image_size": args.image_size, "device": "$torch.device('cpu')"})
    # the transforms can ask a network for report states; none is asked here
    parser.update({"image_encoder": "vit_compact", "report_encoder_pretrained": False, "report_layers": 1})
    return list(parser.get_parsed_content("train#preprocessing").transforms)


def measure_stages(data: list, transforms: list, batch_size: int) -> None:
    """Median milliseconds an image of every transform, of collation and of the hand-over to the network."""
    seconds: dict[str, list[float]] = {type(t).__name__: [] for t in transforms}
    items = []
    for entry in data:
        item: Any = entry
        with without_meta(need_no_meta(transforms)):  # as in the training
            for transform in transforms:
                start = time.perf_counter()
                item = transform(item)
                seconds[type(transform).__name__].append(time.perf_counter() - start)
        items.append(item)
    batches = [items[i : i + batch_size] for i in range(0, len(items) - batch_size + 1, batch_size)]
    for name, function in (("collate", list_data_collate), ("hand over", PrepareBatchReport())):
        seconds[name], made = [], []
        for batch in batches:
            start = time.perf_counter()
            made.append(function(batch))
            seconds[name].append((time.perf_counter() - start) / batch_size)
        batches = made
    whole = sum(median(values) for values in seconds.values())
    for name, values in seconds.items():
        print(f"{name:28s}{1000 * median(values):9.3f} ms{100 * median(values) / whole:7.1f} %")


def images_per_second(dataset: Any, args: argparse.Namespace) -> float:
    stream, sampler = StreamDataset(dataset), StreamSampler(dataset)
    loader = DataLoader(stream, sampler=sampler, batch_size=args.batch_size, num_workers=args.workers, drop_last=True)
    start = time.perf_counter()
    count = sum(len(batch["image"]) for batch in loader)
    return count / (time.perf_counter() - start)


def measure_epochs(data: list, transforms: list, args: argparse.Namespace) -> None:
    """Images a second of whole epochs, without a cache and with each, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        datasets = {
            name: make_dataset(data, transforms, name, folder, progress=False, track_meta=False)
            for name in ("none", "disk", "memory")
        }
        first = images_per_second(datasets["disk"], args)
        rates: dict[str, list[float]] = {name: [] for name in datasets}
        for _ in range(args.repeats):
            for name, dataset in datasets.items():
                rates[name].append(images_per_second(dataset, args))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.pt")) / len(data)
    print(f"disk, first epoch {first:19.1f} images/s")
    for name, values in rates.items():
        ratio = median(values) / median(rates["none"])
        print(f"{name:28s}{median(values):9.1f} images/s{ratio:8.1f} times")
    print(f"on the disk {size / 1024:.0f} kB an image and report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, help="measure a datalist of so many entries")
    parser.add_argument("--by-hand", action="store_true", help="measure reading beside the same by hand")
    parser.add_argument("--dataset-dir", help="measure these images")
    parser.add_argument("--datalist", help="of --dataset-dir")
    parser.add_argument("--report-encoder", help="folder of a tokenizer; that of the sample without --dataset-dir")
    numbers = {"pixels": 2000, "items": 128, "image_size": 224, "batch_size": 32, "workers": 0, "repeats": 3}
    for name, value in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.entries:
        measure_entries(args.entries)
        return
    with tempfile.TemporaryDirectory() as folder:
        if not args.dataset_dir:
            make_sample(folder, size=args.items * 5 // 4 + 8, image_size=256, progress=False)
            if not args.by_hand:
                enlarge(Path(folder), args.pixels)
        data_dir = args.dataset_dir or folder
        data = load_datalist(args.datalist or f"{folder}/datalist.json", "training", data_dir)[: args.items]
        transforms = load_transforms(args, data_dir)
        if args.by_hand:
            pictures = as_jpeg([Path(entry["image"]) for entry in data[:64]], Path(folder))
            measure_by_hand(Path(folder), pictures, transforms, args.image_size)
            return
        print(f"{len(data)} images, {args.workers} workers, batches of {args.batch_size}")
        measure_stages(data, transforms, args.batch_size)
        measure_epochs(data, transforms, args)


if __name__ == "__main__":
    main()
