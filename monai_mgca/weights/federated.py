# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What a config must know of federated learning, in which MONAI's client runs it and a server sends the weights."""

from __future__ import annotations

import os
import sys
from typing import Any

from monai.bundle import ConfigWorkflow

from monai_mgca.utils.errors import CheckpointError
from monai_mgca.weights.model_settings import read_model_settings

__all__ = ["trained_settings", "weights_are_sent"]

CLIENT = "monai.fl.client.monai_algo"


def _client() -> Any:
    """The ``monai.fl.client.MonaiAlgo`` on behalf of which this is called: MONAI does not pass it to the configs."""
    kind = getattr(sys.modules.get(CLIENT), "MonaiAlgo", None)
    if kind is None:
        return None
    frame: Any = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, kind):
            return owner
        frame = frame.f_back
    return None


def weights_are_sent() -> bool:
    """Whether an evaluation gets its weights from the server of a federated learning, and needs no file of them.

    In a config: ``"$... if not monai_mgca.weights.weights_are_sent() else None"``. With
    ``MonaiAlgo(disable_ckpt_loading=False)`` the file is loaded all the same.
    """
    client = _client()
    return client is not None and client.disable_ckpt_loading


def trained_settings(weights: str | os.PathLike, name: str = "model.json") -> dict[str, Any]:
    """How the network that is evaluated is built and fed: the settings of its weights.

    A client of federated learning has none before its first training; there it is the network of the client's own
    training, which is the one whose weights are sent around.

    Args:
        weights: as those of :func:`monai_mgca.weights.read_model_settings`.
        name: the same.

    Raises:
        CheckpointError: when there are no weights, or they have no settings.

    Example::

        from monai_mgca.utils import write_settings

        write_settings("model.json", {"image_size": 224})
        print(trained_settings("model.pt"))  # {'image_size': 224}
    """
    client = _client()
    if client is None or not client.disable_ckpt_loading:
        return read_model_settings(weights, name, required=True)
    if isinstance(client.train_workflow, ConfigWorkflow):
        return dict(client.train_workflow.parser.get_parsed_content("model_settings"))
    try:
        return read_model_settings(weights, name, required=True)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} This client does not train, and nothing says how the network is built whose weights are sent: "
            "give MonaiAlgo the training's config too, or bring the file here from a site that trains."
        ) from None
