# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The row of attention that is read from other libraries' networks is the one they give themselves."""

import pytest
import torch
import transformers

from monai_mgca.networks import LastAttention

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
KINDS = {
    "scaled_dot_product_attention": transformers.BertConfig(**SIZES, intermediate_size=64),
    "softmax": transformers.DebertaV2Config(
        **SIZES, intermediate_size=64, relative_attention=True, pos_att_type=["c2p", "p2c"]
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_row_of_the_last_layer(kind):
    """Also in training, where dropout comes after what is read."""
    network = transformers.AutoModel.from_config(KINDS[kind])
    ids, mask = torch.randint(3, 50, (2, 9)), torch.ones(2, 9, dtype=torch.int64)
    mask[1, 6:] = 0
    network.eval()
    with LastAttention() as seen:
        states = network(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(states, network(input_ids=ids, attention_mask=mask).last_hidden_state, rtol=0, atol=0)
    row = seen.first_row()
    if kind != "softmax":  # it has no other
        network.set_attn_implementation("eager")
    own = network(input_ids=ids, attention_mask=mask, output_attentions=True).attentions[-1]
    torch.testing.assert_close(row, own.mean(1)[:, 0], rtol=0, atol=1e-6)
    assert not row.requires_grad
    assert (row[1, 6:] == 0).all()
    network.train()
    with LastAttention() as seen:
        network(input_ids=ids, attention_mask=mask)
    torch.testing.assert_close(seen.first_row().sum(1), torch.ones(2))


def test_row_of_a_pooling_query():
    pool = torch.nn.MultiheadAttention(8, num_heads=2, batch_first=True)
    query, tokens = torch.rand(3, 1, 8), torch.rand(3, 5, 8)
    with LastAttention() as seen:
        _, weights = pool(query, tokens, tokens)
    torch.testing.assert_close(seen.first_row(), weights[:, 0], rtol=0, atol=0)


def test_nothing_seen():
    with LastAttention() as seen:
        torch.nn.Linear(2, 2)(torch.rand(1, 2))
    with pytest.raises(RuntimeError, match="No attention was computed"):
        seen.first_row()
