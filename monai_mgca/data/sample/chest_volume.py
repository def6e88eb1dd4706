# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Draw a chest CT: the normal anatomy in Hounsfield units, and the findings of a study, each with its mask."""

from __future__ import annotations

import numpy as np

from .canvas import SIGN
from .case import Anatomy, Finding
from .findings import HEART_RATIO
from .volume_canvas import VolumeCanvas

__all__ = ["draw_volume"]

_VOLUME = {"low": 14.0, "normal": 0.0, "large": -12.0}  # millimeters that the diaphragm is higher
_HEIGHT = {"upper": 75.0, "mid": 20.0, "lower": -35.0}  # of the zones
_PART = {"small": 0.1, "moderate": 0.25, "large": 0.5}  # of a lung that fluid or air takes
_RADIUS = {"small": 20.0, "moderate": 32.0, "large": 44.0}  # of an opacity
_SEEN = 0.25  # the share of lung in a voxel from which on a lesion in it is to be seen
_PATTERN = {"patchy": 0.0, "confluent": 30.0, "hazy": -500.0}  # Hounsfield units


class ChestVolume:
    """A normal chest on its canvas, and the shares of each voxel that the lungs fill, which findings are drawn in.

    ``lung`` is by side, and what findings are drawn in; ``lungs`` is what is to be seen of both, ``heart`` of it.

    Args:
        canvas: where to draw.
        anatomy: of the patient.
        heart_ratio: cardiothoracic ratio to draw.
        rng: draws the vessels.
    """

    def __init__(self, canvas: VolumeCanvas, anatomy: Anatomy, heart_ratio: float, rng: np.random.Generator) -> None:
        self.canvas, self.anatomy, self.half = canvas, anatomy, 140.0 * anatomy.width
        c, rounding = canvas, np.clip((130.0 - canvas.z) / 90.0, 1e-3, 1.0)
        narrow = np.sqrt(1 - (1 - rounding) ** 2)  # towards the apex
        # millimeters outside of the cage, about
        self.beyond = (np.hypot(c.x / self.half, c.y / 92.0) - narrow) * 92.0
        self.dome = {side: self._dome(side) for side in SIGN}
        self._draw_body()
        below = np.where(c.x < 0, self.dome["right"], self.dome["left"])
        cavity = c.inside(np.maximum(self.beyond, below - c.z))
        spine, heart = self._spine(), self._heart(heart_ratio)
        middle = c.inside(np.maximum(np.hypot(c.x / 27.0, c.y / 85.0) * 27 - 27, c.z - 140))
        middle = np.maximum(np.maximum(middle, heart), spine)
        self.lung = {side: cavity * (1 - middle) * (sign * c.x > 0) for side, sign in SIGN.items()}
        lungs = self.lung["right"] + self.lung["left"]
        self.lungs, self.heart = lungs.copy(), heart * cavity
        c.paint(cavity * middle, 20.0)
        c.paint(lungs, -860.0)
        c.paint(heart, 45.0)
        self._draw_bones(spine)
        self._draw_vessels(lungs, rng)
        self._draw_airways()

    def cover(self, share: np.ndarray, hu: float | np.ndarray) -> None:
        """Put what is no lung over what is there, as :meth:`VolumeCanvas.paint`."""
        self.canvas.paint(share, hu)
        self.lungs -= share * self.lungs

    def _dome(self, side: str) -> np.ndarray:
        """Heights of half of the diaphragm, a dome with its recesses at the wall."""
        c, top = self.canvas, -55.0 + _VOLUME[self.anatomy.volume] + (6.0 if side == "right" else 0.0)
        top += 38.0 if side == self.anatomy.raised else 0.0
        return top - 55.0 * (((c.x - SIGN[side] * 0.5 * self.half) / self.half) ** 2 * 2 + (c.y / 92.0) ** 2)

    def _draw_body(self) -> None:
        c = self.canvas
        neck = np.clip((c.z - 130.0) / 60.0, 0.0, 1.0)
        wide, deep = (self.half + 42.0) * (1 - neck) + 62.0 * neck, 126.0 * (1 - neck) + 62.0 * neck
        skin = (np.hypot(c.x / wide, c.y / deep) - 1) * deep
        if self.anatomy.female:
            for sign in SIGN.values():
                breast = np.sqrt((c.x - sign * 75) ** 2 + (c.y - 105) ** 2 + (c.z - 5) ** 2) - 52
                skin = np.minimum(skin, breast)
        c.paint(c.inside(skin), -100.0)  # fat under the skin
        c.paint(c.inside(np.maximum(self.beyond - 24.0, skin + 9.0)), 45.0)  # muscle and belly

    def _heart(self, ratio: float) -> np.ndarray:
        reach = ratio * self.half
        bottom = -55.0 + _VOLUME[self.anatomy.volume]
        return self.canvas.ellipsoid((0.38 * reach, 28.0, bottom + 0.5 * reach), (reach, 0.78 * reach, 0.85 * reach))

    def _spine(self) -> np.ndarray:
        c = self.canvas
        bend = 16.0 * SIGN.get(self.anatomy.scoliosis, 0.0) * np.cos(np.pi * c.z / 300.0)
        return c.inside(np.hypot(c.x - bend, c.y + 82.0) - 19.0)

    def _draw_bones(self, spine: np.ndarray) -> None:
        c, anatomy = self.canvas, self.anatomy
        phase = (c.z + 0.35 * c.y) / 27.0 + anatomy.ribs
        ribs = np.clip(3 * np.cos(2 * np.pi * phase) - 0.5, 0.0, 1.0) * (c.z < 125) * (c.z > -150)
        self.cover(ribs * c.inside(np.abs(self.beyond - 8.0) - 5.0), 350.0)
        self.cover(spine, 160.0 + 90.0 * np.cos(2 * np.pi * (c.z / 30.0 + anatomy.ribs)))
        self.cover(c.tube((0.0, 96.0, -40.0), (0.0, 96.0, 95.0), 10.0), 250.0)  # sternum

    def _draw_vessels(self, lungs: np.ndarray, rng: np.random.Generator) -> None:
        c, wide = self.canvas, 17.0 if self.anatomy.aorta else 12.0
        self.cover(c.tube((22.0, -52.0, 62.0), (16.0, -52.0, -220.0), wide), 60.0)  # aorta, down
        self.cover(c.tube((-14.0, 22.0, 20.0), (-10.0, 18.0, 62.0), wide + 1.0), 60.0)  # up
        self.cover(c.tube((-10.0, 18.0, 62.0), (22.0, -52.0, 62.0), wide), 60.0)  # arch
        start = np.repeat([[sign * 32.0, -5.0, 12.0] for sign in SIGN.values()], 14, axis=0)
        direction = rng.standard_normal((28, 3)) * (0.5, 0.8, 0.9)
        direction[:, 0] = np.abs(direction[:, 0]) + 0.5
        direction[:, 0] *= np.sign(start[:, 0])
        share = np.zeros_like(c.values)
        for radius, length in ((4.0, 38.0), (2.8, 28.0), (2.0, 20.0), (1.4, 15.0)):  # each forks into two
            end = start + length * direction / np.linalg.norm(direction, axis=1, keepdims=True)
            share = np.maximum(share, c.threads(start, end, radius))
            start, direction = np.repeat(end, 2, axis=0), np.repeat(end - start, 2, axis=0) / length
            direction = direction + rng.normal(0.0, 0.45, direction.shape)
        c.paint(share * lungs, 40.0)

    def _draw_airways(self) -> None:
        c, fork = self.canvas, (0.0, -22.0, 42.0)
        self.cover(c.tube((0.0, -12.0, 220.0), fork, 9.0), -1000.0)
        for sign in SIGN.values():
            self.cover(c.tube(fork, (sign * 42.0, -20.0, 10.0), 6.5), -1000.0)

    def uppermost(self, side: str, rank: np.ndarray, part: float) -> np.ndarray:
        """The share of each voxel in that part of a lung where ``rank`` is highest."""
        lung = self.lung[side]
        rank = np.broadcast_to(rank, lung.shape)
        # a voxel that is half wall becomes all fluid, or a film of lung would stay between them
        return np.minimum(2 * lung, 1.0) * self.canvas.inside(np.quantile(rank[lung > 0.5], 1 - part) - rank)


def _draw_finding(chest: ChestVolume, finding: Finding, rng: np.random.Generator) -> np.ndarray:
    """Draw a finding over its chest, and give the mask of what it drew; a cardiomegaly is drawn with the heart."""
    c = chest.canvas
    if finding.kind == "effusion":  # the patient lies on the back
        fluid = chest.uppermost(finding.side, -c.y - 0.45 * c.z, _PART[finding.size])
        chest.cover(fluid, 8.0)
        return fluid > 0.5
    if finding.kind == "pneumothorax":
        part = _PART[finding.size]
        c.paint(chest.lung[finding.side] * 0.6, -860.0 + 900.0 * part)  # what is left of the lung is denser
        air = chest.uppermost(finding.side, c.y + 0.45 * c.z, part)
        c.paint(air, -1000.0)
        return air > 0.5
    if finding.kind in ("opacity", "nodule"):
        return _draw_lesion(chest, finding, rng)
    return chest.heart > 0.5


def _draw_lesion(chest: ChestVolume, finding: Finding, rng: np.random.Generator) -> np.ndarray:
    """A nodule or an opacity; what of it lies in the wall or under the diaphragm is hidden, and not in the mask."""
    c, lung = chest.canvas, chest.lung[finding.side]
    sign, height = SIGN[finding.side], _HEIGHT[finding.zone] + rng.normal(0.0, 6.0)
    center = (sign * chest.half * rng.uniform(0.45, 0.6), rng.uniform(-35.0, 25.0), height)
    if finding.kind == "nodule":
        radius = finding.millimeters / 2
        distance = c.distance(center, (radius,) * 3)
        c.paint(c.inside((distance - 1) * radius), 60.0)
        return (distance <= max(1.0, distance.min())) & (lung > _SEEN)  # at least the voxel it lies in
    share = c.ellipsoid(center, _RADIUS[finding.size] * rng.uniform(0.85, 1.15, size=3))
    if finding.form == "patchy":
        share = share * np.clip(1.5 * c.clouds(rng, 8.0) + 0.6, 0.0, 1.0)
    share = share * lung
    c.paint(share, _PATTERN[finding.form])
    return share > max(_SEEN, 0.5 * share.max())


def draw_volume(
    anatomy: Anatomy, findings: tuple[Finding, ...], size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Draw the CT of a study.

    Args:
        anatomy: of the patient.
        findings: of the study.
        size: voxels of an edge.
        rng: of the study.

    Returns:
        The volume, int16 (size, size, size) in Hounsfield units; the mask of the lungs, bool of the same shape: aerated
        or not, and the air of a pneumothorax, without heart, great vessels, main bronchi and pleural fluid; for every
        finding its mask, bool, which is empty where it is hidden under the diaphragm. The axes go to the patient's
        left, front and head.

    Example::

        import numpy as np
        from monai_mgca.data.sample.case import draw_anatomy, draw_findings

        rng = np.random.default_rng(0)
        values, lungs, masks = draw_volume(draw_anatomy(rng), draw_findings(rng), 32, rng)
        print(values.shape)  # (32, 32, 32)
    """
    ratios = [HEART_RATIO[finding.size] for finding in findings if finding.kind == "cardiomegaly"]
    chest = ChestVolume(VolumeCanvas(size, rng), anatomy, (ratios or [anatomy.heart])[0], rng)
    masks = [_draw_finding(chest, finding, rng) for finding in findings]
    values = chest.canvas.values + 25.0 * rng.standard_normal((size,) * 3, dtype=np.float32)
    return np.clip(np.round(values), -1024, 3071).astype(np.int16), chest.lungs > 0.5, masks
