# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Fits a calibration, reports and draws what it is worth, and writes it beside the weights: ``mgca calibrate``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_mgca.apps.calibrate.fit_scores import HeldOut, choose_method, fit_scores, measure_held_out, too_few
from monai_mgca.apps.calibrate.scores import Scores, compute_scores
from monai_mgca.io.csv_file import write_csv
from monai_mgca.metrics.operating_points import parse_point
from monai_mgca.options import bundle_root
from monai_mgca.utils import DataError
from monai_mgca.utils.console import say
from monai_mgca.utils.extras import require_extra
from monai_mgca.visualize.plot_reliability import draw_reliability, has_matplotlib
from monai_mgca.weights import write_calibration

__all__ = ["calibrate_weights"]

DECISIONS = tuple(f"{rate}{end}" for rate in ("sensitivity", "specificity") for end in ("", "_low", "_high"))
COLUMNS = ("finding", "positives", "negatives", "ece_before", "ece", "threshold", *DECISIONS, "note")
FEW = "too few patients to hold some out"


def calibrate_weights(args: argparse.Namespace) -> list[str]:
    """Fit the calibration of weights to a section, and write it beside them, with a table and a picture of its worth.

    Args:
        args: of ``mgca calibrate``.

    Returns:
        The paths of the calibration, the table and, where matplotlib is installed, the picture.

    Raises:
        CheckpointError: when the weights cannot be read.
        DataError: when the options or the data do not fit, or no finding can be calibrated.
    """
    require_extra("probe", "Fitting a calibration", "sklearn")
    try:
        parse_point(args.point)
    except ValueError as error:
        raise DataError(f"--point: {error}") from None
    if args.fewest < 2:
        raise DataError(f"--fewest must be at least 2, got {args.fewest}.")
    args.checkpoint = args.checkpoint or f"{bundle_root()}/models/model_pretrain.pt"
    args.prompts = args.prompts or f"{bundle_root()}/configs/prompts.json"
    output = Path(args.output or f"{bundle_root()}/eval/calibration/calibration.csv")
    scores = compute_scores(args)
    method = choose_method(scores, args.method)
    findings, reasons = _fit(scores, method, args)
    held = {name: measure_held_out(scores, scores.classes.index(name), method, args.point) for name in findings}
    rows = [_row(name, findings[name], held[name]) for name in findings]
    _report(rows, reasons, len(scores.labels), method, args)
    kept = {"method": method, "label_mode": scores.label_mode, "section": args.section, "point": args.point}
    written = [str(write_calibration(args.checkpoint, {**kept, "findings": findings})), str(output)]
    notes = [{"finding": name, "note": reason} for name, reason in reasons.items()]
    write_csv(output, [COLUMNS, *([_cell(row.get(key, "")) for key in COLUMNS] for row in [*rows, *notes])])
    known = {name: part for name, part in held.items() if part is not None}
    if not known or not has_matplotlib:
        return written
    picture = output.with_suffix(".png")
    panels = {
        name: {"before": (part.before, part.label), method: (part.after, part.label)} for name, part in known.items()
    }
    draw_reliability(picture, panels)
    return [*written, str(picture)]


def _fit(scores: Scores, method: str, args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """The numbers of each finding, and why others have none."""
    findings, reasons = {}, too_few(scores, args.fewest)
    if reasons and scores.label_mode == "multiclass":
        lines = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise DataError(f"Multiclass scores are calibrated together ({lines}): give more images, or a lower --fewest.")
    for column, name in enumerate(scores.classes):
        if name in reasons:
            continue
        try:
            findings[name] = fit_scores(scores, column, method, args.point)
        except ValueError as error:
            reasons[name] = str(error).removesuffix(".")
    if not findings:
        lines = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise DataError(
            f"No finding of section '{args.section}' of {args.datalist} can be calibrated ({lines}): give more labeled "
            "images, or a lower --fewest."
        )
    return findings, reasons


def _row(name: str, numbers: Mapping[str, Any], held: HeldOut | None) -> dict[str, Any]:
    row = {"finding": name, **{key: numbers[key] for key in ("positives", "negatives", "threshold")}}
    if held is None:
        return {**row, "note": FEW}
    before, after = held.errors()
    return {**row, "ece_before": before, "ece": after, **held.decisions(), "note": ""}


def _report(
    rows: Sequence[Mapping[str, Any]], reasons: Mapping[str, str], images: int, method: str, args: argparse.Namespace
) -> None:
    say(f"Fitted on {images} images ({args.section}) by {method}; decisions at {args.point}. Calibration errors (ten")
    say("bins), sensitivity and specificity with 95 % intervals are of patients held out, a fifth at a time:")
    width = max(len("finding"), *(len(row["finding"]) for row in rows))
    head = f"{'with':>6s} {'without':>8s} {'before':>7s} {'after':>6s} {'threshold':>10s}"
    say(f"{'finding':{width}s} {head}  {'sensitivity':20s}  {'specificity':20s}")
    for row in rows:
        begin = f"{row['finding']:{width}s} {row['positives']:6d} {row['negatives']:8d}"
        if row["note"]:
            say(f"{begin} {'':14s} {row['threshold']:10.4f}  {row['note']}")
            continue
        sensitivity, specificity = (
            f"{row[key]:.3f} ({row[f'{key}_low']:.3f} to {row[f'{key}_high']:.3f})"
            for key in ("sensitivity", "specificity")
        )
        figures = f"{row['ece_before']:7.3f} {row['ece']:6.3f} {row['threshold']:10.4f}"
        say(f"{begin} {figures}  {sensitivity:20s}  {specificity}")
    for name, reason in reasons.items():
        say(f"not calibrated: {name}: {reason}")


def _cell(value: Any) -> Any:
    return f"{value:.6f}" if isinstance(value, float) else value
