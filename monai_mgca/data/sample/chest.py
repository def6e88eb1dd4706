# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Draw a frontal chest radiograph: the normal anatomy as layers of density, and the exposure of their sum."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .canvas import SIGN, Canvas, curve
from .case import Anatomy

__all__ = ["Chest", "expose"]

_VOLUME = {"low": -0.06, "normal": 0.0, "large": 0.045}  # shift of the diaphragm


class Chest:
    """The layers of a normal chest, each (size, size); findings change them, :func:`expose` adds them up.

    Args:
        canvas: where to draw.
        anatomy: of the patient.
        heart_ratio: cardiothoracic ratio to draw.
        rng: draws the vessels.
    """

    def __init__(self, canvas: Canvas, anatomy: Anatomy, heart_ratio: float, rng: np.random.Generator) -> None:
        self.canvas = canvas
        self.half_width = 0.405 * anatomy.width
        self.dome = {}
        for side in SIGN:
            raised = -0.055 if side == anatomy.raised else 0.0
            self.dome[side] = 0.725 + _VOLUME[anatomy.volume] + raised + (0.02 if side == "left" else 0.0)
        self.outline = {side: self._lung_outline(side) for side in SIGN}
        self.heart_outline = self._heart_outline(heart_ratio)
        self.heart = canvas.fill(self.heart_outline)
        self.mediastinum = np.maximum(self.heart, canvas.fill(self._mediastinum_outline(anatomy)))
        self.hull = {side: canvas.fill(self.outline[side]) for side in SIGN}
        self.lung = {side: hull * (1 - self.mediastinum) for side, hull in self.hull.items()}
        self.vessels = self._draw_vessels(rng)
        self.density = self._draw_soft_tissue(anatomy, rng) + self._draw_bones(anatomy)

    def _lung_outline(self, side: str) -> np.ndarray:
        w, d = self.half_width, self.dome[side]
        angle = d + 0.105  # the costophrenic angle
        right = [(0.29 * w, 0.11), (0.52 * w, 0.14), (0.74 * w, 0.22), (0.88 * w, 0.34), (0.97 * w, 0.52)]
        right += [(w, angle - 0.1), (0.985 * w, angle), (0.985 * w, angle), (0.83 * w, d + 0.035), (0.58 * w, d)]
        right += [(0.32 * w, d + 0.012), (0.1 * w, d + 0.045), (0.06 * w, 0.5), (0.07 * w, 0.25), (0.15 * w, 0.14)]
        return curve(right) * (SIGN[side], 1.0)

    def _heart_outline(self, ratio: float) -> np.ndarray:
        total = 2 * self.half_width * ratio
        r, a = 0.31 * total, 0.69 * total  # reach to the right and, at the apex, to the left of the midline
        top, low = 0.38, max(self.dome["left"], self.dome["right"]) + 0.04
        y = [top + share * (low - top) for share in (0.0, 0.16, 0.42, 0.7, 0.85, 1.0)]
        left = [
            (0.06, y[0]),
            (0.35 * a + 0.02, y[1]),
            (0.76 * a, y[2]),
            (0.97 * a, y[3]),
            (0.98 * a, y[4]),
            (0.6 * a, y[5]),
        ]
        right = [
            (0.0, y[5]),
            (-0.75 * r, y[5] - 0.01),
            (-0.99 * r, y[3]),
            (-0.9 * r, y[2]),
            (-0.06, y[1]),
            (-0.05, y[0]),
        ]
        return curve(left + right)

    def _mediastinum_outline(self, anatomy: Anatomy) -> np.ndarray:
        knob = 0.115 if anatomy.aorta else 0.082
        left = [(0.06, 0.0), (0.05, 0.12), (0.055, 0.22), (knob, 0.27), (knob + 0.003, 0.31), (0.068, 0.35)]
        left += [(0.083, 0.4), (0.1, 0.47), (0.13, 0.82)]
        right = [
            (-0.08, 0.82),
            (-0.075, 0.5),
            (-0.066, 0.42),
            (-0.068, 0.3),
            (-0.055, 0.18),
            (-0.05, 0.1),
            (-0.06, 0.0),
        ]
        return curve(left + right)

    def _draw_soft_tissue(self, anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
        c, w = self.canvas, self.half_width
        side = [(0.1, -0.1), (0.1, 0.03), (0.17, 0.085), (0.36, 0.115), (0.55, 0.17), (0.6, 0.3), (w + 0.075, 0.4)]
        side += [(w + 0.055, 0.6), (w + 0.07, 0.85), (w + 0.08, 1.1)]
        body = c.blur(c.fill(curve(side + [(-x, y) for x, y in reversed(side)])), 0.008)
        lungs = np.clip(self.lung["right"] + self.lung["left"], 0, 1)
        top = min(self.dome.values())
        below = (1 - np.clip(self.hull["right"] + self.hull["left"], 0, 1)) * (c.y > top) * (np.abs(c.x) < w)
        belly = 0.33 * c.blur(below.astype(np.float32), 0.005)
        middle = 0.38 * c.blur(self.mediastinum, 0.0045) * np.clip(c.y * 6, 0, 1)
        density = (0.40 + np.maximum(belly, middle)) * body
        density -= 0.27 * c.blur(lungs, 0.004) * (0.86 + 0.2 * (1 - c.y))
        density += 0.05 * body * np.exp(-((np.abs(c.x) - 0.3) ** 2 + (c.y - 0.15) ** 2) / 0.008)  # shoulders
        windpipe = curve(
            [(-0.019, -0.05), (0.021, -0.05), (0.02, 0.34), (0.055, 0.42), (0.0, 0.37), (-0.045, 0.42), (-0.02, 0.34)]
        )
        density -= 0.17 * c.blur(c.fill(windpipe), 0.006)
        if rng.random() < 0.7:  # gas in the stomach
            x, y = rng.uniform(0.14, 0.24), self.dome["left"] + rng.uniform(0.065, 0.09)
            gas = np.exp(-((((c.x - x) / 0.075) ** 2 + ((c.y - y) / 0.03) ** 2) ** 2))
            density -= 0.17 * gas * (1 - self.hull["left"])
        if anatomy.female:
            for x in (-0.55 * w, 0.55 * w):
                r = np.hypot((c.x - x) / 0.17, (c.y - 0.63) / 0.17)
                density += 0.07 * _inside(r - 1, 0.045) * np.clip((c.y - 0.45) * 5, 0, 1)
        return density

    def _draw_bones(self, anatomy: Anatomy) -> np.ndarray:
        c, w = self.canvas, self.half_width
        bend = 0.035 * SIGN.get(anatomy.scoliosis, 0.0) * np.sin(np.pi * np.clip(c.y, 0, 1)) ** 2
        across = np.abs(c.x - bend)
        disc = 0.5 + 0.5 * np.cos(2 * np.pi * (c.y * 17 + anatomy.ribs))
        spine = (0.05 + 0.05 * disc) * _inside(across - 0.047, 0.004)
        spine += 0.045 * np.exp(-(((across - 0.028) / 0.009) ** 2)) * disc**3  # pedicles
        t = np.abs(c.x) / w
        cage = c.blur(np.maximum(self.hull["right"], self.hull["left"]), 0.012)
        cage = np.clip(cage * 1.6, 0, 1) * 0.85 + 0.15 * (t < 1.03) * (c.y > 0.3)
        spacing = 0.078
        behind = (c.y + 0.10 * t - 0.25 * t**2) / spacing + anatomy.ribs
        before = (c.y + 0.34 * t + 0.05 * np.cos(3 * t)) / (1.15 * spacing) + anatomy.ribs
        ribs = 0.072 * _rib(behind, 0.2) * (t > 0.1)
        ribs += 0.055 * _rib(before, 0.19) * np.clip((t - 0.42) * 8, 0, 1)
        bones = spine + ribs * cage
        for sign in SIGN.values():
            medial, lateral = sign * 0.035, sign * (w + 0.01)
            path = curve([(medial, 0.2), (sign * 0.13, 0.175), (sign * 0.27, 0.15), (lateral, 0.105)], closed=False)
            clavicle = c.lines(path[None], 0.034)
            marrow = c.lines(path[None], 0.018)
            bones += c.blur(0.13 * clavicle - 0.05 * marrow, 0.002)
            blade = curve(
                [(sign * (w - 0.04), 0.19), (sign * (w - 0.055), 0.3), (sign * (w - 0.025), 0.47)], closed=False
            )
            bones += 0.045 * c.blur(c.lines(blade[None], 0.02), 0.005)
            head = np.hypot(c.x - sign * (w + 0.075), c.y - 0.17)
            bones += 0.09 * _inside(head - 0.06, 0.004)
        return bones

    def _draw_vessels(self, rng: np.random.Generator) -> np.ndarray:
        c = self.canvas
        sign = np.repeat([-1.0, 1.0], 9)
        angle = np.tile(np.linspace(-1.25, 1.25, 9), 2) + rng.normal(0, 0.1, 18)
        start = np.stack([0.08 * sign, 0.43 + 0.05 * np.sin(angle) - 0.0075 * sign], axis=-1)
        length, vessels = rng.uniform(0.08, 0.13, 18), np.zeros_like(c.x)
        for width, weight in ((0.013, 0.09), (0.008, 0.08), (0.005, 0.06), (0.003, 0.05)):  # each forks into two
            end = start + length[:, None] * np.stack([sign * np.cos(angle), np.sin(angle)], axis=-1)
            drawn = c.lines(np.stack([start, end], axis=1), width)
            vessels = np.maximum(vessels, weight * drawn)
            sign, start, angle, length = (np.repeat(part, 2, axis=0) for part in (sign, end, angle, length))
            angle = angle + np.tile([-0.33, 0.3], len(angle) // 2) + rng.normal(0, 0.12, len(angle))
            length = length * rng.uniform(0.6, 0.85, len(length))
        hila = sum(np.exp(-(((c.x - s * 0.088) / 0.028) ** 2 + ((c.y - 0.435) / 0.055) ** 2)) for s in SIGN.values())
        lungs = np.clip(self.lung["right"] + self.lung["left"], 0, 1)
        return (c.blur(vessels, 0.003) + 0.1 * hila) * lungs


def _inside(beyond: np.ndarray, softness: float) -> np.ndarray:
    """1 where ``beyond`` the edge is negative, 0 where it is positive, with a soft step between."""
    return 0.5 - 0.5 * np.tanh(beyond / (2 * softness))


def _rib(phase: np.ndarray, half: float) -> np.ndarray:
    """The profile of ribs, one a unit of phase: a plateau with brighter edges."""
    distance = np.abs(phase - np.round(phase))
    return _inside(distance - half, 0.022) * (0.72 + 0.45 * np.exp(-(((distance - half + 0.03) / 0.05) ** 2)))


def expose(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Sum the layers and take the picture: uint8 (size, size), dense is bright."""
    c = chest.canvas
    gain, gamma, noise = rng.uniform(0.85, 1.18), rng.uniform(0.85, 1.3), rng.uniform(0.006, 0.02)
    fog = rng.normal(0, 0.012, size=(4, 4)).astype(np.float32)
    fog = np.asarray(Image.fromarray(fog).resize((c.size, c.size), Image.Resampling.BICUBIC))
    density = c.blur(chest.density + chest.vessels, 0.0022) + fog
    grain = rng.standard_normal((c.size, c.size)).astype(np.float32)
    light = np.clip(gain * density + 0.03, 0, None)
    light = 1.12 * (1 - np.exp(-1.7 * light**gamma))
    light += noise * grain * (0.6 + light)
    return np.round(np.clip(light, 0, 1) * 255).astype(np.uint8)
