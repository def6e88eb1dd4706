# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Hands MONAI's trainer the images, boxes and labels of a batch, as detectors take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.engines import PrepareBatch
from monai.utils import CommonKeys

__all__ = ["PerImage", "PrepareBatchBoxes"]


class PrepareBatchBoxes(PrepareBatch):
    """Hands images and boxes to :func:`monai_mgca.networks.create_detector`'s network in MONAI's engines.

    The data loader must not collate (``collate_fn=monai.data.utils.no_collation``), because images have different
    numbers of boxes, and the engine must not decollate (``decollate=False``): see :class:`PerImage`. The images stay a
    list with their meta data, by which boxes are brought back to the original image.

    Args:
        box_key: key of the boxes (N, 4), [x0, y0, x1, y1] in pixels of the image; of volumes (N, 6) in voxels.
        label_key: key of their classes (N,). Items without these keys, as in inference, have no targets.

    Example::

        # SupervisedTrainer(..., prepare_batch=PrepareBatchBoxes(), loss_function=DetectionLoss(), decollate=False)
        item = {"image": torch.rand(1, 64, 64), "boxes": [[8, 8, 30, 40]], "box_labels": [0]}
        images, targets, args, kwargs = PrepareBatchBoxes()([item])
    """

    def __init__(self, box_key: str = "boxes", label_key: str = "box_labels") -> None:
        self.box_key, self.label_key = box_key, label_key

    def __call__(
        self,
        batchdata: Any,
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]] | None, tuple, dict]:
        """
        Args:
            batchdata: a sequence of items with "image" (C, H, W[, D]) and perhaps boxes and their labels.
            device: to move the tensors to.
            non_blocking: as in ``torch.Tensor.to``.
            kwargs: further arguments of ``torch.Tensor.to``, for the images.

        Raises:
            ValueError: when the batch was collated.
        """
        if isinstance(batchdata, Mapping):
            raise ValueError("The batch was collated: give the data loader collate_fn=monai.data.utils.no_collation.")
        images = [item[CommonKeys.IMAGE].to(device=device, non_blocking=non_blocking, **kwargs) for item in batchdata]
        if any(self.box_key not in item for item in batchdata):
            return images, None, (), {}
        ends = 2 * (images[0].ndim - 1)
        targets = [
            {
                "boxes": torch.as_tensor(item[self.box_key], dtype=torch.float32, device=device).reshape(-1, ends),
                "labels": torch.as_tensor(item[self.label_key], dtype=torch.int64, device=device),
            }
            for item in batchdata
        ]
        return images, targets, (targets,), {}


class PerImage:
    """Applies postprocessing to every image of what a detector gave, in MONAI's evaluator with ``decollate=False``.

    MONAI's own decollation would take lists of boxes apart. The transform sees "image", what was found ("boxes",
    "labels", "labels_scores"), and the targets under "label" where there are any; the engine's output becomes the list
    of its results, where metrics find what was found under "pred", too.

    Args:
        transform: a dictionary transform, such as ``Compose``.

    Example::

        # SupervisedEvaluator(..., postprocessing=PerImage(RestoreBoxesd("boxes")), decollate=False)
        output = {"image": [torch.rand(1, 64, 64)], "pred": [{"boxes": torch.zeros(0, 4)}]}
        print(PerImage(lambda item: item)(output)[0].keys())
    """

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, output: Mapping[str, Any]) -> list[dict[str, Any]]:
        """
        Args:
            output: lists under "image" and "pred", and under "label" or None.
        """
        items = [
            {CommonKeys.IMAGE: image, **found}
            for image, found in zip(output[CommonKeys.IMAGE], output[CommonKeys.PRED], strict=True)
        ]
        for item, target in zip(items, output.get(CommonKeys.LABEL) or (), strict=False):
            item[CommonKeys.LABEL] = target
        results = [self.transform(item) for item in items]
        for result, found in zip(results, output[CommonKeys.PRED], strict=True):
            result[CommonKeys.PRED] = {key: result[key] for key in found}
        return results
