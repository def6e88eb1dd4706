# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The three alignments and Sinkhorn as the paper's formulas, one sample and one token at a time, in float64."""

from __future__ import annotations

import math

import torch


def negative_log_softmax(scores: list[torch.Tensor], index: int) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for score in scores:
        total = total + (score - scores[index].detach()).exp()
    return total.log() - (scores[index] - scores[index].detach())


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.double() * b.double()).sum()


def instance_loss(image, report, temperature):
    count, total = len(image), 0.0
    for i in range(count):
        total += negative_log_softmax([dot(image[i], report[k]) / temperature for k in range(count)], i)
        total += negative_log_softmax([dot(image[k], report[i]) / temperature for k in range(count)], i)
    return total / (2 * count)


def token_loss(tokens, context, weights, mask, temperature, mask_padding=True):
    count, length = tokens.shape[:2]
    total = torch.zeros((), dtype=torch.float64)
    for i in range(count):
        real = [j for j in range(length) if mask is None or not mask_padding or bool(mask[i, j])]
        for place, j in enumerate(real):
            weight = 1 / len(real) if weights is None else float(weights[i, j])
            found = [dot(tokens[i, j], context[i, k]) / temperature for k in real]
            back = [dot(context[i, j], tokens[i, k]) / temperature for k in real]
            total = total + weight * (negative_log_softmax(found, place) + negative_log_softmax(back, place))
    return total / (2 * count)


def sinkhorn_codes(scores, epsilon, iterations):
    scores = scores.detach()
    rows, columns = scores.shape
    top = float(scores.max())
    q = [[math.exp((float(scores[i, k]) - top) / epsilon) for k in range(columns)] for i in range(rows)]
    for _ in range(iterations):
        for k in range(columns):
            total = sum(q[i][k] for i in range(rows)) * columns
            for i in range(rows):
                q[i][k] /= total
        for i in range(rows):
            total = sum(q[i]) * rows
            q[i] = [x / total for x in q[i]]
    return [[x / sum(row) for x in row] for row in q]


def prototype_loss(image_scores, report_scores, temperature, epsilon, iterations):
    rows, columns = image_scores.shape
    image_codes = sinkhorn_codes(image_scores, epsilon, iterations)
    report_codes = sinkhorn_codes(report_scores, epsilon, iterations)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(rows):
        image = [image_scores[i, k].double() / temperature for k in range(columns)]
        report = [report_scores[i, k].double() / temperature for k in range(columns)]
        for k in range(columns):
            total = total + report_codes[i][k] * negative_log_softmax(image, k)
            total = total + image_codes[i][k] * negative_log_softmax(report, k)
    return total / (2 * rows)
