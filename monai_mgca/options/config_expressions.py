# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What a config's expression can learn of the config that it stands in, beyond the values that it names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from monai.bundle import ConfigComponent, ReferenceResolver

from monai_mgca.utils.errors import CheckpointError

__all__ = ["component_config", "config_resolver", "plain_options", "refuse_bundle_load"]

LAST_OPTION = "device"


def config_resolver() -> ReferenceResolver:
    """MONAI's resolver that evaluates the expression in which this is called.

    MONAI hands values to expressions, never the config that they were made of; only the resolver has both.

    Raises:
        RuntimeError: when no config's expression is being evaluated.
    """
    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, ReferenceResolver):
            return owner
        frame = frame.f_back  # type: ignore[assignment]
    raise RuntimeError("This is for expressions in a config of MONAI's bundle, and was called elsewhere.")


def component_config(made: Any, resolver: ReferenceResolver) -> dict[str, Any] | None:
    """The config that an object was made of, with the values of its arguments.

    Args:
        made: by some ``_target_``.
        resolver: of the config.

    Returns:
        Its arguments by name; None when it was made in another way, as by an expression.
    """
    for name, item in resolver.items.items():
        if isinstance(item, ConfigComponent) and resolver.resolved_content.get(name) is made:
            return dict(item.resolve_args())
    return None


def refuse_bundle_load() -> None:
    """For the beginning of a training workflow: refuse :func:`monai.bundle.load`, which begins one to get its network.

    It would copy of ``model.pt`` what fits, and give a network whose other tensors, of the report's encoder and heads
    or of sizes that the weights do not have, are random.

    Raises:
        CheckpointError: when called within it.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "load" and frame.f_globals.get("__name__") == "monai.bundle.scripts":
            raise CheckpointError(
                "monai.bundle.load of a training workflow would give a network that is partly random. "
                "load(..., workflow_type='inference') gives the trained image encoder and projection, and "
                "monai_mgca.apps.load_pretrained('models/model_pretrain.pt') both trained encoders."
            )
        frame = frame.f_back  # type: ignore[assignment]


def plain_options() -> dict[str, Any]:
    """The options of the config that this is called in: its plain values up to "device" and those of overlays.

    In a config: ``"options": "$monai_mgca.options.plain_options()"``.

    Returns:
        Their values by name.
    """
    resolver = config_resolver()
    names = [name for name, item in resolver.items.items() if name and resolver.sep not in name and _is_scalar(item)]
    own = names[: names.index(LAST_OPTION)] if LAST_OPTION in names else []
    found = {name: resolver.get_resolved_content(name) for name in own}
    # the parts of a training may need this very expression, so that of the others only what is resolved by now is given
    found |= {name: resolver.resolved_content[name] for name in names if name in resolver.resolved_content}
    return {name: value for name, value in found.items() if _is_plain(value)}


def _is_scalar(item: Any) -> bool:
    return not isinstance(item, ConfigComponent) and isinstance(item.get_config(), str | int | float | None)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)
