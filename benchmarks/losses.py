# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The alignment losses, with matching and token weights, forward and backward, at the lengths of real reports.

"official" is the official code's operations written plainly (vectorized.py), "vectorized" the same with the paper's
values, which are ours; "in steps" is ``soft_match`` and ``TokenAlignmentLoss``, "monai_mgca" what the bundle does,
"tokens" the token term of it, and "products" the matrix products alone that this term is made of.

python benchmarks/losses.py                            # a ViT's tokens, and a ResNet's without the resize below: 196
python benchmarks/losses.py --patches 361              # the official ResNet-50's, 19 x 19: it sees the 224 pixels of an
                                                       # image resized to 299 (official_resize, "resnet50_official")
python benchmarks/losses.py --shortest 22 --longest 111  # longer reports
python benchmarks/losses.py --unread                   # masks are not read, as on a GPU: slots behind the longest
                                                       # report are cut by the lengths of the host, or are not
python benchmarks/losses.py --loop                     # one token at a time too, as nobody trains
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from harness import alternate, differences, peak_memory, print_table
from plain import plain_alignment
from torch.nn.functional import normalize
from vectorized import own_products, vectorized_alignment

from monai_mgca.losses import MatchedTokenLoss, MGCALoss
from monai_mgca.networks import attention_to_weights, soft_match
from monai_mgca.networks.word_pooling import STEP
from monai_mgca.utils import MGCAKeys as Keys
from monai_mgca.utils import chunks

MEASURED = ("official", "vectorized", "in steps", "monai_mgca")  # whose memory is reported
LEAVES = ("image", "report", "patches", "words", "prototypes")


def make_inputs(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Unit vectors; reports have between ``shortest`` and ``longest`` words."""
    generator = torch.Generator().manual_seed(args.seed)
    batch, dim = args.batch, args.dim
    shapes = ((batch, dim), (batch, dim), (batch, args.patches, dim), (batch, args.words, dim), (args.prototypes, dim))
    inputs = {
        name: normalize(torch.randn(*shape, generator=generator), dim=-1)
        for name, shape in zip(LEAVES, shapes, strict=True)
    }
    lengths = torch.randint(args.shortest, args.longest + 1, (batch,), generator=generator)
    inputs["mask"] = torch.arange(args.words) < lengths[:, None]
    inputs["words"] = inputs["words"] * inputs["mask"][:, :, None]
    inputs["word_attention"] = torch.rand(batch, args.words, generator=generator) * inputs["mask"]
    inputs["patch_attention"] = torch.rand(batch, args.patches, generator=generator)
    return {name: value.to(args.device) for name, value in inputs.items()}


def alignment(
    inputs: dict[str, torch.Tensor], loss: MGCALoss, contexts: bool, slots: int | None = None
) -> torch.Tensor:
    """As :class:`monai_mgca.networks.MGCA` and its loss do it, with contexts or (its bundle) without."""
    patches = inputs["patches"]
    words, mask, attention = (inputs[key][:, :slots] for key in ("words", "mask", "word_attention"))
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
            Keys.WORD_WEIGHTS: attention_to_weights(attention),
            Keys.IMAGE_WEIGHTS: attention_to_weights(inputs["patch_attention"]),
            Keys.IMAGE_SCORES: inputs["image"] @ inputs["prototypes"].T,
            Keys.REPORT_SCORES: inputs["report"] @ inputs["prototypes"].T,
        }
    )


def token_term(inputs: dict[str, torch.Tensor], loss: MatchedTokenLoss) -> torch.Tensor:
    """The token-wise alignment alone."""
    weights = (attention_to_weights(inputs[key]) for key in ("word_attention", "patch_attention"))
    value: torch.Tensor = loss(inputs["words"], inputs["patches"], *weights, inputs["mask"])
    return value


def make_ways(args: argparse.Namespace) -> tuple[dict[str, Callable[[], None]], dict[str, list[torch.Tensor]]]:
    """The steps by name, and where they put the loss and its gradients."""
    inputs, loss, matched = make_inputs(args), MGCALoss(), MatchedTokenLoss()
    leaves = [inputs[name].requires_grad_() for name in LEAVES]
    values: dict[str, list[torch.Tensor]] = {}

    def step(name: str, compute: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            values.pop(name, None)
            value = compute()
            values[name] = [value.detach(), *torch.autograd.grad(value, leaves, materialize_grads=True)]

        return run

    ways = {
        "official": lambda: vectorized_alignment(inputs, official=True),
        "vectorized": lambda: vectorized_alignment(inputs, official=False),
        "in steps": lambda: alignment(inputs, loss, contexts=True),
        "monai_mgca": lambda: alignment(inputs, loss, contexts=False),
    }
    if args.unread:
        slots = min(args.words, -(-args.longest // STEP) * STEP)
        ways["cut"] = lambda: alignment(inputs, loss, contexts=False, slots=slots)
    steps = {name: step(name, compute) for name, compute in ways.items()}
    words_and_patches = [inputs["words"], inputs["patches"]]
    steps["tokens"] = lambda: torch.autograd.grad(token_term(inputs, matched), words_and_patches)
    steps["products"] = own_products(inputs)
    if args.loop:  # first, for it is the slow one
        steps = {"loop": step("loop", lambda: plain_alignment(inputs)), **steps}
    return steps, values


def print_ratios(seconds: dict[str, float], memory: dict[str, float]) -> None:
    """What counts first."""
    ours = seconds["monai_mgca"]
    print(f"{seconds['official'] / ours:.2f} times as fast as the official code's operations written plainly")
    print(f"{seconds['vectorized'] / ours:.2f} times as fast as the vectorized way to the same values")
    print(f"the token term takes {seconds['tokens'] / seconds['products']:.2f} times its matrix products alone")
    print(f"{memory['monai_mgca'] / memory['official']:.2f} of the official operations' memory")
    if "cut" in seconds:
        print(f"with the slots cut {seconds['official'] / seconds['cut']:.2f} times as fast as the official operations")
    if "loop" in seconds:
        print(f"({seconds['loop'] / ours:.0f} times as fast as one token at a time: a straw man, as nobody trains)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"batch": 64, "patches": 196, "words": 111, "shortest": 36, "longest": 49, "dim": 128, "prototypes": 500}
    for name, value in {**sizes, "threads": 1, "repeats": 9, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="(default: %(default)s)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--loop", action="store_true", help="measure one token at a time too: about a minute more")
    parser.add_argument("--unread", action="store_true", help="read no masks, and cut the slots by the host's lengths")
    args = parser.parse_args()
    if args.unread:
        chunks.READ_AT_ONCE = ()
    torch.set_num_threads(args.threads)
    ways, values = make_ways(args)
    seconds = alternate(ways, args.device, args.repeats, slow_repeats=3 if args.loop else None)
    memory = {name: peak_memory(ways[name], args.device) for name in MEASURED}
    reports = f"reports of {args.shortest} to {args.longest} words in {args.words} slots"
    sizes = f"{args.patches} image tokens, D {args.dim}, K {args.prototypes}"
    print(f"batch {args.batch}, {reports}, {sizes}, {args.threads} thread(s)")
    print_ratios(seconds, memory)
    print_table(seconds, memory)
    labels = ("value", *(f"gradient of {name}" for name in LEAVES))
    for label, difference in zip(labels, differences(values["vectorized"], values["monai_mgca"]), strict=True):
        print(f"greatest difference to vectorized, {label}: {difference:.1e}")


if __name__ == "__main__":
    main()
