# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .adapter_files import merge_adapters, write_adapters
from .calibration_file import read_calibration, write_calibration
from .encoder_weights import load_encoder, load_timm_vit, load_torchvision_resnet
from .federated import trained_settings, weights_are_sent
from .finetuning_start import find_pretrained, freeze_encoder, start_encoder
from .library_weights import default_image_weights, load_library_weights
from .model_settings import read_model_settings, refuse_sample
from .network_weights import describe_start, load_image_weights, load_network
from .official_conversion import convert_official_checkpoint
from .outlier_file import outlier_path, read_outlier_score, write_outlier_score
from .positions import interpolate_positions

__all__ = [
    "convert_official_checkpoint",
    "default_image_weights",
    "describe_start",
    "find_pretrained",
    "freeze_encoder",
    "interpolate_positions",
    "load_encoder",
    "load_image_weights",
    "load_library_weights",
    "load_network",
    "load_timm_vit",
    "load_torchvision_resnet",
    "merge_adapters",
    "outlier_path",
    "read_calibration",
    "read_model_settings",
    "read_outlier_score",
    "refuse_sample",
    "start_encoder",
    "trained_settings",
    "weights_are_sent",
    "write_adapters",
    "write_calibration",
    "write_outlier_score",
]
