# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Two gloo processes with halves of a set have the figures of the whole set; the file is its own worker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from monai_mgca.metrics import DetectionMetric
from monai_mgca.utils import leave_group

pytestmark = pytest.mark.multiprocess
WORLD = 2


def make_set():
    """Five images with 0 to 4 boxes, which are found somewhat displaced."""
    generator = torch.Generator().manual_seed(0)
    images = []
    for count in (2, 0, 3, 1, 4):
        corner = torch.rand(count, 2, generator=generator) * 60
        boxes = torch.cat((corner, corner + 10), dim=1)
        labels = torch.arange(count) % 2
        moved = boxes + torch.randn(count, 4, generator=generator)
        scores = torch.rand(count, generator=generator)
        found = {"boxes": moved, "labels": labels, "labels_scores": scores}
        images.append((found, {"boxes": boxes, "labels": labels}))
    return images


def figures(images):
    metric = DetectionMetric(["a", "b"])
    for found, true in images:
        metric([found], [true])
    return metric.aggregate()


def work(folder: Path) -> None:
    dist.init_process_group("gloo")
    number = dist.get_rank()
    torch.save(figures(make_set()[number::WORLD]), folder / f"{number}.pt")
    leave_group()


def test_both_processes_have_the_figures_of_all(forks, tmp_path):
    done = forks.run_together(__file__, str(tmp_path), processes=WORLD)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = figures(make_set())
    assert 0 < expected["map_50_95"] < 1
    for number in range(WORLD):
        assert torch.load(tmp_path / f"{number}.pt", weights_only=True) == pytest.approx(expected)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
