# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""What a training step costs beyond its two encoders: forward and backward of all, and of the encoders alone.

"encoders" runs both encoders forward, and backward from gradients of the shapes that heads and losses give them.
"beyond" is all the rest, forward and backward from what the encoders gave: heads, words, weights, matching, losses.
"beyond, instance" is that with the instance term alone. "step" and "step, instance" are the whole steps. The optimizer
is not part of it. The difference of two long times is blurred by some percent: the parts measured by
themselves are to be trusted, and the differences are printed behind them.

    python benchmarks/step.py                        # ViT-B/16 and BERT-base at batch 8: minutes on a CPU
    python benchmarks/step.py --image-encoder resnet50 --batch 16 --bf16
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from harness import alternate

from monai_mgca.losses import MGCALoss
from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder
from monai_mgca.networks.image_encoder import ImageFeatures


def make_network(args: argparse.Namespace) -> MGCA:
    """As the paper's, with random weights: a gray image as one channel."""
    torch.manual_seed(args.seed)
    image = create_image_encoder(args.image_encoder, args.image_size, in_channels=1, spatial_dims=args.spatial_dims)
    sizes = {"hidden_size": args.hidden, "num_hidden_layers": args.layers, "intermediate_size": 4 * args.hidden}
    report = ReportEncoder({"vocab_size": 28996, "num_attention_heads": max(1, args.hidden // 64), **sizes})
    return MGCA(image, report, return_contexts=False).to(args.device).train()


def make_batch(args: argparse.Namespace) -> tuple[torch.Tensor, ...]:
    """Images, and reports of between a fifth and all of the tokens."""
    generator = torch.Generator().manual_seed(args.seed)
    image = torch.rand(args.batch, 1, *[args.image_size] * args.spatial_dims, generator=generator) * 2 - 1
    lengths = torch.randint(args.length // 5, args.length + 1, (args.batch,), generator=generator)
    place = torch.arange(args.length)
    mask = (place < lengths[:, None]).long()
    ids = torch.randint(1000, 20000, (args.batch, args.length), generator=generator) * mask
    words = torch.where((place > 0) & (place < lengths[:, None] - 1), place - 1, -1)
    batch = (image, ids, mask, words)
    return tuple(value.to(args.device) for value in batch)


def encoders_alone(network: MGCA, batch: tuple[torch.Tensor, ...]) -> Callable[[], None]:
    """Both encoders forward and backward, nothing else."""

    def run() -> None:
        features = network.image_encoder(batch[0])
        states, _ = network.report_encoder(batch[1], batch[2])
        outputs = [features.pooled, features.tokens, states]
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
        network.zero_grad()

    return run


class Given(torch.nn.Module):
    """Stands for an image encoder, and gives what it gave before."""

    def __init__(self, features: ImageFeatures) -> None:
        super().__init__()
        self.pooled, self.tokens, self.attention = features

    def forward(self, image: torch.Tensor) -> ImageFeatures:
        return ImageFeatures(self.pooled, self.tokens, self.attention)


def beyond_encoders(network: MGCA, batch: tuple[torch.Tensor, ...], loss: MGCALoss) -> Callable[[], None]:
    """The step from what the encoders gave, with gradients back to there."""
    with torch.no_grad():
        features = network.image_encoder(batch[0])
        states, attention = network.report_encoder(batch[1], batch[2])
    given = [x.clone().requires_grad_() for x in (features.pooled, features.tokens, states)]
    encoder, stand_in = network.image_encoder, Given(ImageFeatures(given[0], given[1], features.attention))

    def run() -> None:
        network.image_encoder = stand_in
        loss(network(*batch, report_states=given[2], report_attention=attention)).backward()
        network.image_encoder = encoder
        network.zero_grad()
        for tensor in given:
            tensor.grad = None

    return run


def whole(network: MGCA, batch: tuple[torch.Tensor, ...], loss: MGCALoss) -> Callable[[], None]:
    """The network and its loss, forward and backward."""

    def run() -> None:
        loss(network(*batch)).backward()
        network.zero_grad()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-encoder", default="vit_base")
    sizes = {"batch": 8, "image-size": 224, "spatial-dims": 2, "hidden": 768, "layers": 12, "length": 112}
    for name, value in {**sizes, "threads": 1, "repeats": 5, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="(default: %(default)s)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    network, batch = make_network(args), make_batch(args)
    every, instance = MGCALoss(), MGCALoss((1, 0, 0))
    ways = {
        "encoders": encoders_alone(network, batch),
        "beyond": beyond_encoders(network, batch, every),
        "beyond, instance": beyond_encoders(network, batch, instance),
        "step": whole(network, batch, every),
        "step, instance": whole(network, batch, instance),
    }
    with torch.autocast(args.device.type, torch.bfloat16, enabled=args.bf16):
        seconds = alternate(ways, args.device, args.repeats)
    towers = f"{args.image_encoder} at {args.image_size}, BERT of {args.layers} layers"
    print(f"{towers}, batch {args.batch}, {args.threads} thread(s)")
    for name, value in seconds.items():
        print(f"{name:18s}{value * 1000:10.0f} ms")
    encoders, beyond, beyond_instance, step, step_instance = seconds.values()
    share, difference = beyond / (encoders + beyond), 1 - encoders / step
    print(f"beyond the encoders: {100 * share:.1f} % of the step ({100 * difference:.1f} % by difference)")
    more, difference = (beyond - beyond_instance) / (encoders + beyond_instance), step / step_instance - 1
    print(f"more than with the instance term alone: {100 * more:.1f} % ({100 * difference:.1f} % by difference)")


if __name__ == "__main__":
    main()
