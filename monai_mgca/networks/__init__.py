# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

from .classifier import RadiographClassifier, create_classifier
from .detector import DetectorMaps, RadiographDetector, create_detector
from .encoder_sizes import create_image_encoder, fitting_size
from .finetune import find_pretrained, freeze_encoder, start_encoder
from .image_encoder import ImageFeatures, ResNetImageEncoder, ViTImageEncoder
from .matching import AttentionMatcher, attention_to_weights, soft_match
from .mgca import MGCA, ImageEmbedder
from .micro_batch import check_micro_batches, encode_in_micro_batches
from .norm import synchronize_batch_norm
from .official import convert_official_checkpoint
from .pretrained import describe_start, load_image_weights, load_network
from .projection import ProjectionHead
from .pyramid import SimpleFeaturePyramid, create_pyramid
from .report_encoder import ReportEncoder
from .segmenter import PUPSegmenter, create_segmenter
from .transfer import load_encoder, load_timm_vit, load_torchvision_resnet
from .unused import freeze_unused
from .words import aggregate_words

__all__ = [
    "MGCA",
    "AttentionMatcher",
    "DetectorMaps",
    "ImageEmbedder",
    "ImageFeatures",
    "PUPSegmenter",
    "ProjectionHead",
    "RadiographClassifier",
    "RadiographDetector",
    "ReportEncoder",
    "ResNetImageEncoder",
    "SimpleFeaturePyramid",
    "ViTImageEncoder",
    "aggregate_words",
    "attention_to_weights",
    "check_micro_batches",
    "convert_official_checkpoint",
    "create_classifier",
    "create_detector",
    "create_image_encoder",
    "create_pyramid",
    "create_segmenter",
    "describe_start",
    "encode_in_micro_batches",
    "find_pretrained",
    "fitting_size",
    "freeze_encoder",
    "freeze_unused",
    "load_encoder",
    "load_image_weights",
    "load_network",
    "load_timm_vit",
    "load_torchvision_resnet",
    "soft_match",
    "start_encoder",
    "synchronize_batch_norm",
]
