# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""DICOM files: opening, checking, decoding, and displaying them, and series of slices."""
