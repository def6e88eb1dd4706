# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Makes frequencies of probabilities, by the numbers that a calibration has fitted."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import TransformBackends
from scipy.special import expit, log_softmax, logit, softmax

__all__ = [
    "CalibrateProbabilitiesD",
    "CalibrateProbabilitiesDict",
    "CalibrateProbabilitiesd",
    "calibrate",
    "calibrate_all",
    "decision_thresholds",
    "log_odds",
]

# nearer to 0 and 1 single precision has no log-odds
NEAREST = 1e-7


def log_odds(probability: np.ndarray) -> np.ndarray:
    """The logits of probabilities, kept within 16 of zero, as single precision has them.

    Args:
        probability: of any shape, 0 to 1.

    Example::

        print(log_odds(np.array([0.5, 0.75])))  # [0., 1.0986]
    """
    values: np.ndarray = logit(np.clip(np.asarray(probability, dtype=np.float64), NEAREST, 1 - NEAREST))
    return values


def calibrate(probability: np.ndarray, numbers: Mapping[str, Any] | None) -> np.ndarray:
    """The calibrated probabilities of one finding.

    Args:
        probability: of any shape, 0 to 1.
        numbers: of :func:`monai_mgca.metrics.fit_calibration`: "temperature", by which the logits are divided; "slope"
            and "intercept", a line of the logits; or "x" and "y", between whose points it is a line. None leaves the
            probabilities as they are.

    Returns:
        The same shape in float64.

    Example::

        print(calibrate(np.array([0.9]), {"temperature": 2.0}))  # [0.75]
    """
    if numbers is None:
        return np.asarray(probability, dtype=np.float64)
    if "x" in numbers:
        return np.interp(probability, numbers["x"], numbers["y"])
    if "temperature" in numbers:
        found: np.ndarray = expit(log_odds(probability) / numbers["temperature"])
        return found
    found = expit(numbers["slope"] * log_odds(probability) + numbers["intercept"])
    return found


def calibrate_all(
    probabilities: torch.Tensor, numbers: Sequence[Mapping[str, Any] | None], exclusive: bool = False
) -> torch.Tensor:
    """The calibrated probabilities of all findings; without a single fitted one the same tensor.

    Args:
        probabilities: (..., C).
        numbers: C, as :func:`calibrate` takes them.
        exclusive: exactly one of the classes is there, and their probabilities have the sum 1: all logits are divided
            by the first one's temperature.

    Returns:
        (..., C) of the same type, on the same device.

    Example::

        print(calibrate_all(torch.tensor([0.9, 0.9]), [{"temperature": 2.0}, None]))  # [0.75, 0.9]
    """
    if not any(numbers):
        return probabilities
    values = probabilities.detach().cpu().double().numpy()
    if exclusive and numbers[0] is not None:
        whole = np.log(np.clip(values, np.finfo(np.float32).tiny, 1))
        found = softmax(log_softmax(whole, axis=-1) / numbers[0]["temperature"], axis=-1)
    else:
        found = np.stack([calibrate(values[..., i], one) for i, one in enumerate(numbers)], axis=-1)
    return torch.from_numpy(found).to(probabilities)


def decision_thresholds(calibration: Mapping[str, Any] | None) -> dict[str, float]:
    """The probability from which on a finding is taken for present, of each calibrated finding.

    Args:
        calibration: of :func:`monai_mgca.weights.read_calibration`.

    Example::

        print(decision_thresholds({"findings": {"edema": {"temperature": 2.0, "threshold": 0.3}}}))  # {'edema': 0.3}
    """
    findings = {} if calibration is None else calibration["findings"]
    return {name: numbers["threshold"] for name, numbers in findings.items()}


class CalibrateProbabilitiesd(MapTransform):
    """Calibrate the probabilities of classes; those of a class without a calibration stay as they are.

    Args:
        keys: keys of the probabilities, (..., C).
        classes: C names.
        calibration: of :func:`monai_mgca.weights.read_calibration`; None changes nothing.
        allow_missing_keys: do not raise where a key is missing.

    Example::

        fitted = {"findings": {"edema": {"temperature": 2.0, "threshold": 0.3}}}
        steps = CalibrateProbabilitiesd("pred", ["edema", "mass"], fitted)
        print(steps({"pred": torch.tensor([0.9, 0.9])})["pred"])  # [0.75, 0.9]
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        keys: KeysCollection,
        classes: Sequence[str],
        calibration: Mapping[str, Any] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        findings = {} if calibration is None else calibration["findings"]
        self.numbers = [findings.get(name) for name in classes]
        self.exclusive = calibration is not None and calibration.get("label_mode") == "multiclass"

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = calibrate_all(d[key], self.numbers, self.exclusive)
        return d


CalibrateProbabilitiesD = CalibrateProbabilitiesDict = CalibrateProbabilitiesd
