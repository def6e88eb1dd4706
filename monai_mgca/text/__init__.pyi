# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .sections import join_report, report_from_text, split_sections

__all__ = [
    "join_report",
    "report_from_text",
    "split_sections",
]
