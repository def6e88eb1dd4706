# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""What an image encoder costs: weights, the time of a step forward and back, and memory, at one image size.

python benchmarks/encoders.py --encoder resnet50 vit_small timm:convnext_tiny timm:swin_tiny_patch4_window7_224
"""

from __future__ import annotations

import argparse

import torch
from harness import alternate, peak_memory

from monai_mgca.networks import create_image_encoder

ENCODERS = (
    *("resnet_compact", "resnet50", "vit_compact", "vit_small", "monai:DenseNet121"),
    *("timm:convnext_tiny", "timm:swin_tiny_patch4_window7_224", "timm:vit_small_patch14_reg4_dinov2"),
    *("timm:vit_small_patch16_dinov3", "timm:efficientnet_b0"),
)


def main() -> None:
    """Print a table with a row an encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", nargs="+", default=ENCODERS, metavar="NAME")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    print(f"Forward and backward of {args.batch} images of {args.image_size} pixels, float32, {args.device}.\n")
    print("| encoder | million weights | tokens | ms | times the first | MiB |\n|---|---|---|---|---|---|")
    first = None
    for name in args.encoder:
        encoder = create_image_encoder(name, image_size=args.image_size).to(args.device).train()
        image = torch.rand(args.batch, 1, args.image_size, args.image_size, device=args.device)

        def step(encoder: torch.nn.Module = encoder, image: torch.Tensor = image) -> None:
            features = encoder(image)
            (features.pooled.sum() + features.tokens.sum()).backward()

        seconds = alternate({"": step}, args.device, args.repeats)[""]
        memory = peak_memory(step, args.device)
        first = first or seconds
        weights = sum(value.numel() for value in encoder.parameters()) / 1e6
        tokens = encoder(image).tokens.shape[1]
        row = (name, f"{weights:.1f}", tokens, f"{1000 * seconds:,.0f}", f"{seconds / first:.2f}", f"{memory:,.0f}")
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
