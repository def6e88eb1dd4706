# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What the pretrained encoder gives a finetuning: the bundle's own configs, pretrained against random, few labels.

Every cell of the grid is one training and one evaluation at the images' own size. Cells go into a CSV file as they are
done, and a second call goes on where the first was stopped. docs/benchmarks.md has the commands and what came out.

    python benchmarks/finetuning.py segmentation --dataset-dir $CXR --datalist lungs.json \
        --runs runs/seed0 runs/seed1 runs/seed2 --output segmentation.csv
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from monai.inferers import SimpleInferer

from monai_mgca.utils import DataError, read_settings
from monai_mgca.utils.errors import first_cause

CONFIGS = Path(__file__).parents[1] / "bundles" / "mgca" / "configs"
# optimization steps for all, a tenth and a hundredth of the labels; the same for every start
STEPS = {1: 176, 0.1: 225, 0.01: 100}
TASKS: dict[str, dict[str, Any]] = {
    "segmentation": {
        "metrics": ["val_mean_dice", "val_mean_iou", "val_hausdorff_95"],
        "settings": {"learning_rate": 2e-3},
    },
    "detection": {
        "metrics": ["val_map_50", "val_map_40_75", "val_map_50_95"],
        # the anchors are what mgca anchors prints for the training boxes at 128 pixels
        "settings": {
            "learning_rate": 2e-3,
            "anchor_sizes": [[47.7, 55.1], [61.4, 67.2], [73.2, 80.7]],
            "anchor_ratios": [1.36, 1.68, 2.08],
        },
    },
}
COLUMNS = ["start", "encoder", "label_fraction", "seed", "images", "minutes"]


class HalfInferer(SimpleInferer):
    """The network's forward pass under bfloat16 autocast on the CPU."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return super().__call__(*args, **kwargs)


def run(names: list[str], settings: dict[str, Any]) -> ConfigWorkflow:
    """Run configs of the bundle in this process."""
    workflow = ConfigWorkflow(
        [str(CONFIGS / f"{name}.json") for name in names],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(CONFIGS.parent),
        **settings,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def cell(args: argparse.Namespace, run_dir: Path, start: str, frozen: bool, fraction: float, seed: int) -> dict:
    """Train and evaluate once; the figures of the validation set, each image at its own size."""
    began = time.time()
    pretrained = read_settings(run_dir / "model.json", required=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "dataset_dir": str(args.dataset_dir),
            "data_list_file_path": str(args.datalist),
            "pretrained_path": str(run_dir / "model.pt") if start == "pretrained" else "$None",
            "encoder": pretrained["image_encoder"],
            "image_size": pretrained["image_size"],
            "freeze_encoder": frozen,
            "label_fraction": fraction,
            "seed": seed,
            **TASKS[args.task]["settings"],
            "early_stopping_patience": 0,
            "cache": "memory",
            "channels_last": True,
            "ckpt_dir": f"{folder}/models",
            "output_dir": f"{folder}/eval",
        }
        images, batch = count_images(args.task, settings, fraction)
        epochs = math.ceil(STEPS[fraction] / (images // batch))
        # one validation, at the end: nothing is chosen by the set that the figures are of
        training = {"batch_size": batch, "epochs": epochs, "val_interval": epochs}
        training |= {"train#inferer": HalfInferer()} if args.bf16 else {}
        run([f"train_{args.task}"], settings | training)
        del settings["pretrained_path"]  # of the encoder: the evaluation's default is what was just trained
        done = run([f"train_{args.task}", f"evaluate_{args.task}"], settings)
        figures = done.parser.get_parsed_content("validate#evaluator").state.metrics
    row = {
        "start": start,
        "encoder": "frozen" if frozen else "finetuned",
        "label_fraction": f"{fraction:g}",
        "seed": seed,
    }
    row |= {"images": images, "minutes": round((time.time() - began) / 60, 2)}
    return row | {name: round(float(figures[name]), 4) for name in TASKS[args.task]["metrics"]}


def count_images(task: str, settings: dict[str, Any], fraction: float) -> tuple[int, int]:
    """The images of a fraction, and a batch size that suits them."""
    workflow = ConfigWorkflow(
        str(CONFIGS / f"train_{task}.json"), logging_file=False, workflow_type="train", **settings
    )
    workflow.parser.parse(reset=True)
    images = len(workflow.parser.get_parsed_content("train#data"))
    return images, min(images, 16 if fraction == 1 else 8)


def read(path: Path) -> list[dict[str, str]]:
    """The cells that are done."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a cell to the file."""
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row.keys())
        if new:
            writer.writeheader()
        writer.writerow(row)


def table(rows: list[dict[str, str]], metrics: list[str]) -> str:
    """The cells as a table, with mean and standard deviation over the seeds."""
    lines = [
        "| labels | encoder | start | " + " | ".join(metrics) + " | min a run |",
        "|" + "---|" * (len(metrics) + 4),
    ]
    kinds = dict.fromkeys((r["label_fraction"], r["encoder"], r["start"]) for r in rows)
    for fraction, encoder, start in sorted(kinds, key=lambda k: (-float(k[0]), k[1], k[2])):
        some = [r for r in rows if (r["label_fraction"], r["encoder"], r["start"]) == (fraction, encoder, start)]
        cells = []
        for metric in metrics:
            values = np.array([float(r[metric]) for r in some])
            cells.append(f"{values.mean():.3f} ± {values.std(ddof=1) if len(values) > 1 else 0:.3f}")
        minutes = np.mean([float(r["minutes"]) for r in some])
        labels = f"{float(fraction):.0%} ({some[0]['images']})"
        lines.append(f"| {labels} | {encoder} | {start} | {' | '.join(cells)} | {minutes:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--dataset-dir", type=Path, required=True, help="folder of the images")
    parser.add_argument("--datalist", type=Path, required=True, help="made by mgca data csv")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="ckpt_dir of the pretraining of each seed")
    parser.add_argument("--output", type=Path, required=True, help="CSV file of the cells")
    parser.add_argument("--fractions", type=float, nargs="+", default=list(STEPS), help="parts of the labels")
    parser.add_argument("--bf16", action="store_true", help="train under bfloat16 autocast, twice as fast on new CPUs")
    args = parser.parse_args()
    done = {tuple(row[c] for c in COLUMNS[:4]) for row in read(args.output)}
    for (seed, run_dir), fraction, frozen, start in product(
        enumerate(args.runs), args.fractions, (True, False), ("pretrained", "random")
    ):
        if (start, "frozen" if frozen else "finetuned", f"{fraction:g}", str(seed)) in done:
            continue
        try:
            append(args.output, cell(args, run_dir, start, frozen, fraction, seed))
        except (DataError, RuntimeError) as error:
            if not isinstance(first_cause(error), DataError):
                raise
            print(f"left out: {fraction:.0%}, seed {seed}: {first_cause(error)}")
    print(table(read(args.output), TASKS[args.task]["metrics"]))


if __name__ == "__main__":
    main()
