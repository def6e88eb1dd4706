# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Linear classifiers on frozen features, fitted by scikit-learn."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from monai.utils import optional_import

LogisticRegression, _ = optional_import("sklearn.linear_model", name="LogisticRegression")
StandardScaler, _ = optional_import("sklearn.preprocessing", name="StandardScaler")
make_pipeline, _ = optional_import("sklearn.pipeline", name="make_pipeline")
StratifiedGroupKFold, _ = optional_import("sklearn.model_selection", name="StratifiedGroupKFold")
cross_val_predict, _ = optional_import("sklearn.model_selection", name="cross_val_predict")
log_loss, _ = optional_import("sklearn.metrics", name="log_loss")
threadpool_limits, _ = optional_import("threadpoolctl", name="threadpool_limits")  # scikit-learn brings it

__all__ = ["LinearProbe", "fit_linear_probe"]

# strengths of the penalty to choose from (large is weak), and the one where there is too little to choose by
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
FIXED_PENALTY = 1e-2
FOLDS = 5


class LinearProbe(NamedTuple):
    """Logistic regressions on features: one a class (None where it could not be fitted), or one of all classes."""

    models: list[Any]
    mode: str
    penalties: list[float | None]

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(N, F) features -> (N, C) probabilities, nan for classes that could not be fitted."""
        if self.mode == "multiclass":
            model = self.models[0]
            return np.full((len(features), 1), np.nan) if model is None else np.asarray(model.predict_proba(features))
        nothing = np.full(len(features), np.nan)
        columns = [nothing if model is None else model.predict_proba(features)[:, 1] for model in self.models]
        return np.stack(columns, axis=1)


def fit_linear_probe(
    features: np.ndarray, labels: np.ndarray, patients: Sequence[Hashable], mode: str = "multilabel", seed: int = 0
) -> LinearProbe:
    """Fit scikit-learn's logistic regression to standardized features, in place of training a linear layer.

    The strength of the penalty has the lowest log loss in five-fold cross-validation inside the training set, where no
    patient is in two folds. With fewer than five patients of a value of the label it is fixed (C = 0.01).

    Args:
        features: (N, F).
        labels: (N, C) of 0 and 1, nan where unknown.
        patients: N ids.
        mode: "multilabel": a model for each class, on the images with a known label; "multiclass": one for all.
        seed: of the folds.

    Returns:
        The probe; a class without a positive or without a negative has no model, and for multiclass there is none at
        all when a class has no image.

    Example::

        generator = np.random.default_rng(0)
        labels = generator.integers(0, 2, (60, 1)).astype(float)
        features = labels + generator.normal(size=(60, 4))
        print(fit_linear_probe(features, labels, patients=range(60))(features).shape)  # (60, 1)
    """
    groups = np.unique([str(patient) for patient in patients], return_inverse=True)[1]
    if mode == "multiclass":
        targets = [(labels.argmax(1), np.ones(len(labels), dtype=bool), labels.shape[1])]
    else:
        targets = [(column, ~np.isnan(column), 2) for column in labels.T]
    # the products are small: threads cost more than they give, and on two cores double the time
    with threadpool_limits(1):
        fitted = [_fit(features[k], column[k].astype(int), groups[k], n, seed) for column, k, n in targets]
    return LinearProbe([model for model, _ in fitted], mode, [penalty for _, penalty in fitted])


def _fit(x: np.ndarray, y: np.ndarray, groups: np.ndarray, num_values: int, seed: int) -> tuple[Any, float | None]:
    """The model and its penalty, None where a value is missing."""
    patients = [len(np.unique(groups[y == value])) for value in range(num_values)]
    if min(patients) == 0:
        return None, None
    penalty = FIXED_PENALTY
    if min(patients) >= FOLDS:
        folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(x, y, groups))
        losses = []
        for candidate in PENALTIES:
            found = cross_val_predict(_regression(candidate), x, y, cv=folds, method="predict_proba")
            losses.append(log_loss(y, found, labels=range(num_values)))
        penalty = PENALTIES[int(np.argmin(losses))]
    return _regression(penalty).fit(x, y), penalty


def _regression(penalty: float) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=2000))
