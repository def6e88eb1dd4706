# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The groups of a tower: a transformer's blocks or a network's stages, found by their numbered names."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

from torch import nn

__all__ = ["TowerGroup", "find_groups", "tower_body"]

_NUMBERED = re.compile(r"(\D*)(\d+)")


class TowerGroup(NamedTuple):
    """A part of a tower, in the order in which it is run.

    Attributes:
        name: of the block or stage; "stem" for what comes before the first.
        parameters: their names in the tower's body.
        modules: all of the group's, by their names in the body.
    """

    name: str
    parameters: list[str]
    modules: list[str]


def tower_body(encoder: nn.Module) -> nn.Module:
    """The network within an encoder, by whose own names its library knows the parameters.

    Args:
        encoder: an image encoder, whose ``backbone`` it is, or a report encoder, whose ``model``; else itself.
    """
    parts = (getattr(encoder, name, None) for name in ("backbone", "model"))
    return next((part for part in parts if isinstance(part, nn.Module)), encoder)


def find_groups(encoder: nn.Module) -> list[TowerGroup]:
    """The stem, and then the blocks or stages: all parameters of a tower, each in one group.

    Blocks and stages are the numbered parts with the most parameters: "blocks.0" to "blocks.11", "layer1" to "layer4",
    "encoder.layer.0" and so on. What a network defines between two of them goes with the first, and what it defines
    behind the last, as a final norm, with the last.

    Args:
        encoder: of any library.

    Raises:
        ValueError: when no part of the tower is numbered.

    Example::

        from monai_mgca.networks import create_image_encoder
        print([group.name for group in find_groups(create_image_encoder("resnet_compact"))])
        # ['stem', 'layer1', 'layer2', 'layer3', 'layer4']
    """
    body = tower_body(encoder)
    members = _members(body)
    if not members:
        raise ValueError(
            f"{type(body).__name__} has no blocks or stages with numbered names ('blocks.0' or 'layer1'), so that none "
            "can be locked or learn slower than others: take an encoder of the bundle, timm, transformers or MONAI, or "
            "hold the blocks of your own in a torch.nn.ModuleList."
        )
    made = [TowerGroup("stem", [], []), *(TowerGroup(name, [], []) for name in members)]
    for name, _ in body.named_parameters():
        made[_place(name, members, [group.parameters for group in made])].parameters.append(name)
    for name, module in body.named_modules():
        # what holds the members is of no group
        if next(module.children(), None) is None or any(_within(name, member) for member in members):
            made[_place(name, members, [group.modules for group in made])].modules.append(name)
    return made


def _members(body: nn.Module) -> list[str]:
    """The names of the blocks or stages, in their order; none where nothing is numbered."""
    families: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    for above, parent in body.named_modules():
        for name, child in parent.named_children():
            if (match := _NUMBERED.fullmatch(name)) is None:
                continue
            family, path = (above, match[1]), f"{above}.{name}" if above else name
            families[family].append((int(match[2]), path))
            sizes[family] += sum(parameter.numel() for parameter in child.parameters())
    # a sequence of one is a wrapper, a list of one a network of one block
    several = [
        family
        for family, found in families.items()
        if len(found) > 1 or isinstance(body.get_submodule(family[0]), nn.ModuleList)
    ]
    largest = max(several, key=sizes.__getitem__, default=None)
    return [path for _, path in sorted(families[largest])] if largest is not None and sizes[largest] else []


def _within(name: str, member: str) -> bool:
    return name == member or name.startswith(f"{member}.")


def _place(name: str, members: list[str], filled: list[list[str]]) -> int:
    """The group of a name: that of its member, else the last one that anything was put in before."""
    own = next((place for place, member in enumerate(members, 1) if _within(name, member)), None)
    if own is not None:
        return own
    return max((place for place, group in enumerate(filled) if group), default=0)
