# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes adapters alone in peft's own format, and merges such files into plain weights."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from monai_mgca.networks.adaptation.lora import ADAPTER, has_adapters
from monai_mgca.networks.adaptation.tower_groups import tower_body
from monai_mgca.utils.dist import unwrap
from monai_mgca.utils.errors import CheckpointError
from monai_mgca.utils.extras import require_extra
from monai_mgca.utils.files import replacing
from monai_mgca.weights.weight_file import read_checkpoint, write_tensors

__all__ = ["merge_adapters", "write_adapters"]

TOWERS = {"image": "image_encoder", "report": "report_encoder"}
CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
# what peft writes before the names of the network that it adapts
_PREFIX = "base_model.model."


def write_adapters(network: nn.Module, folder: str | os.PathLike) -> list[Path]:
    """Write the adapters of both towers alone, each into a folder that peft reads: ``image`` and ``report``.

    Those that an earlier training left there, of a tower that has none now, are removed: they would be merged into
    weights that they do not belong to.

    Args:
        network: :class:`monai_mgca.networks.MGCA`, in DDP or not.
        folder: of the two; it is not made where there are no adapters.

    Returns:
        The folders that were written.

    Raises:
        StorageError: when they cannot be written.
    """
    bare = unwrap(network)
    written = []
    for tower, name in TOWERS.items():
        encoder, place = getattr(bare, name, None), Path(folder) / tower
        if encoder is None or not has_adapters(encoder):
            for file in (CONFIG, TENSORS):
                (place / file).unlink(missing_ok=True)
            continue
        from peft import get_peft_model_state_dict

        body: Any = tower_body(encoder)
        tensors = get_peft_model_state_dict(body, adapter_name=ADAPTER)
        write_tensors({f"{_PREFIX}{key}": value.cpu() for key, value in tensors.items()}, place / TENSORS)
        with tempfile.TemporaryDirectory() as temporary, replacing(place / CONFIG) as path:
            body.peft_config[ADAPTER].save_pretrained(temporary)
            path.write_bytes((Path(temporary) / CONFIG).read_bytes())
        written.append(place)
    return written


def merge_adapters(encoder: nn.Module, folder: str | os.PathLike) -> nn.Module:
    """Merge adapters from their files into an encoder with the weights that they were trained beside, in place.

    Args:
        encoder: without adapters.
        folder: of one tower, as a training writes it: ``models/adapters/image``.

    Returns:
        The encoder.

    Raises:
        CheckpointError: when there are no adapters, or they are of another network.
        DataError: when peft is not installed.

    Example::

        encoder = create_image_encoder("vit_base")
        load_image_weights(encoder, "deit_base_patch16_224.safetensors")
        merge_adapters(encoder, "models/adapters/image")
    """
    require_extra("peft", "Reading adapters", "peft")
    from peft import PeftModel, get_peft_model_state_dict

    folder = Path(folder)
    if missing := [name for name in (CONFIG, TENSORS) if not (folder / name).is_file()]:
        raise CheckpointError(
            f"'{folder}' has no {' and no '.join(missing)}: give the folder of one tower, as a training with lora_rank "
            "writes it: models/adapters/image or models/adapters/report."
        )
    held = {key.removeprefix(_PREFIX) for key in read_checkpoint(folder / TENSORS)}
    adapted: Any = None
    try:
        adapted = PeftModel.from_pretrained(tower_body(encoder), str(folder))
        if held != set(get_peft_model_state_dict(tower_body(encoder))):
            raise ValueError("some of their layers are missing here, or in the file")
    except (ValueError, RuntimeError, KeyError) as error:
        if adapted is not None:
            adapted.unload()
        raise CheckpointError(
            f"The adapters in '{folder}' are of another network: {error}. Build the encoder as it was trained."
        ) from error
    adapted.merge_and_unload()  # the plain layers are back where they were
    return encoder
