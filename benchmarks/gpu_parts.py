# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""What gpu.py measures besides training steps: losses, checks, the loader, the figures of whole sets."""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from data import enlarge, load_transforms
from gpu_steps import Row, make, timed, training_step
from harness import alternate, peak_memory
from losses import make_ways
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from retrieval import published_sinkhorn

from monai_mgca.data import StreamDataset, StreamSampler, load_datalist, make_dataset, make_sample
from monai_mgca.engines import PrepareBatchReport
from monai_mgca.handlers import TrainingCheckpoint
from monai_mgca.losses import MGCALoss, sinkhorn
from monai_mgca.metrics import compute_retrieval
from monai_mgca.networks import MGCA

__all__ = ["checks", "codes_and_ranks", "loader", "losses"]


def losses(args: argparse.Namespace) -> Iterator[Row]:
    """All losses beside the vectorized baselines, and at a small size beside one token at a time."""
    count = args.batches[-1]
    for batch, patches, loop in [(count, n, False) for n in args.patches] + [(args.loop_batch, args.patches[0], True)]:
        ways, _ = make_ways(
            argparse.Namespace(**{**vars(args), "batch": batch, "patches": patches, "loop": loop, "unread": True})
        )
        if loop:
            ways = {name: ways[name] for name in ("loop", "monai_mgca")}
        seconds = alternate(ways, args.device, args.repeats, slow_repeats=min(3, args.repeats) if loop else None)
        for name, way in ways.items():
            what, base = {"loop": ("a straw man", "monai_mgca"), "tokens": ("token term", "products")}.get(
                name, (name, "monai_mgca")
            )
            note = "" if name in ("monai_mgca", "products") else f"{seconds[name] / seconds[base]:.2f} times {base}"
            memory = None if name == "loop" else peak_memory(way, args.device)
            setting = f"batch {batch}, {patches} image tokens"
            yield Row(f"losses: {what}", setting, seconds[name], memory=memory, note=note)


def checks(args: argparse.Namespace) -> Iterator[Row]:
    """A step that may not wait for the GPU, and a training that goes on as if it had not been stopped."""
    count = args.batches[0]
    network, batch = make(args, count)
    step = training_step(network, network, batch)
    step()
    note = "no operation waited for the GPU"
    if args.device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        except RuntimeError as error:
            note = f"an operation waits for the GPU: {error}"
        finally:
            torch.cuda.set_sync_debug_mode("default")
    else:
        note = "not looked at: this is no GPU"
    yield Row("training step", 'set_sync_debug_mode("error")', note=note)
    del network, batch, step
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            straight = train(args, Path(folder) / "straight", epochs=2)
            train(args, Path(folder) / "stopped", epochs=1)
            resumed = train(args, Path(folder) / "stopped", epochs=2, resume=True)
    finally:
        torch.use_deterministic_algorithms(False)
    pairs = list(zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True))
    most = max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
    note = "all weights equal" if all(a.equal(b) for a, b in pairs) else f"weights differ by up to {most:.1e}"
    yield Row("training", "stopped after one of two epochs and resumed", note=note)


def train(args: argparse.Namespace, folder: Path, epochs: int, resume: bool = False) -> MGCA:
    """A training of two steps an epoch, with MONAI's trainer and our checkpoints."""
    network, batch = make(args, args.batches[0], layers=min(2, args.layers))  # a checkpoint of one GB, not two
    keys = ("image", "input_ids", "attention_mask", "word_ids")
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-5)
    torch.manual_seed(args.seed)
    trainer = SupervisedTrainer(
        device=args.device,
        max_epochs=epochs,
        train_data_loader=[dict(zip(keys, batch, strict=True))] * 2,
        network=network,
        optimizer=optimizer,
        loss_function=MGCALoss(),
        prepare_batch=PrepareBatchReport(),
        amp=args.device.type == "cuda",
        amp_kwargs={"dtype": torch.bfloat16},
        decollate=False,
    )
    TrainingCheckpoint(folder, {"network": network, "optimizer": optimizer}, resume=resume).attach(trainer)
    trainer.run()
    return network


def loader(args: argparse.Namespace) -> Iterator[Row]:
    """Images a second from the disk to batches, from the first batch on."""
    workers = min(os.cpu_count() or 1, 16) if args.workers is None else args.workers
    size = args.batches[0]
    with tempfile.TemporaryDirectory() as folder:
        make_sample(folder, size=args.images * 5 // 4 + 8, image_size=min(256, args.pixels), progress=False)
        enlarge(Path(folder), args.pixels)
        own = argparse.Namespace(report_encoder=None, image_size=args.image_size)
        transforms = load_transforms(own, folder)
        data = load_datalist(f"{folder}/datalist.json", "training", folder)[: args.images]
        many = list(itertools.islice(itertools.cycle(data), size * (args.loader_batches + 1)))
        for cache in ("none", "disk"):
            made = {"cache_dir": f"{folder}/cache", "progress": False, "track_meta": False}
            if cache == "disk":  # filled before, as in all epochs but the first
                filled = make_dataset(data, transforms, cache, **made)
                for number in range(len(data)):
                    filled[number]
            dataset = make_dataset(many, transforms, cache, **made)
            stream, sampler = StreamDataset(dataset), StreamSampler(dataset)
            batches = iter(DataLoader(stream, sampler=sampler, batch_size=size, num_workers=workers))
            next(batches)
            start = time.perf_counter()
            count = sum(len(batch["image"]) for batch in batches)
            setting = f"PNG of {args.pixels} x {args.pixels}, {workers} workers, cache {cache}"
            yield Row("loader", setting, time.perf_counter() - start, count, "images")


def codes_and_ranks(args: argparse.Namespace) -> Iterator[Row]:
    """Sinkhorn of a large matrix, and the figures of many pairs."""
    rows, columns = args.codes
    scores = torch.rand(rows, columns, device=args.device) * 2 - 1
    ways = {"published": lambda: published_sinkhorn(scores), "monai_mgca": lambda: sinkhorn(scores)}
    for name, seconds in alternate(ways, args.device, args.repeats).items():
        yield Row(f"Sinkhorn: {name}", f"{rows} x {columns}", seconds)
    unit = torch.nn.functional.normalize(torch.randn(args.pairs, args.dim, device=args.device), dim=1)
    tokens = torch.arange(args.pairs, device=args.device)[:, None]
    seconds, memory = timed(
        argparse.Namespace(device=args.device, repeats=1), lambda: compute_retrieval(unit, unit, tokens)
    )
    yield Row("recalls and ranks", f"{args.pairs:,} pairs, both ways", seconds, memory=memory)
