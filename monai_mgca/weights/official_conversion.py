# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Converts checkpoints of the official MGCA code."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from monai.utils import look_up_option

from monai_mgca.utils.console import name_some
from monai_mgca.utils.errors import CheckpointError
from monai_mgca.weights.official_settings import expected_shapes, read_official_settings
from monai_mgca.weights.parameter_names import (
    FIRST_KERNELS,
    TIMM_VIT,
    architecture_of,
    fit_cls_position,
    fold_channels,
    rename,
    vit_from_timm,
)
from monai_mgca.weights.weight_file import check_output, read_checkpoint, tensors_of, write_tensors

__all__ = ["OfficialConversion", "convert_official_checkpoint", "rename_official"]

BACKBONE, BERT = "img_encoder_q.model.", "text_encoder_q.model."
# The official code runs the first 6 layers of BERT, however many a file holds.
LAYERS_RUN = 6
UNUSED = re.compile(
    r"text_encoder_q\.model\.(.*crossattention\..*|embeddings\.(position_ids|token_type_embeddings\..*)|pooler\..*)"
    rf"|text_encoder_q\.model\.encoder\.layer\.({LAYERS_RUN}|[7-9]|\d\d+)\..*"
    r"|img_encoder_q\.model\.(head|fc)\..*"
)
MATCHERS = (
    ("word_local_atten_layer.", "word_matcher.attention."),
    ("patch_local_atten_layer.", "image_matcher.attention."),
)
_HEADS = {
    "img_encoder_q.global_embed.": "image_head.",
    "img_encoder_q.local_embed.": "image_token_head.",
    "text_encoder_q.global_embed.": "report_head.",
    "text_encoder_q.local_embed.": "word_head.",
}
_LAYERS = {"head.0.": "linear1.", "head.1.": "norm1.", "head.3.": "linear2.", "head.4.": "norm2."}
PARTS = (
    (BACKBONE, "image_encoder.backbone."),
    (BERT, "report_encoder.model."),
    ("prototype_layer.", "prototypes."),
    *MATCHERS,
    *((head + layer, ours + name) for head, ours in _HEADS.items() for layer, name in _LAYERS.items()),
)
TOKEN_TYPES = "report_encoder.model.embeddings.token_type_embeddings.weight"


class OfficialConversion(NamedTuple):
    """What :func:`convert_official_checkpoint` did.

    ``moved`` counts the tensors written, ``ignored`` are the official names left out, ``settings`` the arguments that
    build the network: "image_encoder" (of ``architecture``), "report_encoder" and "network" (of :class:`MGCA`).
    """

    architecture: str
    moved: int
    ignored: list[str]
    settings: dict[str, dict[str, Any]]


def rename_official(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of the official code, all or some, by the names and shapes of :class:`MGCA`; foreign names stay."""
    renamed = {}
    image = {key.removeprefix(BACKBONE): value for key, value in state.items() if key.startswith(BACKBONE)}
    if architecture_of(image) == "vit":
        image = vit_from_timm(image)
    for key, value in image.items():
        renamed[f"image_encoder.backbone.{key}"] = value
    for key, value in state.items():
        if not key.startswith(BACKBONE):
            # a 1x1 convolution over tokens is a linear map of each
            local = ".local_embed.head." in key and value.ndim == 3
            renamed[rename(key, PARTS)] = value.squeeze(2) if local else value
    return renamed


def convert_official_checkpoint(
    path: str | os.PathLike,
    output: str | os.PathLike,
    in_channels: int = 1,
    encoder_only: bool = False,
    matcher: str | None = None,
) -> OfficialConversion:
    """Turn a checkpoint of the official MGCA code into one of :class:`MGCA` or :class:`ImageEmbedder`.

    Every tensor of the file is moved, or ignored by name because the official code never runs it (``crossattention``,
    ``pooler``, ``position_ids``, token types, layers of BERT from the seventh, a classifier, a learned matcher
    that was off); anything else is an error, as is whatever the network needs beyond the file.

    Args:
        path: the published Lightning file, with its tensors under "state_dict".
        output: ``.pt`` or ``.safetensors``; written whole or not at all.
        in_channels: 1 sums the first layer's RGB kernels, and [CLS] with its position, which is exact for grayscale
            images; 3 keeps all apart, to train on as the official code does.
        encoder_only: write the image encoder and its projection alone, the state dict of :class:`ImageEmbedder`.
        matcher: "similarity" or "learned", what the network was trained with. If None, the file's hyperparameters
            decide; where there are none, a file with learned maps is taken to have used them.

    Raises:
        CheckpointError: when the file cannot be read, lacks tensors or holds foreign ones, by name.
        ValueError: when ``in_channels`` is neither 1 nor 3, or for an unknown ``matcher``.
    """
    if in_channels not in (1, 3):
        raise ValueError(f"in_channels must be 1 or 3, got {in_channels}.")
    output = check_output(output)
    content = read_checkpoint(path)
    state = tensors_of(content)
    options = _matcher_options(content, state, matcher)
    unused = () if options["matcher"] == "learned" else tuple(official for official, _ in MATCHERS)
    ignored = {key for key in state if UNUSED.fullmatch(key) or key.startswith(unused)}
    renamed = rename_official({key: value for key, value in state.items() if key not in ignored})
    try:
        settings = read_official_settings(renamed, options)
    except KeyError as error:
        name = _official_name(error.args[0])
        raise CheckpointError(f"'{path}' lacks {name}: it is no checkpoint of the official MGCA.") from error
    renamed[TOKEN_TYPES] = torch.zeros(2, settings["report_encoder"]["source"]["hidden_size"])
    _check(renamed, settings, path)
    renamed = _fit_channels(renamed, settings["image_encoder"], in_channels, path)
    if encoder_only:
        renamed = {k: v for k, v in renamed.items() if k.startswith(("image_encoder.", "image_head."))}
    write_tensors(renamed, output)
    architecture = "vit" if "patch_size" in settings["image_encoder"] else "resnet"
    return OfficialConversion(architecture, len(renamed), sorted(ignored), settings)


def _matcher_options(
    content: Mapping[str, Any], state: Mapping[str, torch.Tensor], matcher: str | None
) -> dict[str, Any]:
    """The arguments of :class:`MGCA` about the matcher."""
    known = content.get("hyper_parameters", {})
    known = vars(known) if isinstance(known, Namespace) else known
    if matcher is None:
        held = any(key.startswith(MATCHERS[0][0]) for key in state)
        matcher = "learned" if known.get("use_local_atten", held) else "similarity"
    if look_up_option(matcher, ("similarity", "learned")) == "learned":
        return {"matcher": matcher, "matcher_heads": int(known.get("num_heads", 1))}
    return {"matcher": matcher}


def _official_name(key: str) -> str:
    pairs = [*TIMM_VIT, ("pos_embed", "cls_position"), *PARTS] if key.startswith("image_encoder.") else PARTS
    return rename(key, [(ours, official) for official, ours in pairs])


def _check(state: Mapping[str, torch.Tensor], settings: dict[str, dict[str, Any]], path: str | os.PathLike) -> None:
    """Compare names and shapes with the network that the settings build, so that it loads strictly."""
    wanted = expected_shapes(settings)
    shapes = {
        f"{_official_name(key)} ({tuple(state[key].shape)} instead of {tuple(wanted[key])})"
        for key in state.keys() & wanted.keys()
        if state[key].shape != wanted[key]
    }
    missing = {_official_name(key) for key in wanted.keys() - state.keys()}
    foreign = {_official_name(key) for key in state.keys() - wanted.keys()}
    problems = {"Missing": missing, "Foreign": foreign, "Of another shape": shapes}
    found = [f"{reason}: {name_some(sorted(names), 12)}." for reason, names in problems.items() if names]
    if found:
        raise CheckpointError(
            f"'{path}' is not what the official MGCA writes. {' '.join(found)} If the file was made by a changed code, "
            "remove or rename these tensors in a copy of it."
        )


def _fit_channels(
    state: dict[str, torch.Tensor], image: dict[str, Any], in_channels: int, path: str | os.PathLike
) -> dict[str, torch.Tensor]:
    """The tensors for so many input channels; with one, all is summed that gray images cannot distinguish."""
    for name in FIRST_KERNELS:
        key = f"image_encoder.backbone.{name}"
        if key not in state:
            continue
        if in_channels == 1:
            state[key] = fold_channels(state[key])
        elif state[key].shape[1] != in_channels:
            raise CheckpointError(
                f"'{path}' reads {state[key].shape[1]} channel, not 3: convert it with in_channels=1."
            )
    image["in_channels"] = in_channels
    if in_channels > 1:
        return state
    if "cls_position" in image:
        image["cls_position"] = False
    return fit_cls_position(state, wanted=())
