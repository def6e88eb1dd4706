# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import weakref
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from monai_mgca.losses import MGCALoss
from monai_mgca.networks import MGCA, ReportEncoder, ResNetImageEncoder, ViTImageEncoder, encode_in_micro_batches

BERT = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
}
VIT = {"image_size": 32, "patch_size": 16, "hidden_size": 24, "mlp_dim": 48, "num_layers": 3, "num_heads": 3}


def batch(count: int = 7) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(count, 1, 32, 32, generator=generator, dtype=torch.float64)
    ids = torch.randint(5, 40, (count, 8), generator=generator)
    lengths = torch.randint(4, 9, (count, 1), generator=generator)
    mask = (torch.arange(8) < lengths).long()
    words = torch.where(mask.bool(), torch.arange(8) - 1, -1)
    return image, ids * mask, mask, words


def make(micro_batch_size: int, attention_dropout: float = 0.0, image_encoder: nn.Module | None = None) -> MGCA:
    """The sizes are tiny, the dropout strong; MONAI's ViT gets its own behind every feed-forward layer."""
    torch.manual_seed(0)
    vit = image_encoder or ViTImageEncoder(**VIT)
    for block in vit.backbone.blocks if isinstance(vit, ViTImageEncoder) else ():
        block.mlp.drop2 = nn.Dropout(0.3)
    report = ReportEncoder({**BERT, "hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": attention_dropout})
    network = MGCA(vit, report, embed_dim=8, hidden_dim=16, num_prototypes=10, micro_batch_size=micro_batch_size)
    return network.double().train()


def step(network: MGCA, amp: bool = False, count: int = 7) -> dict[str, torch.Tensor]:
    """The loss and the gradient of every parameter, and where the random numbers went on afterwards."""
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16) if amp else nullcontext():
        loss = MGCALoss()(network(*batch(count)))
    scaler = torch.amp.GradScaler("cpu", enabled=amp, init_scale=2.0**8)
    scaler.scale(loss).backward()
    scale = scaler.get_scale() if amp else 1.0
    found = {name: p.grad / scale for name, p in network.named_parameters()}
    return {"loss": loss.detach(), "random": torch.rand(3), **found}


class Masks:
    """Dropout whose masks are drawn from torch's generator, kept, and given to another network joined to a batch."""

    def __init__(self, network: nn.Module, drawn: dict[str, list[torch.Tensor]] | None = None) -> None:
        self.network, self.joined = network, drawn
        self.drawn: dict[str, list[torch.Tensor]] = {}
        for name, module in network.named_modules():
            if isinstance(module, nn.Dropout) and module.p:
                module.forward = lambda x, name=name, p=module.p: x * self.mask(name, x, p)  # type: ignore[method-assign]

    def mask(self, name: str, x: torch.Tensor, p: float) -> torch.Tensor:
        if self.joined is not None:
            return torch.cat(self.joined[name])
        self.drawn.setdefault(name, []).append((torch.rand_like(x) > p) / (1 - p))
        return self.drawn[name][-1]


def test_gradients_are_those_of_the_whole_batch_at_once_with_dropout():
    network, whole = make(3), make(0)
    masks = Masks(network)
    found = step(network)
    parts = {name: drawn[:3] for name, drawn in masks.drawn.items()}
    assert len(parts) == 8  # three in the ViT; BERT's embeddings and two in each of its layers
    for name, drawn in masks.drawn.items():
        assert [len(mask) for mask in drawn[:3]] == [3, 3, 1]
        # the backward pass drew the same once more, the last part first
        for first, again in zip(drawn[:3], reversed(drawn[3:]), strict=True):
            torch.testing.assert_close(again, first, rtol=0, atol=0)
        assert not torch.equal(drawn[0], drawn[1]), name
    Masks(whole, parts)
    expected = step(whole)
    assert found.keys() == expected.keys()
    for name in found.keys() - {"random"}:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-11, msg=name)
        assert found[name].abs().max() > 0, name


class InParts(nn.Module):
    """The plain way: an encoder called for every part, all graphs kept."""

    def __init__(self, encoder: nn.Module, size: int) -> None:
        super().__init__()
        self.encoder, self.size = encoder, size

    def forward(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        outputs = [self.encoder(*part) for part in zip(*(x.split(self.size) for x in inputs), strict=True)]
        return [torch.cat(fields) for fields in zip(*outputs, strict=True)]


@pytest.mark.parametrize("amp", [False, True], ids=["double", "bf16 and gradient scaler"])
def test_torchs_own_dropout_is_replayed(amp):
    """Of the attention too, whose masks cannot be seen."""
    network, plain = make(3, attention_dropout=0.3), make(0, attention_dropout=0.3)
    plain.image_encoder, plain.report_encoder = InParts(plain.image_encoder, 3), InParts(plain.report_encoder, 3)
    found, expected = step(network, amp), step(plain, amp)
    limit = {"rtol": 2e-2, "atol": 2e-3} if amp else {"rtol": 1e-9, "atol": 1e-11}
    for name in found:
        other = name.replace("_encoder.", "_encoder.encoder.")
        torch.testing.assert_close(found[name], expected[other], **limit, msg=name)


class PeakMemory(TorchDispatchMode):
    """The most bytes that tensors hold at once, without those that were there before."""

    def __init__(self, *there: torch.Tensor) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.seen = weakref.WeakSet(tensor.untyped_storage() for tensor in there)

    def _freed(self, size: int) -> None:
        self.live -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage not in self.seen:
                self.seen.add(storage)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result


def peak_of(size: int, count: int) -> int:
    """Bytes of a ViT's step on so many images."""
    torch.manual_seed(0)
    encoder, image = ViTImageEncoder(**{**VIT, "num_layers": 6}).train(), torch.rand(count, 1, 32, 32)
    with PeakMemory(image, *encoder.parameters()) as memory:
        pooled, tokens, _ = encode_in_micro_batches(encoder, size, image)
        (pooled.square().sum() + tokens.square().sum()).backward()
    return memory.peak


def test_memory_grows_with_the_micro_batch_alone():
    outputs = 4 * 5 * 24 * 4  # bytes of four images' [CLS] and patches
    assert peak_of(0, 32) == pytest.approx(2 * peak_of(0, 16), rel=0.01)
    # of the whole batch are the outputs alone, their gradients, and what the loss makes of them
    assert peak_of(4, 32) - peak_of(4, 16) < 4 * 4 * outputs < 0.1 * (peak_of(0, 32) - peak_of(0, 16))
    assert peak_of(8, 32) - peak_of(4, 32) == pytest.approx(peak_of(0, 8) - peak_of(0, 4), rel=0.1)
    assert peak_of(4, 32) < 0.3 * peak_of(0, 32)


def test_batch_norm_in_training_is_refused():
    resnet = ResNetImageEncoder("basic", (1, 1, 1, 1), 8)
    with pytest.raises(
        ValueError, match=r"micro_batch_size is not exact with ResNetImageEncoder.*set micro_batch_size"
    ):
        make(2, image_encoder=resnet)
    network = make(2, image_encoder=resnet.eval())
    with pytest.raises(ValueError, match="not exact"):  # train() switched it on again
        network(*batch())


def test_batch_norm_in_evaluation_is_exact():
    def frozen(size: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(2)
        network = make(size, image_encoder=ResNetImageEncoder("basic", (1, 1, 1, 1), 8).eval())
        network.image_encoder.eval()
        network.report_encoder.eval()  # no dropout: the same on the whole batch
        return step(network)

    found, expected = frozen(3), frozen(0)
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-11, msg=name)


def test_evaluation_runs_in_parts_too():
    network, calls = make(3).eval(), []
    network.image_encoder.register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
    with torch.no_grad():
        found, expected = network(*batch()), make(0).eval()(*batch())
    assert calls == [3, 3, 1]
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], msg=str(key))


def test_a_batch_that_is_no_larger_runs_at_once():
    network, calls = make(7), []
    network.image_encoder.register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
    found, expected = step(network), step(make(0))
    assert calls == [7]
    for name in found:
        assert torch.equal(found[name], expected[name]), name


@pytest.mark.parametrize("size", [-1, 2.5, "many"])
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError, match="micro_batch_size must be a whole number from 0"):
        make(size)
