# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The values of a config's options: what each may be, and errors that name the option."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from monai_mgca.options.running_config import RunningConfig, is_quoted, running_config, typed_options
from monai_mgca.options.truth_values import switches
from monai_mgca.options.unknown_options import refuse_unknown
from monai_mgca.utils.errors import OptionError

__all__ = ["check_options", "option_value"]

NO_VALUE = ("none", "null", "")
TOWERS = ("image", "report")
# with what a value begins that MONAI works out
_SYNTAX = ("$", "@", "%")


class _WrongValueError(ValueError):
    """What an option must be, without its name."""


def _number(value: Any, low: float = -math.inf, high: float = math.inf, above: bool = False) -> float | int:
    """A number from ``low``, or above it, to ``high``."""
    must = f"a number {'above' if above else 'from'} {low:g}" if low > -math.inf else "a number"
    must += f" to {high:g}" if high < math.inf else ""
    try:
        number = float(value) if not isinstance(value, (bool, torch.Tensor)) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not (low < number if above else low <= number) or not number <= high or math.isinf(number):
        raise _WrongValueError(must)
    return value if isinstance(value, (int, float)) else number


def _whole(value: Any, low: int = 1) -> int:
    """A whole number from ``low`` on."""
    must = f"a whole number from {low} on"
    try:
        number = _number(value, low)
    except _WrongValueError:
        raise _WrongValueError(must) from None
    if number != int(number):
        raise _WrongValueError(must)
    return int(number)


def _sizes(value: Any) -> Any:
    """A number of pixels, or one for each axis."""
    if isinstance(value, (list, tuple)):
        return [_whole(size) for size in value]
    return _whole(value)


def _numbers(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_number(number, 0, above=True) for number in value]
    return _number(value, 0, above=True)


def _switch(value: Any) -> bool:
    try:
        made: bool = switches(value=value).value
    except ValueError:
        raise _WrongValueError("true or false") from None
    return made


def _text(value: Any) -> Any:
    """A name or path; what stands for several things, as settings in a dictionary, is left as it is."""
    if value is None or isinstance(value, (bool, tuple, list)):
        raise _WrongValueError("a text")
    return value if isinstance(value, Mapping) else os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _one_of(value: Any, names: Sequence[str]) -> str:
    text = str(value).lower()
    if text not in names:
        raise _WrongValueError(f"one of {', '.join(names)}")
    return text


def _names(value: Any) -> list[str]:
    """Names in a list, or separated by commas."""
    names = value.strip("[]()").split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, (str, int, float)) for name in names):
        raise _WrongValueError("names separated by commas")
    names = [str(name).strip().strip("'\"") if isinstance(value, str) else str(name) for name in names]
    if not all(names):
        raise _WrongValueError("names separated by commas")
    return names


def _towers(value: Any) -> str:
    """One tower or both, separated by commas."""
    names = [name.lower() for name in _names(value)]
    if not set(names) <= set(TOWERS) or len(set(names)) < len(names):
        raise _WrongValueError("image, report, or image,report")
    return ",".join(names)


def _device(value: Any) -> torch.device:
    try:
        return torch.device(value)
    except (RuntimeError, TypeError):
        raise _WrongValueError("a device of torch, such as cpu or cuda:0") from None


# what each top-level option of the configs is
_KINDS: dict[Callable[..., Any], str] = {
    _switch: """use_sample resume report_encoder_pretrained freeze_report_encoder cache_report_states augment
        bidirectional gather_distributed sync_batch_norm key_metric_negative_sign checkpointing compile amp
        channels_last freeze_encoder load_pretrain calibrated overlays lock_image lock_report export_ema""",
    _text: """bundle_root dataset_dir data_dir data_list_file_path ckpt_dir output_dir pretrained_path cache_dir
        image_encoder image_encoder_weights report_encoder encoder label_key section output_file prompts uncertain
        dist_backend""",
    _names: "classes",
    _towers: "lora_towers",
    _device: "device",
    _whole: """sample_size sample_image_size in_channels report_layers max_length embed_dim hidden_dim num_prototypes
        matcher_heads sinkhorn_iterations epochs batch_size accumulation_steps val_interval max_non_finite_steps
        spatial_dims num_samples""",
    partial(_whole, low=0): """seed freeze_prototypes_epochs checkpoint_interval early_stopping_patience num_workers
        micro_batch_size bootstrap lora_rank unlocked_image_groups unlocked_report_groups
        outlier_images""",
    _sizes: "image_size resize_size patch_size",
    _numbers: "voxel_size",
    partial(_number, low=0, above=True): """learning_rate instance_temperature token_temperature prototype_temperature
        sinkhorn_epsilon temperature""",
    partial(_number, low=0): """min_learning_rate weight_decay instance_weight token_weight prototype_weight
        surface_tolerance""",
    partial(_number, low=0, high=1): "select_sentences warmup score_threshold nms_threshold ema_decay overlap",
    partial(_number, low=0, high=1, above=True): "label_fraction layer_decay",
    _number: "hu_min hu_max",
    partial(_one_of, names=("cls", "mean", "own")): "pool_report",
    partial(_one_of, names=("ascii", "all")): "report_letters",
    partial(_one_of, names=("similarity", "learned")): "matcher",
    partial(_one_of, names=("none", "memory", "disk")): "cache",
    partial(_one_of, names=("window", "normalize")): "intensity",
    partial(_one_of, names=("default", "unetr")): "decoder",
    partial(_one_of, names=("multilabel", "multiclass")): "label_mode",
}
OPTIONS = {name: kind for kind, names in _KINDS.items() for name in names.split()}
# those that may have no value
OPTIONAL = {"dataset_dir", "pretrained_path", "image_encoder_weights", "report_layers"}


def option_value(name: str, value: Any) -> Any:
    """The value of an option of the configs, as its kind is.

    Args:
        name: a top-level key.
        value: from the command line, a file, or Python. An expression or reference of MONAI, beginning with "$", "@" or
            "%", is left as it is, and so is the value of a key that is not among the options.

    Raises:
        OptionError: when the option cannot have this value, naming what it can be.

    Example::

        print(option_value("learning_rate", "1e-4"), option_value("amp", "TRUE"))
    """
    if name not in OPTIONS or (isinstance(value, str) and value[:1] in _SYNTAX):
        return value
    if name in OPTIONAL and (value is None or str(value).lower() in NO_VALUE):
        return None
    try:
        return OPTIONS[name](value)
    except _WrongValueError as error:
        raise OptionError(f"{name} must be {error}, got {value!r}.") from None


def check_options() -> None:
    """Refuse the options of the running configuration that it does not have, and values that its options cannot have.

    The first thing that a config does, before anything is read or made. What MONAI's command line made of a text that
    is no text of Python's is undone; see docs/config.md.

    Raises:
        OptionError: naming the options, and what was probably meant or what they can be.
    """
    config = running_config()
    if config is None:
        return
    refuse_unknown(config)
    _restore(config)
    for name, value in config.content.items():
        if (checked := option_value(name, value)) is not value:
            config.set(name, checked)
    lowest, highest = config.content.get("min_learning_rate"), config.content.get("learning_rate")
    if isinstance(lowest, (int, float)) and isinstance(highest, (int, float)) and lowest > highest:
        raise OptionError(f"min_learning_rate is {lowest}, above learning_rate, {highest}: lower it.")


def _restore(config: RunningConfig) -> None:
    """Undo what texts became on their way: values of Python on the command line, "::" for "#", nothing for None."""
    dropped = [id for id, value in config.given.items() if value is None]
    for id in dropped:
        if id not in config.content:
            raise OptionError(f"MONAI's command line drops the value None of --{id.replace('::', '#')}: write '$None'.")
        config.set(id, None)
    typed = {name: text for name, text in typed_options().items() if name not in dropped and not is_quoted(text)}
    for name, value in config.content.items():
        if (kind := OPTIONS.get(name)) not in (_text, _names, _towers):
            continue
        meant = typed.get(name, config.given.get(name, value))
        if isinstance(meant, str) and meant[:1] in _SYNTAX:
            if name in typed and os.path.exists(meant):
                raise OptionError(
                    f"--{name} {meant}: what begins with {meant[0]} is no path to MONAI: write ./{meant}."
                )
            continue
        made = config.given.get(name, value)
        if isinstance(meant, str) and (isinstance(made, Mapping) if kind is _text else meant[:1] in ("(", "[")):
            meant = made
        if isinstance(meant, str) and name not in config.given and not os.path.exists(meant):
            meant = meant.replace("::", "#")  # MONAI's own spelling of "#", also where it is no separator
        if meant != value:
            config.set(name, meant)
