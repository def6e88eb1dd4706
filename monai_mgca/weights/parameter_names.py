# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The names of parameters in other libraries, and their names here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from monai_mgca.utils.errors import CheckpointError

__all__ = [
    "FIRST_KERNELS",
    "TIMM_VIT",
    "architecture_of",
    "fit_cls_position",
    "fold_channels",
    "rename",
    "vit_from_timm",
]

# The weights that read the image, by our names; the others do not depend on the number of its channels.
FIRST_KERNELS = ("conv1.weight", "patch_embedding.patch_embeddings.weight")
# Parts of timm's names of a ViT's tensors and MONAI's; a ResNet bears torchvision's names in MONAI too.
TIMM_VIT = (
    ("patch_embed.proj.", "patch_embedding.patch_embeddings."),
    ("pos_embed", "patch_embedding.position_embeddings"),
    (".attn.proj.", ".attn.out_proj."),
    (".mlp.fc1.", ".mlp.linear1."),
    (".mlp.fc2.", ".mlp.linear2."),
)


def rename(key: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Replace every first member of ``pairs`` in ``key`` by the second."""
    for old, new in pairs:
        key = key.replace(old, new)
    return key


def architecture_of(names: Iterable[str]) -> str | None:
    """ "vit" or "resnet" by the names of an encoder's tensors, None for anything else."""
    names = set(names)
    if any(name.startswith(("patch_embedding.", "patch_embed.", "blocks.")) for name in names):
        return "vit"
    return "resnet" if "conv1.weight" in names and any(name.startswith("layer1.") for name in names) else None


def vit_from_timm(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict of timm's ViT by MONAI's names, and "cls_position", which MONAI has not.

    Raises:
        CheckpointError: when ``cls_token`` or ``pos_embed`` is missing.
    """
    missing = [key for key in ("cls_token", "pos_embed") if key not in state]
    if missing:
        raise CheckpointError(f"The vision transformer lacks {missing}: it is not one of timm with a [CLS] token.")
    renamed = {rename(key, TIMM_VIT): value for key, value in state.items()}
    position = state["pos_embed"]
    renamed["cls_position"] = position[:, :1]
    renamed["patch_embedding.position_embeddings"] = position[:, 1:]
    return renamed


def fit_cls_position(state: Mapping[str, torch.Tensor], wanted: Iterable[str]) -> dict[str, torch.Tensor]:
    """A ViT's [CLS] as a network holds it: with its position apart, or in one token that is their sum.

    Either gives the same features. What a checkpoint holds in one goes to the token, and the position starts at 0.

    Args:
        state: of any network with a ViT of MONAI's names in it, or with none.
        wanted: the names of the network that takes it.
    """
    fitted, wanted = dict(state), set(wanted)
    for token in [key for key in fitted if key.endswith("cls_token")]:
        position = token.removesuffix("cls_token") + "cls_position"
        if position in fitted and position not in wanted:
            fitted[token] = fitted[token] + fitted.pop(position)
        elif position in wanted and position not in fitted:
            fitted[position] = torch.zeros_like(fitted[token])
    return fitted


def fold_channels(kernel: torch.Tensor) -> torch.Tensor:
    """Sum a kernel over its input channels: applied to one channel it gives what equal channels gave before.

    Args:
        kernel: (out, in, ...).

    Returns:
        (out, 1, ...).
    """
    return kernel.sum(dim=1, keepdim=True)
