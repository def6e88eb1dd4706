# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The preprocessing that a network was trained with: described, kept, compared, restored."""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, cast

import monai.transforms
import numpy as np
import torch
from monai.transforms import Compose, MapTransform, Randomizable, ScaleIntensityRanged, SelectItemsd
from monai.utils import CommonKeys

import monai_mgca.transforms
from monai_mgca.options.config_expressions import component_config, config_resolver
from monai_mgca.transforms.by_planes import ByPlanes
from monai_mgca.utils import CheckpointError

__all__ = ["compare_preprocessing", "describe_preprocessing", "restore_preprocessing", "trained_preprocessing"]

logger = logging.getLogger(__name__)

IMAGE, TARGET, KEYS, DTYPE, REFUSED = CommonKeys.IMAGE, "_target_", "keys", "_dtype_", "refused"
# settings may come from strangers: only transforms that read nothing but the image, write nothing, and call no code
# by its name may be made of them
MODULES = tuple(f"monai.transforms.{part}.dictionary" for part in ("croppad", "intensity", "spatial"))
PLAIN = ("CastToTyped", "EnsureChannelFirstd", "EnsureTyped", "RepeatChanneld", "SqueezeDimd", "Transposed")
OWN = ("AreaSpacingd", "LoadRadiographd", "LoadVolumed", "RememberAffined")
MEND = (
    "Write it into the config as a dictionary with _target_, of a dictionary transform of monai.transforms that is not "
    "random (LoadRadiographd and others of monai_mgca.transforms too), and with plain arguments."
)


def describe_preprocessing(transforms: Any, key: str = IMAGE) -> list[dict[str, Any]] | dict[str, str]:
    """What was done to an image, to be written beside the weights: an expression of a training's config.

    Steps for other keys, as for reports and labels, are left out.

    Args:
        transforms: of the validation; each made by a ``_target_`` of the config.
        key: of the images.

    Returns:
        Each step's ``_target_`` and arguments, all plain; or under "refused" why they cannot travel. Then the log
        warns, and :func:`restore_preprocessing` refuses.

    In a config: ``"preprocessing": "$monai_mgca.transforms.describe_preprocessing(@validate#preprocessing)"``.
    """
    resolver = config_resolver()
    steps = Compose(transforms).flatten().transforms
    try:
        return [_describe(step, component_config(step, resolver), key) for step in steps if _concerns(step, key)]
    except ValueError as error:
        logger.warning(
            f"The images' preprocessing cannot travel with the weights: {error} All that uses these weights "
            f"(inference, evaluation, retrieve, ground, report, probe, the server) will refuse them. {MEND}"
        )
        return {REFUSED: str(error)}


def _concerns(step: Any, key: str) -> bool:
    """Whether a step may change the image."""
    if isinstance(step, SelectItemsd):
        return False
    made = {name for label in ("names", "name") for name in _as_tuple(getattr(step, label, ()))}
    return not isinstance(step, MapTransform) or key in step.keys or key in made


def _as_tuple(value: Any) -> tuple:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _describe(step: Any, config: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    kind = type(step)
    target = f"{kind.__module__.partition('.')[0]}.transforms.{kind.__name__}"
    if config is None:
        raise ValueError(f"{kind.__name__} was made by an expression, not by a _target_.")
    if isinstance(step, Randomizable):
        raise ValueError(f"{kind.__name__} is random.")
    if target not in _allowed() or _allowed()[target] is not kind:
        raise ValueError(f"{kind.__module__}.{kind.__name__} is not of those that may be made of a file's settings.")
    described = {TARGET: target, **{name: _encode(value, name, kind) for name, value in config.items()}}
    if len(step.keys) > 1:  # the mask or box of an image goes its own way, where there is one
        place = step.keys.index(key)
        described = {name: _of_one_key(value, place, len(step.keys)) for name, value in described.items()}
    return described | {KEYS: key}


def _of_one_key(value: Any, place: int, count: int) -> Any:
    """An argument that has a mode, a type or alike for each key; numbers are those of the axes."""
    if isinstance(value, list) and len(value) == count and not any(type(item) in (int, float) for item in value):
        return value[place]
    return value


@functools.cache
def _allowed() -> dict[str, type]:
    found = {f"monai_mgca.transforms.{name}": getattr(monai_mgca.transforms, name) for name in OWN}
    for name, kind in vars(monai.transforms).items():
        is_own_name = inspect.isclass(kind) and kind.__name__ == name and issubclass(kind, MapTransform)
        if is_own_name and (kind.__module__ in MODULES or name in PLAIN) and not issubclass(kind, Randomizable):
            found[f"monai.transforms.{name}"] = kind
    return found


def _encode(value: Any, name: str, kind: type) -> Any:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"the argument {name} of {kind.__name__} is {value}.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.dtype):
        return {DTYPE: str(value)}
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return {DTYPE: f"numpy.{np.dtype(value).name}"}
    if isinstance(value, list | tuple):
        return [_encode(item, name, kind) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _encode(item, name, kind) for key, item in value.items()}
    raise ValueError(f"the argument {name} of {kind.__name__} is a {type(value).__name__}, no plain value.")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if isinstance(value, Mapping) and value.keys() == {DTYPE}:
        return _dtype(value[DTYPE])
    return {key: _decode(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _dtype(name: Any) -> Any:
    package, _, kind = str(name).partition(".")
    found = getattr(torch, kind, None) if package == "torch" else None
    if package == "numpy":
        try:
            found = np.dtype(kind)
        except TypeError:
            found = None
    if not isinstance(found, torch.dtype | np.dtype):
        raise ValueError(f"{name!r} is no type of numbers")
    return found


def compare_preprocessing(pretrained: Mapping[str, Any], described: Any) -> None:
    """Warn where a finetuning gives its encoder other values of pixels than it was pretrained on.

    Sizes and crops are each task's own.

    Args:
        pretrained: settings of the encoder's weights; nothing is compared where they contain no preprocessing.
        described: what :func:`describe_preprocessing` says of the finetuning.

    In a config: ``"$monai_mgca.transforms.compare_preprocessing(@pretrained, @model_settings#preprocessing)"``.
    """
    before = pretrained.get("preprocessing")
    if before is None or REFUSED in described:
        return
    was, now = _steps_of_values(before), _steps_of_values(described)
    if was != now:
        logger.warning(
            f"The encoder was pretrained on images of other values: {was}; here: {now}. Lay the same steps over "
            "this config (train#deterministic_transforms, train#final_transforms), or the encoder sees what it does "
            "not know."
        )


def _steps_of_values(described: Any) -> str:
    if REFUSED in described:
        return f"what could not travel with the weights ({described[REFUSED]})"
    steps = []
    for step in described:
        kind = _allowed().get(step[TARGET])
        if kind is not None and (kind.__module__ == MODULES[1] or kind.__name__.startswith("Load")):
            arguments = ", ".join(f"{name} {value}" for name, value in step.items() if name not in (TARGET, KEYS))
            steps.append(f"{kind.__name__}({arguments})")
    return ", ".join(steps)


def restore_preprocessing(settings: Mapping[str, Any]) -> list[MapTransform] | None:
    """The transforms that the validation of a training put an image through, from the settings of its weights.

    Args:
        settings: of :func:`monai_mgca.weights.read_model_settings`. They may come from anyone: only transforms of MONAI
            and of this package that change the image's pixels are made of them, and nothing in them is evaluated.

    Returns:
        Them in their order, for a dictionary with "image"; None for weights of a version that did not write them, which
        were trained with the preprocessing of the configs.

    Raises:
        CheckpointError: when they could not travel, or are none of these transforms.

    Example::

        settings = {"preprocessing": [{"_target_": "monai.transforms.ScaleIntensityd", "keys": "image"}]}
        print(len(restore_preprocessing(settings)))  # 1
    """
    described = settings.get("preprocessing")
    if described is None:
        return None
    if isinstance(described, Mapping) and REFUSED in described:
        raise CheckpointError(
            f"These weights were trained on images whose preprocessing could not travel with them: "
            f"{described[REFUSED]} {MEND} Then train again."
        )
    if not isinstance(described, Sequence) or isinstance(described, str) or not described:
        raise CheckpointError("preprocessing in the settings of the weights must be a list of transforms.")
    return [_restore(step, place) for place, step in enumerate(described)]


def _restore(step: Any, place: int) -> MapTransform:
    name = step.get(TARGET) if isinstance(step, Mapping) else None
    kind = _allowed().get(name) if isinstance(name, str) else None
    if kind is None:
        raise CheckpointError(
            f"preprocessing in the settings of the weights: step {place} names {name!r}, which is no transform "
            "that may be made of settings. Take the file of the training again."
        )
    arguments = {key: value for key, value in step.items() if key != TARGET}
    try:
        made: MapTransform = kind(**_decode(arguments))
    except Exception as error:  # the arguments of any transform, from anyone
        raise CheckpointError(
            f"preprocessing in the settings of the weights: step {place}, {name}, cannot be made of its arguments "
            f"({type(error).__name__}: {error})."
        ) from error
    if isinstance(made, ScaleIntensityRanged):
        made.scaler = cast(Any, ByPlanes(made.scaler))  # with which it is the same transform, of the same name
    return made


def trained_preprocessing(settings: Mapping[str, Any], default: Sequence[Any]) -> list[Any]:
    """What an evaluation does to an item: to the image what the training's validation did, to all else its own.

    Args:
        settings: of the weights.
        default: the evaluation's own steps. Those that concern the image are taken only where the settings have none.

    Raises:
        CheckpointError: as :func:`restore_preprocessing`.

    Example::

        from monai.transforms import ScaleIntensityd

        print(trained_preprocessing({}, [ScaleIntensityd("image")]))
    """
    restored = restore_preprocessing(settings)
    return list(default) if restored is None else [*restored, *(s for s in default if not _concerns(s, IMAGE))]
