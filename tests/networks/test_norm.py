# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from monai_mgca.networks import ProjectionHead, create_image_encoder, synchronize_batch_norm
from monai_mgca.networks.norm import MaskedBatchNorm, SynchronizedBatchNorm, _NormalizeRows


@pytest.mark.parametrize("mask", [[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
def test_gradient_of_normalized_rows(mask):
    torch.manual_seed(0)
    rows = torch.randn(6, 3).double().requires_grad_()
    share = torch.tensor(mask).double()
    # also of rows that do not count, which are normalized with the others' statistics
    assert torch.autograd.gradcheck(lambda x: _NormalizeRows.apply(x, share, 0.1, False)[0], rows)


@pytest.mark.parametrize(("norm", "shape"), [(nn.BatchNorm1d, (6, 5)), (nn.BatchNorm2d, (4, 5, 3, 2))])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_in_one_process_it_is_batch_norm(norm, shape, affine, training):
    torch.manual_seed(0)
    plain = nn.Sequential(norm(5, eps=1e-3, momentum=0.3, affine=affine)).double().train(training)
    ours = synchronize_batch_norm(deepcopy(plain))
    assert isinstance(ours[0], SynchronizedBatchNorm)
    assert ours[0].training == training
    image = torch.randn(shape).double().requires_grad_()
    weight = torch.randn(shape).double()
    for _ in range(2):
        found, expected = ours(image), plain(image)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        assert found.stride() == expected.stride()
        grads = [torch.autograd.grad((x * weight).sum(), image)[0] for x in (found, expected)]
        torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(ours.state_dict(), plain.state_dict(), rtol=1e-12, atol=1e-12)


def test_without_a_momentum_all_batches_count_alike():
    ours, theirs = MaskedBatchNorm(3), torch.nn.BatchNorm1d(3, momentum=None)
    ours.momentum = None
    for _ in range(3):
        rows = torch.randn(6, 3)
        ours(rows, torch.ones(6, dtype=torch.bool))
        theirs(rows)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_input_without_channels():
    with pytest.raises(ValueError, match=r"\(B, C, ...\), got \(5,\)"):
        SynchronizedBatchNorm(5)(torch.rand(5))


@pytest.mark.parametrize(("device", "kind"), [("cpu", SynchronizedBatchNorm), ("cuda", nn.SyncBatchNorm)])
def test_all_norms_of_an_encoder_are_converted(device, kind):
    encoder = create_image_encoder("resnet_tiny", width=4)
    before, state = dict(encoder.named_parameters()), deepcopy(encoder.state_dict())
    count = sum(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    assert synchronize_batch_norm(encoder, device) is encoder
    assert sum(isinstance(module, kind) for module in encoder.modules()) == count > 0
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    # an optimizer, a checkpoint and an exported model notice nothing
    assert all(parameter is before[name] for name, parameter in encoder.named_parameters())
    assert encoder.state_dict().keys() == state.keys()
    torch.testing.assert_close(dict(encoder.state_dict()), dict(state))


def test_the_heads_keep_their_masks():
    head = synchronize_batch_norm(ProjectionHead(5, 7, 3), "cuda")
    norms = [module for module in head.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert [type(norm) for norm in norms] == [MaskedBatchNorm] * 2
    assert all(norm.synchronized for norm in norms)
