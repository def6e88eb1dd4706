# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Draw the findings of a study into the layers of its chest; each gives the mask of what it drew."""

from __future__ import annotations

import numpy as np

from .canvas import SIGN, Canvas, curve
from .case import Anatomy, Finding
from .chest import Chest, expose

__all__ = ["HEART_RATIO", "draw_study"]

HEART_RATIO = {"small": 0.55, "moderate": 0.615, "large": 0.69}  # cardiothoracic ratio of a cardiomegaly
_ZONE = {"upper": (0.22, 0.34), "mid": (0.42, 0.52), "lower": (0.60, 0.68)}  # heights


def draw_study(
    anatomy: Anatomy, findings: tuple[Finding, ...], size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Draw a radiograph with its findings.

    Args:
        anatomy: of the patient.
        findings: what the radiograph shows.
        size: width and height in pixels.
        rng: of the study.

    Returns:
        the image, uint8 (size, size); the mask of the lungs, bool (size, size): aerated or not, and the air of a
        pneumothorax, without heart, mediastinum and pleural fluid; for every finding its mask, bool (size, size).
    """
    ratio = next((HEART_RATIO[f.size] for f in findings if f.kind == "cardiomegaly"), anatomy.heart)
    chest = Chest(Canvas(size, rng), anatomy, ratio, rng)
    masks = [_DRAW[finding.kind](chest, finding, rng) for finding in findings]
    lungs = (chest.lung["right"] + chest.lung["left"]) > 0.5
    return expose(chest, rng), lungs, masks


def _place(chest: Chest, finding: Finding, rng: np.random.Generator) -> tuple[float, float]:
    """A point of the zone, away from the lung's edges."""
    c, sign = chest.canvas, SIGN[finding.side]
    low, high = _ZONE[finding.zone]
    y = rng.uniform(low, high) + (chest.dome[finding.side] - 0.725) * high
    row = (np.abs(c.y - y) < 1.5 / c.size) & (chest.lung[finding.side] > 0.5)
    reach = np.abs(c.x[row])
    return sign * (reach.min() + rng.uniform(0.3, 0.7) * (reach.max() - reach.min())), y


def _draw_opacity(chest: Chest, finding: Finding, rng: np.random.Generator) -> np.ndarray:
    c, lung = chest.canvas, chest.lung[finding.side]
    x, y = _place(chest, finding, rng)
    radius = {"small": 0.05, "moderate": 0.08, "large": 0.115}[finding.size] * rng.uniform(0.9, 1.1)
    count, blob, height = {"patchy": (9, 0.3, 0.15), "confluent": (14, 0.55, 0.23), "hazy": (8, 0.75, 0.13)}[
        finding.form
    ]
    centers = rng.normal(0, 0.55 * radius, size=(count, 2)) + (x, y)  # noqa: RUF005  a sum of arrays
    layer = np.zeros_like(lung)
    for cx, cy in centers:
        width = blob * radius * rng.uniform(0.7, 1.3)
        layer += np.exp(-((c.x - cx) ** 2 + (c.y - cy) ** 2) / (2 * width**2))
    layer = np.tanh(1.3 * layer / np.sqrt(count * blob)) * lung
    chest.density += height * rng.uniform(0.85, 1.2) * layer
    return layer > 0.5 * layer.max()


def _draw_effusion(chest: Chest, finding: Finding, rng: np.random.Generator) -> np.ndarray:
    c, side = chest.canvas, finding.side
    dome = chest.dome[side]
    level = dome + {"small": 0.035, "moderate": -0.07, "large": -0.25}[finding.size] + rng.uniform(-0.015, 0.015)
    lateral = np.clip(np.abs(c.x) / chest.half_width, 0, 1)
    rise = {"small": 0.05, "moderate": 0.1, "large": 0.13}[finding.size]
    surface = level - rise * (lateral**4 + 0.25 * (1 - lateral) ** 4)  # the meniscus climbs at the wall
    fluid = np.clip((c.y - surface) * c.size + 0.5, 0, 1).astype(np.float32) * chest.lung[side]
    depth = np.clip(0.62 + (c.y - surface) * 5, 0, 1)  # thinner at its upper edge
    chest.density += 0.56 * c.blur(fluid, 0.005) * depth
    chest.vessels *= 1 - fluid
    chest.lung[side] = chest.lung[side] * (1 - fluid)
    return fluid > 0.5


def _draw_pneumothorax(chest: Chest, finding: Finding, rng: np.random.Generator) -> np.ndarray:
    c, lung = chest.canvas, chest.lung[finding.side]
    sign, points = SIGN[finding.side], chest.outline[finding.side]
    apex, wall = {"small": (0.24, 0.0), "moderate": (0.33, 0.19), "large": (0.52, 0.44)}[finding.size]
    apex, wall = np.array([apex, wall]) * rng.uniform(0.88, 1.12)
    high = np.clip((0.5 - points[:, 1]) / 0.35, 0, 1)
    low = np.clip((chest.dome[finding.side] + 0.1 - points[:, 1]) / 0.2, 0.35, 1)
    share = (wall + (apex - wall) * high) * low
    hilum = np.array([sign * 0.09, 0.45])
    edge = points + share[:, None] * (hilum - points)
    edge[:, 0] = np.where(np.abs(points[:, 0]) < 0.05, points[:, 0], edge[:, 0])
    collapsed = c.fill(edge)
    air = lung * (1 - collapsed)
    line = c.lines(np.concatenate([edge, edge[:1]])[None], 0.006) * c.blur(air, 0.008) * lung
    chest.density += 0.2 * np.clip(1.5 * line, 0, 1) - 0.055 * c.blur(air, 0.002)
    chest.density += 0.17 * share.max() * lung * collapsed  # less air in what is left of the lung
    chest.vessels *= 1 - air
    return air > 0.5


def _draw_cardiomegaly(chest: Chest, finding: Finding, rng: np.random.Generator) -> np.ndarray:
    return chest.heart > 0.5  # the chest was made with the large heart


def _draw_nodule(chest: Chest, finding: Finding, rng: np.random.Generator) -> np.ndarray:
    c = chest.canvas
    x, y = _place(chest, finding, rng)
    radius = finding.millimeters / 800.0  # the image is 400 mm wide
    angle = np.arctan2(c.y - y, c.x - x)
    wave = 1 + 0.08 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.05 * np.sin(5 * angle + rng.uniform(0, 6))
    distance = np.hypot(c.x - x, c.y - y) / (radius * wave)
    ball = np.sqrt(np.clip(1 - distance**2, 0, 1))
    chest.density += rng.uniform(0.2, 0.3) * c.blur(0.5 * ball + 0.5 * (distance < 1), 0.002)
    return distance < max(1.0, 0.75 / (radius * c.size))  # at least the pixel it lies in


def _device_course(chest: Chest, finding: Finding, rng: np.random.Generator) -> tuple[list, float]:
    """The points that a tube or line runs through, and its width."""
    sign, w, dx = SIGN.get(finding.side, 1.0), chest.half_width, rng.normal(0, 0.006)
    low = max(chest.dome.values())
    if finding.form == "endotracheal tube":
        return [(dx, -0.1), (dx, 0.1), (-0.5 * dx, rng.uniform(0.26, 0.32))], 0.016
    if finding.form == "enteric tube":
        stomach = [(0.07, low + 0.07), (rng.uniform(0.14, 0.22), low + 0.12)]
        return [(dx, -0.1), (0.012, 0.2), (0.018, 0.45), (0.03, 0.68), *stomach], 0.010
    if finding.form == "central line":
        cava = [(-0.05, 0.24), (-0.058, 0.32), (-0.06, rng.uniform(0.38, 0.46))]
        return [(sign * 0.075, -0.1), (sign * 0.07, 0.08), (sign * 0.045, 0.19), *cava], 0.008
    if finding.form == "chest tube":
        tip = (sign * 0.55 * w, rng.uniform(0.22, 0.32))
        return [(sign * (w + 0.12), 0.66), (sign * (w - 0.02), 0.6), (sign * 0.75 * w, 0.42), tip], 0.014
    vein = [(sign * 0.31, 0.26), (sign * 0.23, 0.185), (sign * 0.06, 0.2), (-0.05, 0.28), (-0.06, 0.42)]
    return [*vein, (-0.06, low - 0.12), (0.03, low - 0.01), (0.12, low - 0.005)], 0.008


def _draw_device(chest: Chest, finding: Finding, rng: np.random.Generator) -> np.ndarray:
    c = chest.canvas
    points, width = _device_course(chest, finding, rng)
    layer = c.lines(curve(points, closed=False)[None], width)
    if finding.form == "pacemaker":  # its case, where the lead begins
        r = (np.abs((c.x - points[0][0]) / 0.052) ** 3 + np.abs((c.y - points[0][1]) / 0.045) ** 3) ** (1 / 3)
        layer = np.maximum(layer, 1.6 * np.clip((1 - r) * 12, 0, 1))
    chest.density += 0.5 * layer
    return layer > 0.35


_DRAW = {
    "opacity": _draw_opacity,
    "effusion": _draw_effusion,
    "pneumothorax": _draw_pneumothorax,
    "cardiomegaly": _draw_cardiomegaly,
    "nodule": _draw_nodule,
    "device": _draw_device,
}
