# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from monai_mgca.networks import AttentionMatcher, attention_to_weights, soft_match
from monai_mgca.utils import chunks

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(0)

    def make(count: int) -> torch.Tensor:
        tokens = torch.randn(4, count, 5, generator=generator, dtype=torch.float64)
        return F.normalize(tokens, dim=-1).requires_grad_()

    return make


def slow_match(queries, keys, temperature, mask, normalize):
    rows = []
    for i in range(len(queries)):
        real = [k for k in range(keys.shape[1]) if mask is None or mask[i, k]]
        for j in range(queries.shape[1]):
            if not real:
                rows.append(torch.zeros(queries.shape[2], dtype=queries.dtype))
                continue
            scores = torch.stack([(queries[i, j] * keys[i, k]).sum() / temperature for k in real])
            share = scores.exp() / scores.exp().sum()
            context = sum(share[n] * keys[i, k] for n, k in enumerate(real))
            rows.append(context / context.norm() if normalize else context)
    return torch.stack(rows).view_as(queries)


@pytest.mark.parametrize("temperature", [0.1, 0.7])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("mask", [None, MASK])
def test_soft_match_equals_explicit_softmax(tokens, mask, normalize, temperature):
    queries, keys = tokens(6), tokens(4)
    found = soft_match(queries, keys, temperature, mask, normalize)
    expected = slow_match(queries, keys, temperature, mask, normalize)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    weight = torch.randn_like(expected)
    grads = [torch.autograd.grad((x * weight).sum(), [queries, keys]) for x in (found, expected)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("normalize", [True, False])
def test_soft_match_in_parts_as_at_once(tokens, normalize, monkeypatch):
    queries, keys = tokens(6), tokens(4)
    weight, results = torch.randn_like(queries), []
    for elements in (2**17, 48, 24, 8, 1):  # all at once, two samples, one, two rows, one
        monkeypatch.setattr(chunks, "CPU_ELEMENTS", elements)
        found = soft_match(queries, keys, key_mask=MASK, normalize=normalize)
        results.append((found, *torch.autograd.grad((found * weight).sum(), [queries, keys])))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-12, atol=1e-14)


def test_soft_match_keeps_no_attention(tokens):
    queries, keys, sizes = tokens(60), tokens(50), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        soft_match(queries, keys)
    assert sizes
    assert max(sizes) <= queries.numel() < 4 * 60 * 50


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_samples_without_keys_get_zeros_and_finite_gradients(tokens, learned, normalize):
    matcher = AttentionMatcher(5).double() if learned else soft_match
    queries, keys = tokens(6), tokens(4)
    context = matcher(queries, keys, key_mask=MASK, normalize=normalize)
    assert (context[3] == 0).all()
    assert (context[:3] != 0).any(-1).all()
    context.square().sum().backward() if not normalize else context.sum().backward()
    for x in (queries, keys):
        assert x.grad.isfinite().all()
        assert (x.grad[3] == 0).all()
        assert (x.grad[:3] != 0).any()
    assert (keys.grad[~MASK] == 0).all()


def test_masked_keys_do_not_matter(tokens):
    queries, keys = tokens(6), tokens(4)
    other = torch.where(MASK[..., None], keys, torch.full_like(keys, 9.0))
    for matcher in (soft_match, AttentionMatcher(5).double()):
        torch.testing.assert_close(matcher(queries, other, key_mask=MASK), matcher(queries, keys, key_mask=MASK))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_soft_match_is_float32_at_least(tokens, dtype):
    queries, keys = (tokens(n).detach().to(dtype) for n in (6, 4))
    expected = soft_match(queries.float(), keys.float(), key_mask=MASK)
    found = soft_match(queries, keys, key_mask=MASK)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(soft_match(queries.float(), keys.float(), key_mask=MASK), expected)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("mask", [None, MASK[:3]])
def test_learned_matcher_equals_the_formula(mask, heads):
    torch.manual_seed(0)
    matcher = AttentionMatcher(6, heads).double()
    torch.nn.init.normal_(matcher.attention.in_proj_bias)
    torch.nn.init.normal_(matcher.attention.out_proj.bias)
    queries, keys = torch.randn(3, 7, 6).double(), torch.randn(3, 4, 6).double()
    weight, bias = matcher.attention.in_proj_weight.chunk(3), matcher.attention.in_proj_bias.chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((queries, keys, keys), weight, bias, strict=True))
    size, parts = 6 // heads, []
    for head in range(heads):
        part = slice(size * head, size * (head + 1))
        scores = q[..., part] @ k[..., part].transpose(1, 2) / size**0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -torch.inf)
        parts.append(scores.softmax(-1) @ v[..., part])
    expected = matcher.attention.out_proj(torch.cat(parts, -1))
    torch.testing.assert_close(matcher(queries, keys, mask, normalize=False), expected)
    torch.testing.assert_close(matcher(queries, keys, mask), F.normalize(expected, dim=-1))


def test_learned_matcher_s_heads_are_named():
    with pytest.raises(ValueError, match="embed_dim 6 must be a multiple of num_heads 4"):
        AttentionMatcher(6, 4)


def slow_weights(attention: np.ndarray, quantile: float) -> np.ndarray:
    weights = np.zeros_like(attention)
    for row, out in zip(attention, weights, strict=True):
        positive = row > 0
        if positive.any():
            low, high = np.quantile(row[positive], [quantile, 1 - quantile])
            out[positive] = row[positive].clip(low, high)
            out /= out.sum()
    return weights


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("length", [1, 2, 11, 49])
def test_weights_equal_numpy_quantiles(length, quantile):
    generator = np.random.default_rng(length)
    attention = generator.exponential(size=(30, length)) * (generator.random((30, length)) < 0.7)
    attention[0], attention[1] = 0, 0.25
    found = attention_to_weights(torch.from_numpy(attention), quantile)
    np.testing.assert_allclose(found.numpy(), slow_weights(attention, quantile), rtol=1e-12, atol=1e-15)
    assert (found[0] == 0).all()
    torch.testing.assert_close(found[1], torch.full((length,), 1 / length, dtype=torch.float64))


def test_weights_of_edge_rows():
    rows = torch.tensor(
        [
            [0.0, 0.0, 0.0, 0.0],  # none
            [0.0, 0.3, 0.0, 0.0],  # one
            [0.0, 0.2, 0.2, 0.0],  # two alike
            [1e-30, 0.0, 0.0, 0.0],  # one, tiny
            [-0.5, 0.3, -0.1, 0.3],  # what is not positive does not count
        ]
    )
    expected = torch.tensor(
        [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0.5, 0.5, 0], [1, 0, 0, 0], [0, 0.5, 0, 0.5]], dtype=torch.float32
    )
    torch.testing.assert_close(attention_to_weights(rows), expected)


def test_weights_are_of_the_row_alone():
    attention = torch.rand(5, 9)
    together = attention_to_weights(attention)
    for i in range(5):
        torch.testing.assert_close(attention_to_weights(attention[i : i + 1])[0], together[i])
    padded = attention_to_weights(F.pad(attention, (0, 6)))
    torch.testing.assert_close(padded, F.pad(together, (0, 6)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_are_float32_at_least_without_gradient(dtype):
    attention = torch.rand(5, 9).to(dtype).requires_grad_()
    weights = attention_to_weights(attention)
    assert weights.dtype == torch.float32
    assert not weights.requires_grad
    torch.testing.assert_close(weights.sum(1), torch.ones(5))


@pytest.mark.parametrize("quantile", [-0.1, 0.6])
def test_quantile_is_named(quantile):
    with pytest.raises(ValueError, match=r"^quantile must"):
        attention_to_weights(torch.rand(2, 3), quantile)


def test_shape_is_named():
    with pytest.raises(ValueError, match=r"^attention must"):
        attention_to_weights(torch.rand(2, 3, 4))
