# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Two gloo processes against one; the file is its own worker."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from monai_mgca.losses import InstanceAlignmentLoss, PrototypeAlignmentLoss, sinkhorn
from monai_mgca.utils.dist import _host_group, all_gather_with_grad, batch_sizes, leave_group, rank, world_size

pytestmark = pytest.mark.multiprocess
WORLD, ROWS = 2, 3


def joined() -> dict[str, torch.Tensor]:
    """All ranks' inputs and the weights that they share, in float64."""
    generator = torch.Generator().manual_seed(5)
    shapes = {
        "image": (WORLD * ROWS, 5),
        "report": (WORLD * ROWS, 5),
        "image_map": (5, 4),
        "report_map": (5, 4),
        "prototypes": (7, 4),
        "coefficients": (WORLD, WORLD * ROWS, 5),
    }
    return {k: torch.randn(*shape, generator=generator, dtype=torch.float64) for k, shape in shapes.items()}


def step(data: dict[str, torch.Tensor], rows: slice, gather: bool) -> dict[str, list[torch.Tensor]]:
    """Both losses and their gradients of the shared weights: [loss, gradient, ...]."""
    image_map, report_map, prototypes = (
        data[name].clone().requires_grad_() for name in ("image_map", "report_map", "prototypes")
    )
    image = F.normalize(data["image"][rows] @ image_map, dim=1)
    report = F.normalize(data["report"][rows] @ report_map, dim=1)
    instance = InstanceAlignmentLoss(gather_distributed=gather)(image, report)
    centers = F.normalize(prototypes, dim=1)
    prototype = PrototypeAlignmentLoss(gather_distributed=gather)(image @ centers.T, report @ centers.T)
    return {
        "instance": [instance, *torch.autograd.grad(instance, [image_map, report_map], retain_graph=True)],
        "prototype": [prototype, *torch.autograd.grad(prototype, [image_map, report_map, prototypes])],
    }


def work(folder: Path) -> None:
    """What one process does; its results go to a file."""
    number = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    assert (rank(), world_size()) == (number, WORLD)
    data = joined()
    rows = slice(number * ROWS, (number + 1) * ROWS)
    mine = data["image"][rows].clone().requires_grad_()
    everyone = all_gather_with_grad(mine)
    (everyone * data["coefficients"][number]).sum().backward()
    result = {"gathered": everyone.detach(), "gradient": mine.grad}
    strided = all_gather_with_grad(data["image"].T[:, rows].T)
    result["strided"] = strided
    # a process may have fewer rows, or none
    for name, sizes in (("uneven", [1, 3]), ("empty", [2, 0])):
        assert batch_sizes(sizes[number]) == sizes
        mine = data["image"][: sizes[number]].clone().requires_grad_()
        everyone = all_gather_with_grad(mine)
        (everyone * data["coefficients"][number][: sum(sizes)]).sum().backward()
        result[name] = [everyone.detach(), mine.grad]
    # with a backend of GPUs alone, sizes go by a group of their own, made once
    dist.get_backend = lambda group: "nccl"
    assert batch_sizes(number) == batch_sizes(number) == [0, 1]
    assert _host_group(dist.group.WORLD) is _host_group(dist.group.WORLD) is not dist.group.WORLD
    result["codes"] = sinkhorn(data["image"][rows] / 5, gather_distributed=True)
    for name, gather in (("joined", True), ("apart", False)):
        values = step(data, rows, gather)
        for tensor in (tensor for tensors in values.values() for tensor in tensors):
            tensor.detach_()
            dist.all_reduce(tensor)
            tensor /= WORLD  # as DDP does
        result[name] = values
    torch.save(result, folder / f"{number}.pt")
    leave_group()


@pytest.fixture(scope="module")
def results(forks, tmp_path_factory) -> list[dict]:
    """The results of each rank."""
    folder = tmp_path_factory.mktemp("dist")
    done = forks.run_together(__file__, str(folder), processes=WORLD)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(WORLD)]


def test_gather_joins_the_rows_in_the_order_of_the_ranks(results):
    data = joined()
    for result in results:
        assert torch.equal(result["gathered"], data["image"])
        assert torch.equal(result["strided"], data["image"])


def test_gather_s_gradient_is_the_sum_over_the_processes(results):
    total = joined()["coefficients"].sum(0)
    for number, result in enumerate(results):
        torch.testing.assert_close(result["gradient"], total[number * ROWS : (number + 1) * ROWS])


def test_codes_are_balanced_over_all_processes(results):
    scores = joined()["image"] / 5
    torch.testing.assert_close(torch.cat([result["codes"] for result in results]), sinkhorn(scores))
    assert not torch.allclose(results[0]["codes"], sinkhorn(scores[:ROWS]), atol=1e-3)


@pytest.mark.parametrize(("name", "sizes"), [("uneven", [1, 3]), ("empty", [2, 0])])
def test_gather_of_different_numbers_of_rows(results, name, sizes):
    data = joined()
    total = data["coefficients"].sum(0)[: sum(sizes)]
    for number, result in enumerate(results):
        rows, gradient = result[name]
        assert torch.equal(rows, torch.cat([data["image"][:size] for size in sizes]))
        first = sum(sizes[:number])
        torch.testing.assert_close(gradient, total[first : first + sizes[number]])


@pytest.mark.parametrize("name", ["instance", "prototype"])
def test_loss_and_gradients_equal_those_of_one_process(results, name):
    expected = step(joined(), slice(None), gather=True)[name]
    for result in results:
        for found, wanted in zip(result["joined"][name], expected, strict=True):
            torch.testing.assert_close(found, wanted.detach(), rtol=0, atol=1e-9 * wanted.abs().max().item())
    assert not torch.allclose(results[0]["apart"][name][0], expected[0], rtol=1e-3), "without gathering it differs"


def test_one_process_gathers_nothing():
    tensor = torch.rand(3, 2)
    assert (rank(), world_size()) == (0, 1)
    assert all_gather_with_grad(tensor) is tensor
    assert batch_sizes(3) == [3]


# all that keeps a group: DDP, an optimizer in parts, the group for numbers, what is imported after the group is made
LEAVES = """
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from monai_mgca.utils.dist import _KEEPERS, _host_group, leave_group

counts = []
for _ in range(2):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    for name in _KEEPERS:
        sys.modules.pop(name, None)
    import torch.distributed.nn.functional
    from torch.distributed.optim.zero_redundancy_optimizer import ZeroRedundancyOptimizer

    backend, dist.get_backend = dist.get_backend, lambda group: "nccl"
    _host_group(dist.group.WORLD)
    dist.get_backend = backend
    network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
    optimizer = ZeroRedundancyOptimizer(network.parameters(), torch.optim.AdamW)
    network(torch.rand(1, 2)).sum().backward()
    optimizer.step()
    for _ in range(2):  # in the group, and out of it
        counts.append(len(list(Path("/proc/self/task").iterdir())))
        leave_group(network, optimizer)
assert counts[0] > counts[1] and counts[2] > counts[3] == counts[1], counts
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system does not list a process's threads")
def test_no_thread_of_a_group_outlives_it(forks):
    """It could ask for Python's lock while the interpreter ends, which ends all by SIGABRT."""
    done = forks.run("-c", LEAVES)
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    work(Path(sys.argv[1]))
