# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What volumes cost: memory and time of a training step by their size, and volumes a second from the loader.

The step is the network's and its loss's, forward and backward, in a process of its own for each line: plain, with
checkpoints, in windows of half the size, and in windows one by one. The loader is that of the pretraining's configs,
beside the same steps written plainly with MONAI's own transforms and caches; drawn volumes unless a folder is given.

    python benchmarks/volumes.py --sizes 64 96 128
    python benchmarks/volumes.py --loader --voxels 160 --studies 12
    python benchmarks/volumes.py --loader --dataset-dir DIR
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from monai import transforms as mt
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader, Dataset, PersistentDataset

from monai_mgca.data import StreamDataset, StreamSampler, load_datalist, make_dataset, make_volume_sample
from monai_mgca.losses import MGCALoss
from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "mgca" / "configs"
# ways of a step: checkpointing, parts of the edge in a window, windows at a time
WAYS = {
    "plain": (False, 1, 0),
    "checkpointing": (True, 1, 0),
    "windows of half the size": (False, 2, 0),
    "the same, one at a time": (False, 2, 1),
}
BERT = {"vocab_size": 3000, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}


def step_of(encoder: str, size: int, batch: int, way: str, repeats: int) -> tuple[float, float]:
    """Median seconds of a step, and the MiB that it adds to the process at most."""
    torch.set_num_threads(1)
    checkpointing, parts, at_once = WAYS[way]
    window = size // parts
    image = create_image_encoder(encoder, window, in_channels=1, spatial_dims=3, checkpointing=checkpointing)
    report = ReportEncoder({**BERT, "intermediate_size": 512})
    if at_once:  # batch norms that look at one window would not be those of the batch
        image.eval()
    network = MGCA(image, report, window_size=window if parts > 1 else None, return_contexts=False)
    network.train()
    if at_once:
        image.eval()
        report.eval()
        network.micro_batch_size = at_once
    loss, volume = MGCALoss(), torch.rand(batch, 1, size, size, size) * 2 - 1
    ids = torch.randint(5, 3000, (batch, 64))
    words = torch.cat([torch.full((batch, 1), -1), torch.arange(63).expand(batch, 63)], 1)
    before, seconds = memory(), []
    for _ in range(repeats):
        start = time.process_time()
        loss(network(volume, ids, torch.ones_like(ids), words)).backward()
        network.zero_grad()
        seconds.append(time.process_time() - start)
    return median(seconds), memory() - before


def memory() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_steps(args: argparse.Namespace) -> None:
    print(f"| {args.encoder}, batch of {args.batch} | " + " | ".join(f"{size}³" for size in args.sizes) + " |")
    print("|---" * (len(args.sizes) + 1) + "|")
    for way in WAYS:
        cells = []
        for size in args.sizes:
            with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                seconds, mib = pool.submit(step_of, args.encoder, size, args.batch, way, args.repeats).result()
            cells.append(f"{seconds:.2f} s, {mib:,.0f} MiB")
        print(f"| {way} | {' | '.join(cells)} |", flush=True)


def our_steps(data_dir: str, voxels: int, voxel_size: float) -> list[Any]:
    parser = ConfigParser(json.loads((CONFIGS / "train.json").read_text()))
    for key, value in json.loads((CONFIGS / "train_volume.json").read_text()).items():
        parser[key.replace("#", "::")] = value
    parser.update({"bundle_root": data_dir, "data_dir": data_dir, "use_sample": False})
    parser.update({"report_encoder": f"{data_dir}/report_encoder", "report_encoder_pretrained": False})
    parser.update({"image_size": voxels * 7 // 8, "resize_size": [voxels] * 3, "voxel_size": voxel_size})
    parser.update({"image_encoder": "resnet_tiny", "report_layers": 1, "device": "$torch.device('cpu')"})
    return list(parser.get_parsed_content("train#preprocessing").transforms)


def plain_steps(voxels: int, voxel_size: float) -> list[Any]:
    """The same for the image, as MONAI's tutorials write it: in float32, before and after the cache."""
    return [
        mt.LoadImaged("image"),
        mt.EnsureChannelFirstd("image"),
        mt.Orientationd("image", "RAS", labels=None),
        mt.Spacingd("image", [voxel_size] * 3, mode="bilinear"),
        mt.ScaleIntensityRanged("image", -1000, 400, -1, 1, clip=True),
        mt.ResizeWithPadOrCropd("image", [voxels] * 3, value=-1),
        mt.SelectItemsd("image"),
        mt.RandSpatialCropd("image", voxels * 7 // 8, random_size=False),
    ]


def rate(dataset: Any, workers: int, ours: bool) -> float:
    """Volumes a second of an epoch."""
    if ours:
        loader = DataLoader(StreamDataset(dataset), batch_size=2, sampler=StreamSampler(dataset), num_workers=workers)
    else:
        loader = DataLoader(dataset, batch_size=2, shuffle=True, num_workers=workers)
    start = time.perf_counter()
    count = sum(len(batch["image"]) for batch in loader)
    return count / (time.perf_counter() - start)


def measure_loader(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        datalist = Path(args.dataset_dir or folder) / "datalist.json"
        if not args.dataset_dir:
            make_volume_sample(folder, args.studies * 4 // 3 + 2, args.voxels, progress=False)
        data, size = load_datalist(datalist, "training")[: args.studies], args.voxel_size or 440 / args.voxels
        steps, plain, caches = our_steps(str(datalist.parent), args.voxels, size), plain_steps(args.voxels, size), {}
        for name in ("none", "disk", "memory"):
            caches[f"ours, {name}"] = make_dataset(data, steps, name, f"{folder}/cache", progress=False)
        caches["MONAI, none"] = Dataset(data, mt.Compose(plain))
        caches["MONAI, disk"] = PersistentDataset(data, plain, f"{folder}/persistent")
        caches["MONAI, memory"] = CacheDataset(data, plain, progress=False)
        for name in ("ours, disk", "MONAI, disk"):
            rate(caches[name], 0, name.startswith("ours"))  # the first epoch fills it
        print(f"| {len(data)} volumes to {args.voxels}³, a second | 0 workers | 1 worker | 2 workers |")
        print("|---|---|---|---|")
        rates: dict[str, list[list[float]]] = {name: [[], [], []] for name in caches}
        for _ in range(args.repeats):
            for name, dataset in caches.items():
                for workers in range(3):
                    rates[name][workers].append(rate(dataset, workers, name.startswith("ours")))
        for name, found in rates.items():
            print(f"| {name} | " + " | ".join(f"{median(values):.1f}" for values in found) + " |")
        for name in ("cache", "persistent"):
            size = sum(path.stat().st_size for path in Path(folder, name).rglob("*.pt")) / len(data)
            print(f"{'ours' if name == 'cache' else 'MONAI'}: {size / 2**20:.1f} MiB a volume on the disk")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 128], help="edges of the volumes, in voxels")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--loader", action="store_true", help="measure the loader in place of the step")
    parser.add_argument("--dataset-dir", help="with datalist.json and report_encoder; drawn volumes by default")
    parser.add_argument("--voxels", type=int, default=160, help="edge of what is cached")
    parser.add_argument("--voxel-size", type=float, help="in mm; default: the drawn field of view")
    parser.add_argument("--studies", type=int, default=12)
    args = parser.parse_args()
    (measure_loader if args.loader else measure_steps)(args)


if __name__ == "__main__":
    main()
