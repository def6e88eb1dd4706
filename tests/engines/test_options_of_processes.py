# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""Every option of a pretraining that decides what is trained, in two gloo processes; the file is its own worker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from monai.bundle import ConfigWorkflow
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_mgca.data import make_sample
from monai_mgca.losses import InstanceAlignmentLoss, MGCALoss, PrototypeAlignmentLoss
from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder, freeze_unused, synchronize_batch_norm
from monai_mgca.utils import leave_group
from monai_mgca.utils.errors import first_cause

ROOT = Path(__file__).resolve().parents[2]
WORLD, ROWS, BAR = 2, 3, 1e-9
BERT = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 8,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
ENCODERS = {
    "resnet_tiny": {"width": 2},
    "vit_compact": {"hidden_size": 8, "mlp_dim": 8, "num_layers": 2, "num_heads": 2},
}
# image encoder, matcher, both directions, weights of the terms
CASES = [
    ("resnet_tiny", "similarity", True, (1, 1, 0)),
    ("resnet_tiny", "similarity", True, (0, 1, 0)),
    ("resnet_tiny", "similarity", False, (1, 1, 1)),
    ("resnet_tiny", "learned", True, (1, 0, 1)),
    ("vit_compact", "learned", False, (1, 1, 1)),
    ("vit_compact", "learned", False, (0, 1, 0)),
    ("vit_compact", "similarity", True, (0, 0, 1)),
    ("vit_compact", "learned", True, (1, 1, 1)),
]
# the same by the configs, several options at a time that do not touch each other
TINY = {"image_size": 32, "max_length": 24, "hidden_dim": 16, "num_prototypes": 8, "image_encoder": "resnet_tiny"}
FINETUNED = {"image_size": 32, "pretrained_path": "$None", "encoder": "resnet_tiny", "classes": ["effusion"]}
RUNS = {
    "no prototypes": ("train", {**TINY, "prototype_weight": 0, "accumulation_steps": 2, "augment": True}),
    "no tokens": ("train", {**TINY, "token_weight": 0, "checkpointing": True, "freeze_prototypes_epochs": 9}),
    "one side, learned": ("train", {**TINY, "matcher": "learned", "bidirectional": False, "in_channels": 3}),
    "frozen reports": (
        "train",
        {
            **{**TINY, "image_encoder": "vit_compact", "micro_batch_size": 2, "pool_report": "cls"},
            **{"freeze_report_encoder": True, "cache_report_states": True, "gather_distributed": False},
        },
    ),
    "boxes": ("train_detection", {**FINETUNED, "freeze_encoder": True, "anchor_sizes": [[4], [8], [16]]}),
}


def one_step(case: tuple, number: int | None) -> dict[str, torch.Tensor | None]:
    """The gradients of two steps on the part of process ``number``, or on everything if None."""
    encoder, matcher, bidirectional, weights = case
    torch.manual_seed(3)
    network = MGCA(
        create_image_encoder(encoder, image_size=32, **ENCODERS[encoder]),
        ReportEncoder(BERT),
        embed_dim=4,
        hidden_dim=6,
        num_prototypes=5,
        matcher=matcher,
        return_contexts=matcher == "learned" or not bidirectional,
    ).double()
    parts = {
        "instance": InstanceAlignmentLoss(gather_distributed=True),
        "prototype": PrototypeAlignmentLoss(gather_distributed=True),
    }
    loss = MGCALoss(weights, **parts, bidirectional=bidirectional)
    freeze_unused(network, loss)
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(5, 30, (WORLD * ROWS, 6), generator=generator)
    words = torch.arange(-1, 5).expand_as(ids)
    images = torch.rand(len(ids), 1, 32, 32, generator=generator, dtype=torch.float64)
    rows = slice(None) if number is None else slice(number * ROWS, (number + 1) * ROWS)
    synchronize_batch_norm(network)
    wrapped: nn.Module = network if number is None else DistributedDataParallel(network)
    for _ in range(2):  # DDP reports in the second that the first was not complete
        wrapped.zero_grad()
        loss(wrapped(images[rows], ids[rows], torch.ones_like(ids[rows]), words[rows])).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def run_config(name: str, folder: Path) -> str:
    """An epoch by a config with its overlay for several processes; what went wrong, else nothing."""
    task, options = RUNS[name]
    files = [str(ROOT / "bundles" / "mgca" / "configs" / f"{file}.json") for file in (task, "multi_gpu_train")]
    common = {"dataset_dir": str(folder / "sample"), "use_sample": True, "bundle_root": str(folder / "bundle")}
    common |= {"cache": "memory" if "cache_report_states" in options else "none", "num_workers": 0, "epochs": 1}
    common |= {"batch_size": 4, "device": torch.device("cpu")}
    try:
        workflow = ConfigWorkflow(files, workflow_type="train", logging_file=False, **common, **options)
        workflow.initialize()
        workflow.run()
        return ""
    except Exception as error:  # the others go on
        return f"{type(first_cause(error)).__name__}: {first_cause(error)}"


def work(folder: Path) -> None:
    """What one process does; its results go to a file."""
    dist.init_process_group("gloo")
    gradients = {str(case): one_step(case, dist.get_rank()) for case in CASES}
    messages = {name: run_config(name, folder) for name in RUNS}
    dist.barrier()
    torch.save({"gradients": gradients, "messages": messages}, folder / f"{dist.get_rank()}.pt")
    leave_group()


@pytest.fixture(scope="module")
def results(forks, tmp_path_factory) -> list[dict]:
    """The results of each process."""
    folder = tmp_path_factory.mktemp("options")
    make_sample(folder / "sample", size=32, image_size=64, progress=False)
    done = forks.run_together(__file__, str(folder), processes=WORLD)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(WORLD)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_have_the_gradients_of_one(results, case):
    expected = one_step(case, None)
    for result in results:
        found = result["gradients"][str(case)]
        assert found.keys() == expected.keys()
        for name, wanted in expected.items():
            assert (found[name] is None) == (wanted is None), name
            if wanted is not None:
                assert float((found[name] - wanted).abs().max()) <= BAR, name


@pytest.mark.parametrize("name", RUNS)
def test_the_configs_train(results, name):
    assert [result["messages"][name] for result in results] == [""] * WORLD


if __name__ == "__main__":
    work(Path(sys.argv[1]))
