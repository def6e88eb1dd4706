# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The alignment losses, with matching and token weights, forward and backward, beside the plain way of plain.py.

python benchmarks/losses.py                      # a ViT's tokens: 196
python benchmarks/losses.py --patches 361        # a ResNet's
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from harness import alternate, differences, peak_memory, print_table
from plain import plain_alignment
from torch.nn.functional import normalize

from monai_mgca.losses import MGCALoss
from monai_mgca.networks import attention_to_weights, soft_match
from monai_mgca.utils import MGCAKeys as Keys

LEAVES = ("image", "report", "patches", "words", "prototypes")


def make_inputs(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Unit vectors; reports have between a fifth and all of the words."""
    generator = torch.Generator().manual_seed(args.seed)
    batch, dim = args.batch, args.dim
    shapes = ((batch, dim), (batch, dim), (batch, args.patches, dim), (batch, args.words, dim), (args.prototypes, dim))
    inputs = {
        name: normalize(torch.randn(*shape, generator=generator), dim=-1)
        for name, shape in zip(LEAVES, shapes, strict=True)
    }
    lengths = torch.randint(max(1, args.words // 5), args.words + 1, (batch,), generator=generator)
    inputs["mask"] = torch.arange(args.words) < lengths[:, None]
    inputs["words"] = inputs["words"] * inputs["mask"][:, :, None]
    inputs["word_attention"] = torch.rand(batch, args.words, generator=generator) * inputs["mask"]
    inputs["patch_attention"] = torch.rand(batch, args.patches, generator=generator)
    return {name: value.to(args.device) for name, value in inputs.items()}


def alignment(inputs: dict[str, torch.Tensor], loss: MGCALoss, contexts: bool) -> torch.Tensor:
    """As :class:`monai_mgca.networks.MGCA` and its loss do it, with contexts or (its bundle) without."""
    words, patches, mask = inputs["words"], inputs["patches"], inputs["mask"]
    matched = {}
    if contexts:
        matched[Keys.WORD_CONTEXT] = soft_match(words, patches)
        matched[Keys.IMAGE_CONTEXT] = soft_match(patches, words, key_mask=mask)
    return loss(
        {
            **matched,
            Keys.IMAGE_EMBEDDING: inputs["image"],
            Keys.REPORT_EMBEDDING: inputs["report"],
            Keys.IMAGE_TOKENS: patches,
            Keys.WORD_TOKENS: words,
            Keys.WORD_MASK: mask,
            Keys.WORD_WEIGHTS: attention_to_weights(inputs["word_attention"]),
            Keys.IMAGE_WEIGHTS: attention_to_weights(inputs["patch_attention"]),
            Keys.IMAGE_SCORES: inputs["image"] @ inputs["prototypes"].T,
            Keys.REPORT_SCORES: inputs["report"] @ inputs["prototypes"].T,
        }
    )


def make_ways(args: argparse.Namespace) -> tuple[dict[str, Callable[[], None]], dict[str, list[torch.Tensor]]]:
    """The steps by name, and where they put the loss and its gradients."""
    inputs, loss = make_inputs(args), MGCALoss()
    leaves = [inputs[name].requires_grad_() for name in LEAVES]
    values: dict[str, list[torch.Tensor]] = {}

    def step(name: str, compute: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            values.pop(name, None)
            value = compute()
            values[name] = [value.detach(), *torch.autograd.grad(value, leaves)]

        return run

    ways = {
        "plain": lambda: plain_alignment(inputs),
        "in steps": lambda: alignment(inputs, loss, contexts=True),
        "monai_mgca": lambda: alignment(inputs, loss, contexts=False),
    }
    return {name: step(name, compute) for name, compute in ways.items()}, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {
        "batch": 64,
        "patches": 196,
        "words": 111,
        "dim": 128,
        "prototypes": 500,
        "threads": 1,
        "repeats": 9,
        "seed": 0,
    }
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="(default: %(default)s)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument(
        "--memory-batch", type=int, default=16, help="for the memory, whose record is long (default: 16)"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ways, values = make_ways(args)
    seconds = alternate(ways, args.device, args.repeats, slow_repeats=3)
    small, _ = make_ways(argparse.Namespace(**{**vars(args), "batch": args.memory_batch}))
    memory = {name: peak_memory(way, args.device) for name, way in small.items()}
    sizes = f"batch {args.batch}, {args.patches} image tokens, {args.words} words, D {args.dim}, K {args.prototypes}"
    print(f"{sizes}, {args.threads} thread(s); memory at batch {args.memory_batch}")
    print_table(seconds, memory)
    labels = ("value", *(f"gradient of {name}" for name in LEAVES))
    for label, difference in zip(labels, differences(values["plain"], values["monai_mgca"]), strict=True):
        print(f"greatest difference to plain, {label}: {difference:.1e}")


if __name__ == "__main__":
    main()
