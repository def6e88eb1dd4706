# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Several gloo processes with parts of a batch train as one process with the whole; the file is its own worker."""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from monai_mgca.losses import InstanceAlignmentLoss, MGCALoss, PrototypeAlignmentLoss
from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder, report_extent, synchronize_batch_norm
from monai_mgca.utils import leave_group

pytestmark = pytest.mark.multiprocess
# pairs of each process in each step: two even steps, then what is left of an epoch
SIZES = {2: [(4, 4), (4, 4), (3, 2)], 4: [(2, 2, 2, 2), (2, 2, 2, 2), (3, 2, 2, 3)]}
# two image encoders, both matchers
CASES = {
    "resnet": ("resnet_tiny", {"width": 4}, {}),
    "vit": (
        "vit_compact",
        {"hidden_size": 12, "mlp_dim": 16, "num_layers": 2, "num_heads": 2},
        {"matcher": "learned", "pool_report": "mean"},
    ),
}
# the same in one process without micro-batches, and with an optimizer that has all of its state
CASES["vit in micro-batches"] = CASES["optimizer in parts"] = CASES["vit"]
BAR = 1e-9


def make_network(case: str) -> MGCA:
    """A small network in float64, without dropout; the same in every process."""
    torch.manual_seed(3)
    name, sizes, options = CASES[case]
    report_encoder = ReportEncoder(
        {
            "vocab_size": 30,
            "hidden_size": 12,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 16,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
    )
    image_encoder = create_image_encoder(name, image_size=32, **sizes)
    return MGCA(image_encoder, report_encoder, embed_dim=8, hidden_dim=10, num_prototypes=6, **options).double()


def make_batch(step: int, count: int) -> dict[str, torch.Tensor]:
    """Pairs whose reports have from 1 to 10 words, so that the processes have different numbers of them."""
    generator = torch.Generator().manual_seed(step)
    lengths = torch.randint(1, 11, (count, 1), generator=generator)
    place = torch.arange(12)
    ids = torch.randint(4, 30, (count, 12), generator=generator)
    ids[:, 0] = 2
    ids = torch.where(place <= lengths, ids, 0).scatter(1, lengths + 1, 3)
    words = torch.where((place > 0) & (place <= lengths), place - 1, -1)
    image = torch.rand(count, 1, 32, 32, generator=generator, dtype=torch.float64)
    return {"image": image, "input_ids": ids, "attention_mask": (ids > 0).long(), "word_ids": words}


def make_loss(gather: bool) -> MGCALoss:
    """All three terms, with different weights."""
    instance = InstanceAlignmentLoss(gather_distributed=gather)
    return MGCALoss((1, 0.7, 1.3), instance, prototype=PrototypeAlignmentLoss(gather_distributed=gather))


def train(
    network: nn.Module, loss: MGCALoss, sizes: list[tuple[int, ...]], number: int | None, in_parts: bool = False
) -> dict[str, list]:
    """Three steps of an optimizer on the part of process ``number``, or on everything if None.

    Returns:
        The loss of every step, the gradients of every step, and the network's state at the end.
    """
    # a bias before a batch norm has the gradient 0 but for rounding: with the usual eps of 1e-8 that would be a step
    options = {"lr": 1e-3, "weight_decay": 0.05, "eps": 1e-3}
    if in_parts:
        optimizer = ZeroRedundancyOptimizer(network.parameters(), torch.optim.AdamW, **options)
    else:
        optimizer = torch.optim.AdamW(network.parameters(), **options)
    found: dict[str, list] = {"losses": [], "gradients": []}
    for step, parts in enumerate(sizes):
        first = 0 if number is None else sum(parts[:number])
        rows = slice(first, sum(parts) if number is None else first + parts[number])
        batch = {key: tensor[rows] for key, tensor in make_batch(step, sum(parts)).items()}
        # each process knows how far its own reports reach, and one alone has all of their padding
        extent = None if number is None else report_extent(batch["attention_mask"], batch["word_ids"])
        value = loss(network(**batch, extent=extent))
        optimizer.zero_grad()
        value.backward()
        value = value.detach()
        if number is not None:
            dist.all_reduce(value)
            value /= len(parts)
        found["losses"].append(value)
        found["gradients"].append({name: p.grad.clone() for name, p in network.named_parameters()})
        optimizer.step()
    found["state"] = [{name: tensor.clone() for name, tensor in network.state_dict().items()}]
    return found


def work(folder: Path) -> None:
    """What one process does; the results of all go to files."""
    dist.init_process_group("gloo")
    number, world = dist.get_rank(), dist.get_world_size()
    results = {}
    for case in CASES:
        network = synchronize_batch_norm(make_network(case))
        network.micro_batch_size = 1 if case.endswith("micro-batches") else 0
        in_parts = case == "optimizer in parts"
        results[case] = train(DistributedDataParallel(network), make_loss(True), SIZES[world], number, in_parts)
        dist.barrier()
    for name, gather in (("alone", False), ("no statistics", True)):
        plain = DistributedDataParallel(make_network("resnet"))
        results[name] = train(plain, make_loss(gather), SIZES[world][:1], number)
        dist.barrier()
    torch.save(results, folder / f"{number}.pt")
    leave_group(plain)


@pytest.fixture(scope="module", params=sorted(SIZES))
def several(request, forks, tmp_path_factory) -> tuple[int, list[dict]]:
    """The number of processes and the results of each."""
    world, folder = request.param, tmp_path_factory.mktemp("processes")
    done = forks.run_together(__file__, str(folder), processes=world)
    assert done.returncode == 0, done.stderr[-3000:]
    return world, [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(world)]


def largest_difference(found: dict, expected: dict) -> float:
    """Over all tensors; DDP puts "module." before their names."""
    assert {name.removeprefix("module.") for name in found} == set(expected)
    return max(float((t - expected[n.removeprefix("module.")]).abs().max()) for n, t in found.items())


@pytest.mark.parametrize("case", CASES)
def test_equal_to_one_process_with_the_joined_batch(several, case):
    world, results = several
    expected = train(make_network(case), make_loss(gather=True), SIZES[world], None)
    for result in (result[case] for result in results):
        for found, wanted in zip(result["losses"], expected["losses"], strict=True):
            assert abs(found - wanted) <= BAR
        for key in ("gradients", "state"):
            for found, wanted in zip(result[key], expected[key], strict=True):
                assert largest_difference(found, wanted) <= BAR, key
    # something was learned, and every parameter took part
    start = make_network(case).state_dict()
    for name, tensor in expected["state"][0].items():
        assert not torch.equal(tensor, start[name]) or "embeddings.position_ids" in name, name


@pytest.mark.parametrize("name", ["alone", "no statistics"])
def test_without_gathering_or_statistics_it_is_not_equal(several, name):
    world, results = several
    expected = train(make_network("resnet"), make_loss(gather=True), SIZES[world][:1], None)
    assert largest_difference(results[0][name]["gradients"][0], expected["gradients"][0]) > 1e-3


def test_one_process_is_not_changed_by_synchronized_statistics():
    network = make_network("resnet")
    found = train(synchronize_batch_norm(deepcopy(network)), make_loss(gather=True), SIZES[2], None)
    expected = train(network, make_loss(gather=True), SIZES[2], None)
    assert largest_difference(found["state"][0], expected["state"][0]) <= BAR


if __name__ == "__main__":
    work(Path(sys.argv[1]))
