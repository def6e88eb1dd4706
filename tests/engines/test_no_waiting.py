# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A training step never waits for the device: nothing in it looks at a tensor's values."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch.utils._python_dispatch import TorchDispatchMode

from monai_mgca.handlers import SkipNonFiniteSteps
from monai_mgca.losses import MGCALoss, sinkhorn
from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder
from monai_mgca.utils import chunks

PACKAGE = Path(__file__).resolve().parents[2] / "monai_mgca"
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim")
BERT = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


class NoWaiting(TorchDispatchMode):
    """Refuses operations whose result needs a value: .item(), .tolist(), nonzero, indexing by a mask."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in WAITING or by_mask:
            raise AssertionError(f"the step waits for the device: {func}")
        return func(*args, **(kwargs or {}))


def make_step(encoder, matcher, known, device="cpu"):
    """Forward and backward of a small network, after one that fills what is lazily made."""
    torch.manual_seed(0)
    image = create_image_encoder(encoder, 64)
    settings = {"hidden_dim": 32, "num_prototypes": 8, "matcher": matcher, "return_contexts": matcher == "learned"}
    network, loss = MGCA(image, ReportEncoder(BERT), **settings).to(device).train(), MGCALoss()
    ids = torch.tensor([[2, 7, 8, 9, 3], [2, 5, 6, 3, 0], [2, 7, 3, 0, 0]], device=device)
    words = torch.tensor([[-1, 0, 1, 2, -1], [-1, 0, 1, -1, -1], [-1, 0, -1, -1, -1]], device=device)
    mask, images = (ids > 0).long(), torch.rand(3, 1, 64, 64, device=device)
    extent = (4, 6) if known else None  # less than the longest, so that something is cut here, too

    def step():
        loss(network(images, ids, mask, words, extent=extent)).backward()

    step()
    return step


CASES = [("vit_compact", "similarity"), ("vit_compact", "learned"), ("resnet_compact", "similarity")]


@pytest.mark.parametrize("known", [True, False], ids=["lengths from the host", "no lengths"])
@pytest.mark.parametrize(("encoder", "matcher"), CASES)
def test_no_operation_of_a_step_needs_a_value(encoder, matcher, known, monkeypatch):
    monkeypatch.setattr(chunks, "READ_AT_ONCE", ())  # as on a GPU; what a CPU reads it has
    step = make_step(encoder, matcher, known)
    with NoWaiting():
        step()


def test_codes_of_a_large_matrix_need_no_value(monkeypatch):
    monkeypatch.setattr("monai_mgca.losses.prototype.LARGE", 0)
    with NoWaiting():
        sinkhorn(torch.rand(6, 5))


def test_a_step_that_is_not_finite_is_skipped_without_waiting():
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[{"image": torch.full((2, 3), torch.nan), "label": torch.ones(2, 1), "index": [0, 1]}],
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), fused=True),
        loss_function=torch.nn.MSELoss(),
        decollate=False,
    )
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    handler, mode = SkipNonFiniteSteps([], "quarantine.json"), NoWaiting()
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: mode.__enter__())
    handler.attach(trainer)
    # at the end of the iteration the flag is read, as the loss is for the progress bar
    trainer.remove_event_handler(handler._count, Events.ITERATION_COMPLETED)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: mode.__exit__(None, None, None))
    trainer.run()
    assert handler.flags.tolist() == [True, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("known", [True, False], ids=["lengths from the host", "no lengths"])
@pytest.mark.parametrize(("encoder", "matcher"), CASES)
def test_no_synchronization_on_a_gpu(encoder, matcher, known):
    step = make_step(encoder, matcher, known, "cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "wait",
    [lambda x: x.sum().item(), lambda x: x[x > 0], torch.nonzero, lambda x: bool(x.any())],
)
def test_the_check_sees_what_waits(wait):
    with pytest.raises(AssertionError, match="waits"), NoWaiting():
        wait(torch.ones(3))


@pytest.mark.parametrize("path", sorted((PACKAGE / "losses").glob("*.py")), ids=lambda path: path.name)
def test_losses_move_nothing_to_the_cpu(path):
    nodes = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    calls = [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    assert not {"cpu", "item", "tolist", "numpy"} & set(calls)


@pytest.mark.parametrize("lengths", [(5, 5, 5, 5), (5, 1, 3, 0)])
def test_losses_compile(lengths):
    unit = torch.nn.functional.normalize
    words, patches = (unit(torch.randn(4, n, 8), dim=-1).requires_grad_() for n in (5, 9))
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    output = {"word_tokens": words, "image_tokens": patches, "word_mask": mask}
    loss = MGCALoss((0, 1, 0))
    found, expected = torch.compile(loss, backend="eager")(output), loss(output)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(x, [words, patches]) for x in (found, expected)))
