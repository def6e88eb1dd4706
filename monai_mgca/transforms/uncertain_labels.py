# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What becomes of labels that are uncertain: unknown, absent or present."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import ImageMetaKey, TransformBackends, look_up_option

from monai_mgca.utils import DataError

__all__ = ["ResolveUncertainLabels", "ResolveUncertainLabelsD", "ResolveUncertainLabelsDict", "ResolveUncertainLabelsd"]

_POLICIES = {"ignore": float("nan"), "zeros": 0.0, "ones": 1.0}
UNCERTAIN = -1


class ResolveUncertainLabels(Transform):
    """Turn labels of 1 (present), 0 (absent), -1 (uncertain) and None (unknown) into numbers for a loss and a metric.

    The policies are CheXpert's (Irvin et al. 2019, https://arxiv.org/abs/1901.07031): "ignore" leaves an uncertain
    label out, as an unknown one; "zeros" takes it for absent, "ones" for present.

    Args:
        policy: for all classes, or a mapping from classes to policies, such as {"edema": "ones"}; classes it does not
            name have "ignore".
        classes: names of the classes in the order of the labels; needed for a mapping.
        exclusive: every image is of exactly one class, as a cross-entropy over classes needs.

    Raises:
        ValueError: for an unknown policy, or a mapping that names no class of ``classes``.

    Example::

        print(ResolveUncertainLabels("ones")([1, 0, -1, None]))  # [1, 0, 1, nan]
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        policy: str | Mapping[str, str] = "ignore",
        classes: Sequence[str] | None = None,
        exclusive: bool = False,
    ) -> None:
        self.classes = None if classes is None else list(classes)
        self.exclusive = exclusive
        if isinstance(policy, Mapping):
            unknown = sorted(set(policy) - set(self.classes or ()))
            if unknown:
                raise ValueError(f"uncertain names {', '.join(unknown)}; the classes are {self.classes}.")
            self.values = np.array([look_up_option(policy.get(c, "ignore"), _POLICIES) for c in self.classes or ()])
        else:
            self.values = np.array(look_up_option(policy, _POLICIES))

    def __call__(self, labels: Sequence[float | None]) -> torch.Tensor:
        """
        Args:
            labels: C values.

        Returns:
            (C,), float32: 1, 0, and NaN where unknown.

        Raises:
            DataError: for any other value, a wrong number of labels, or not exactly one class if ``exclusive``.
        """
        values = np.array([np.nan if value is None else value for value in labels], dtype=np.float64)
        if self.classes is not None and len(values) != len(self.classes):
            raise DataError(f"{len(values)} labels for {len(self.classes)} classes.")
        wrong = values[~(np.isnan(values) | np.isin(values, (0, 1, UNCERTAIN)))]
        if wrong.size:
            raise DataError(f"the label {wrong[0]:g} is none of 1 (present), 0 (absent), -1 (uncertain), null.")
        values = np.where(values == UNCERTAIN, self.values, values)
        if self.exclusive and sorted(values) != [0] * (len(values) - 1) + [1]:
            raise DataError(
                f"multiclass needs exactly one class of each image, got {list(labels)}: mend the labels, or take "
                "label_mode multilabel."
            )
        return torch.from_numpy(values.astype(np.float32))


class ResolveUncertainLabelsd(MapTransform):
    """Dictionary-based version of :class:`ResolveUncertainLabels`; its errors name the image.

    Args:
        keys: keys of the labels.
        policy: see :class:`ResolveUncertainLabels`.
        classes: see :class:`ResolveUncertainLabels`.
        exclusive: see :class:`ResolveUncertainLabels`.
        image_key: key of the image, a path or an image with metadata.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = ResolveUncertainLabels.backend

    def __init__(
        self,
        keys: KeysCollection,
        policy: str | Mapping[str, str] = "ignore",
        classes: Sequence[str] | None = None,
        exclusive: bool = False,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.resolve = ResolveUncertainLabels(policy, classes, exclusive)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            try:
                d[key] = self.resolve(d[key])
            except DataError as error:
                image = d.get(self.image_key)
                name = image if isinstance(image, str) else getattr(image, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ)
                raise DataError(f"{name}: {error}") from None
        return d


ResolveUncertainLabelsD = ResolveUncertainLabelsDict = ResolveUncertainLabelsd
