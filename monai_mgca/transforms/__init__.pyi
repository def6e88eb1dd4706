# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from .area_spacing import AreaSpacing, AreaSpacingD, AreaSpacingd, AreaSpacingDict
from .box_coordinates import (
    MapBoxesD,
    MapBoxesd,
    MapBoxesDict,
    RememberAffineAgaind,
    RememberAffineD,
    RememberAffined,
    RememberAffineDict,
    RestoreBoxesD,
    RestoreBoxesd,
    RestoreBoxesDict,
    map_boxes,
    restore_boxes,
)
from .box_mask import (
    BoxesToMask,
    BoxesToMaskD,
    BoxesToMaskd,
    BoxesToMaskDict,
    MaskToBoxes,
    MaskToBoxesD,
    MaskToBoxesd,
    MaskToBoxesDict,
)
from .calibrate_probabilities import (
    CalibrateProbabilitiesD,
    CalibrateProbabilitiesd,
    CalibrateProbabilitiesDict,
    calibrate,
    calibrate_all,
    decision_thresholds,
)
from .clean_report import CleanReport, CleanReportD, CleanReportd, CleanReportDict
from .crop_boxes import RandCropByBoxesD, RandCropByBoxesd, RandCropByBoxesDict
from .crop_patches import RandCropByMasksD, RandCropByMasksd, RandCropByMasksDict
from .default_steps import default_preprocessing, describe_default
from .encode_report import EncodeReportd
from .invert_probabilities import InvertProbabilitiesd
from .load_mask import LoadMask, LoadMaskD, LoadMaskd, LoadMaskDict
from .load_radiograph import LoadRadiograph, LoadRadiographD, LoadRadiographd, LoadRadiographDict
from .load_volume import LoadVolume, LoadVolumeD, LoadVolumed, LoadVolumeDict
from .preprocessing import compare_preprocessing, describe_preprocessing, restore_preprocessing, trained_preprocessing
from .save_mask import SaveMaskD, SaveMaskd, SaveMaskDict
from .select_sentences import RandSelectSentencesD, RandSelectSentencesd, RandSelectSentencesDict
from .tokenize_report import TokenizeReport, TokenizeReportD, TokenizeReportd, TokenizeReportDict
from .uncertain_labels import (
    ResolveUncertainLabels,
    ResolveUncertainLabelsD,
    ResolveUncertainLabelsd,
    ResolveUncertainLabelsDict,
)

__all__ = [
    "AreaSpacing",
    "AreaSpacingD",
    "AreaSpacingDict",
    "AreaSpacingd",
    "BoxesToMask",
    "BoxesToMaskD",
    "BoxesToMaskDict",
    "BoxesToMaskd",
    "CalibrateProbabilitiesD",
    "CalibrateProbabilitiesDict",
    "CalibrateProbabilitiesd",
    "CleanReport",
    "CleanReportD",
    "CleanReportDict",
    "CleanReportd",
    "EncodeReportd",
    "InvertProbabilitiesd",
    "LoadMask",
    "LoadMaskD",
    "LoadMaskDict",
    "LoadMaskd",
    "LoadRadiograph",
    "LoadRadiographD",
    "LoadRadiographDict",
    "LoadRadiographd",
    "LoadVolume",
    "LoadVolumeD",
    "LoadVolumeDict",
    "LoadVolumed",
    "MapBoxesD",
    "MapBoxesDict",
    "MapBoxesd",
    "MaskToBoxes",
    "MaskToBoxesD",
    "MaskToBoxesDict",
    "MaskToBoxesd",
    "RandCropByBoxesD",
    "RandCropByBoxesDict",
    "RandCropByBoxesd",
    "RandCropByMasksD",
    "RandCropByMasksDict",
    "RandCropByMasksd",
    "RandSelectSentencesD",
    "RandSelectSentencesDict",
    "RandSelectSentencesd",
    "RememberAffineAgaind",
    "RememberAffineD",
    "RememberAffineDict",
    "RememberAffined",
    "ResolveUncertainLabels",
    "ResolveUncertainLabelsD",
    "ResolveUncertainLabelsDict",
    "ResolveUncertainLabelsd",
    "RestoreBoxesD",
    "RestoreBoxesDict",
    "RestoreBoxesd",
    "SaveMaskD",
    "SaveMaskDict",
    "SaveMaskd",
    "TokenizeReport",
    "TokenizeReportD",
    "TokenizeReportDict",
    "TokenizeReportd",
    "calibrate",
    "calibrate_all",
    "compare_preprocessing",
    "decision_thresholds",
    "default_preprocessing",
    "describe_default",
    "describe_preprocessing",
    "map_boxes",
    "restore_boxes",
    "restore_preprocessing",
    "trained_preprocessing",
]
