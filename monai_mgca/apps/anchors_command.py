# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Fits anchors for a detector to the boxes of a data set: ``mgca anchors DATALIST --image-size N``.

Of volumes, whose boxes are in millimeters: ``mgca anchors DATALIST --voxel-size MM``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from monai_mgca.utils.arguments import ArgumentParser
from monai_mgca.utils.console import log_to_console, say
from monai_mgca.utils.errors import DataError
from monai_mgca.utils.extras import require_extra

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the anchors that fit a datalist's boxes, as options of the detection configs.

    Returns:
        0; 2 when the input is wrong.
    """
    log_to_console()
    parser = ArgumentParser(
        prog="mgca anchors", description=__doc__, examples="mgca anchors dataset.json --image-size 224"
    )
    parser.add_argument("datalist", metavar="DATALIST")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--image-size", type=int, metavar="N", help="pixels of the detector's images")
    size.add_argument("--voxel-size", type=float, metavar="MM", help="of volumes: millimeters of the detector's voxels")
    parser.add_argument("--dataset-dir", metavar="DIR", help="the folder of the images (default: the datalist's own)")
    parser.add_argument("--levels", type=int, default=3, help="levels of the detector's pyramid (default: 3)")
    parser.add_argument("--per-level", type=int, default=2, metavar="N", help="sizes at each level (default: 2)")
    parser.add_argument("--ratios", type=int, default=3, metavar="N", help="ratios of all levels (default: 3)")
    args = parser.parse_args(argv)
    from monai_mgca.apps.anchors import fit_anchors, read_box_sizes, read_volume_box_sizes

    try:
        require_extra("probe", "Fitting anchors", "sklearn")
        if args.voxel_size is None:
            sizes = read_box_sizes(args.datalist, args.image_size, args.dataset_dir)
        else:
            sizes = read_volume_box_sizes(args.datalist, args.voxel_size, args.dataset_dir)
        anchors = fit_anchors(sizes, args.levels, args.per_level, args.ratios)
    except DataError as e:
        say(f"error: {e}", file=sys.stderr)
        return 2
    say(f"{len(sizes)} boxes of the training images; they overlap the best fitting anchor by {anchors.overlap:.2f}.")
    say(f'--anchor_sizes "{anchors.sizes}" --anchor_ratios "{anchors.ratios}"')
    return 0
