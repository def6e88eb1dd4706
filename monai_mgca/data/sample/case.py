# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What is to be seen in a study of the built-in sample: the patient's anatomy and the findings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["CLASSES", "Anatomy", "Finding", "draw_anatomy", "draw_findings"]

CLASSES = ("opacity", "effusion", "pneumothorax", "cardiomegaly", "nodule", "device")

SIDES = ("right", "left")
ZONES = ("upper", "mid", "lower")
SIZES = ("small", "moderate", "large")
PATTERNS = ("patchy", "confluent", "hazy")
DEVICES = ("endotracheal tube", "enteric tube", "central line", "pacemaker", "chest tube")

_NORMAL_SHARE = 0.18
_PAIR_SHARE = 0.36  # of the studies that are not normal
_SINGLE_SHARE = (0.21, 0.2, 0.15, 0.15, 0.15, 0.14)  # of CLASSES, for every finding drawn


@dataclass(frozen=True)
class Anatomy:
    """What stays the same in all studies of a patient.

    Args:
        female: breast shadows lie over the lower lungs.
        width: of the chest, about 1.
        volume: of the lungs: "low", "normal" or "large".
        heart: cardiothoracic ratio without cardiomegaly, 0.40 to 0.47.
        aorta: True for a prominent aortic knob.
        scoliosis: side to which the spine bends, or "".
        raised: side of a raised half of the diaphragm, or "".
        ribs: phase of the ribs' positions, 0 to 1.
    """

    female: bool
    width: float
    volume: str
    heart: float
    aorta: bool
    scoliosis: str
    raised: str
    ribs: float


@dataclass(frozen=True)
class Finding:
    """One finding as both the image and the report show it.

    Args:
        kind: one of ``CLASSES``.
        side: the patient's "left" or "right", or "" where there is none.
        zone: "upper", "mid" or "lower" of an opacity or a nodule, else "".
        size: "small", "moderate" or "large"; the degree of a cardiomegaly; "" for a device.
        form: pattern of an opacity or type of a device, else "".
        millimeters: diameter of a nodule, else 0.
    """

    kind: str
    side: str = ""
    zone: str = ""
    size: str = ""
    form: str = ""
    millimeters: int = 0


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a patient."""
    sides = ("", "", "", "", "", *SIDES)  # mostly straight and level
    return Anatomy(
        female=bool(rng.random() < 0.5),
        width=float(rng.uniform(0.93, 1.06)),
        volume=_pick(rng, ("low", "normal", "normal", "large")),
        heart=float(rng.uniform(0.40, 0.47)),
        aorta=bool(rng.random() < 0.25),
        scoliosis=_pick(rng, sides),
        raised=_pick(rng, sides),
        ribs=float(rng.random()),
    )


def _draw_finding(kind: str, rng: np.random.Generator) -> Finding:
    side, zone, size = _pick(rng, SIDES), _pick(rng, ZONES), _pick(rng, SIZES)
    if kind == "opacity":
        return Finding(kind, side, zone, size, _pick(rng, PATTERNS))
    if kind == "nodule":
        low, high = {"small": (10, 14), "moderate": (16, 22), "large": (24, 30)}[size]
        return Finding(kind, side, zone, size, millimeters=2 * int(rng.integers(low // 2, high // 2 + 1)))
    if kind == "device":
        form = _pick(rng, DEVICES)
        return Finding(kind, "" if form in DEVICES[:2] else side, form=form)
    return Finding(kind, "" if kind == "cardiomegaly" else side, size=size)


def draw_findings(rng: np.random.Generator) -> tuple[Finding, ...]:
    """Draw none, one or two findings; two are of different kinds."""
    if rng.random() < _NORMAL_SHARE:
        return ()
    count = 2 if rng.random() < _PAIR_SHARE else 1
    kinds = rng.choice(len(CLASSES), size=count, replace=False, p=_SINGLE_SHARE)
    findings = [_draw_finding(CLASSES[int(kind)], rng) for kind in sorted(kinds)]
    if count == 2 and findings[0].side == findings[1].side != "" and findings[1].kind != "device":
        other = SIDES[1 - SIDES.index(findings[0].side)]  # or one would hide the other
        findings[1] = replace(findings[1], side=other)
    return tuple(findings)
