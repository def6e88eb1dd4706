# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .adaptation.adapt_towers import adapt_towers
from .adaptation.average_weights import average_weights
from .adaptation.layer_decay import parameter_groups
from .adaptation.locking import lock_tower
from .adaptation.lora import add_adapters, merged_state
from .adaptation.tower_groups import find_groups
from .adapters.adapted_encoder import AdaptedImageEncoder
from .adapters.library_encoder import rebuilding_name
from .adapters.monai_encoder import MONAIImageEncoder
from .adapters.timm_encoder import TimmImageEncoder
from .adapters.transformers_encoder import TransformersImageEncoder
from .classifier import RadiographClassifier, create_classifier
from .detection.detector import DetectorMaps, create_detector
from .detection.pyramid import SimpleFeaturePyramid, StagePyramid, create_pyramid
from .detection.retinanet import RadiographDetector, VolumeDetector
from .encoder_names import EncoderName, format_encoder_name, parse_encoder_name
from .encoder_sizes import create_image_encoder, fitting_size, official_name, register_image_encoder, wanted_size
from .image_embedder import ImageEmbedder
from .image_encoder import ImageEncoder, ImageFeatures, ResNetImageEncoder, ViTImageEncoder
from .last_attention import LastAttention
from .matching import AttentionMatcher, attention_to_weights, soft_match
from .mgca import MGCA
from .micro_batch import check_micro_batches, encode_in_micro_batches
from .norm import synchronize_batch_norm
from .projection import ProjectionHead
from .report_encoder import ReportEncoder
from .segmenter import PUPSegmenter, StageSegmenter, create_segmenter
from .unused import freeze_unused
from .windows import WindowEncoder, encode_windows
from .word_pooling import aggregate_words, project_words, report_extent

__all__ = [
    "MGCA",
    "AdaptedImageEncoder",
    "AttentionMatcher",
    "DetectorMaps",
    "EncoderName",
    "ImageEmbedder",
    "ImageEncoder",
    "ImageFeatures",
    "LastAttention",
    "MONAIImageEncoder",
    "PUPSegmenter",
    "ProjectionHead",
    "RadiographClassifier",
    "RadiographDetector",
    "ReportEncoder",
    "ResNetImageEncoder",
    "SimpleFeaturePyramid",
    "StagePyramid",
    "StageSegmenter",
    "TimmImageEncoder",
    "TransformersImageEncoder",
    "ViTImageEncoder",
    "VolumeDetector",
    "WindowEncoder",
    "adapt_towers",
    "add_adapters",
    "aggregate_words",
    "attention_to_weights",
    "average_weights",
    "check_micro_batches",
    "create_classifier",
    "create_detector",
    "create_image_encoder",
    "create_pyramid",
    "create_segmenter",
    "encode_in_micro_batches",
    "encode_windows",
    "find_groups",
    "fitting_size",
    "format_encoder_name",
    "freeze_unused",
    "lock_tower",
    "merged_state",
    "official_name",
    "parameter_groups",
    "parse_encoder_name",
    "project_words",
    "rebuilding_name",
    "register_image_encoder",
    "report_extent",
    "soft_match",
    "synchronize_batch_norm",
    "wanted_size",
]
