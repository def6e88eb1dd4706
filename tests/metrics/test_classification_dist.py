# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Two gloo processes with halves of a set have the figures of the whole set; the file is its own worker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from monai_mgca.metrics import ClassificationMetric
from monai_mgca.utils import leave_group

pytestmark = pytest.mark.multiprocess
WORLD = 2


def make_set():
    """Scores and labels of 31 images, which two processes cannot halve; some labels are unknown."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (31, 2), generator=generator).float()
    scores = labels + torch.randn(31, 2, generator=generator)
    labels[::5, 0] = float("nan")
    return list(zip(scores, labels, strict=True))


def figures(images):
    metric = ClassificationMetric(["a", "b"], bootstrap=20)
    for scores, labels in images:
        metric([scores], [labels])
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
    assert 0.5 < expected["mean_auroc"] < 1
    both = [torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in range(WORLD)]
    assert both[0] == both[1]
    # also the intervals, though gathering changes the order of the images
    assert both[0] == pytest.approx(expected)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
