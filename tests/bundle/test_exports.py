# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""MONAI's checks and exports of all networks, each with its own metadata, and PyTorch's own export.

What is traced or goes to ONNX is in test_bundle_outputs.py and test_finetuning.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ckpt_export, verify_net_in_out
from monai.data import load_net_with_metadata

from monai_mgca.data.sample.volumes import VOLUME_CLASSES

SIZE = 64
IN_3D = {"encoder": "resnet_tiny", "spatial_dims": 3, "classes": list(VOLUME_CLASSES)}
# metadata, configs, network, what it is built of
NETWORKS = {
    "embedder": ("metadata", ["inference"], "network_def", {"image_encoder": "resnet_tiny"}),
    "volume embedder": ("metadata_volume", ["inference", "inference_volume"], "network_def", {}),
    "segmenter": ("metadata_segmentation", ["inference_segmentation"], "network_def", {"encoder": "resnet_tiny"}),
    "volume segmenter": (
        *("metadata_segmentation_volume", ["inference_segmentation"], "network_def"),
        {**IN_3D, "image_size": 32, "classes": ["lung"]},
    ),
    "volume classifier": (
        *("metadata_classification_volume", ["inference_classification"], "network_def"),
        {**IN_3D, "image_size": 48},
    ),
    "detector": ("metadata_detection", ["inference_detection"], "export_def", {"encoder": "resnet_tiny"}),
    "classifier": ("metadata_classification", ["inference_classification"], "network_def", {"encoder": "resnet_tiny"}),
}


@dataclass
class Exported:
    """A network with random weights, what MONAI's functions are called with, and an image for it."""

    network: torch.nn.Module
    arguments: dict[str, Any]
    image: torch.Tensor
    metadata: dict[str, Any]

    def output(self) -> torch.Tensor:
        with torch.no_grad():
            return self.network(self.image)


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request, new_bundle):
    metadata, configs, net_id, options = NETWORKS[request.param]
    bundle = new_bundle()
    options = {**options} if "volume" in request.param else {**options, "image_size": SIZE}
    workflow = bundle.workflow(*configs, kind="infer", **options)
    workflow.parser.parse(reset=True)
    torch.manual_seed(0)
    network = workflow.parser.get_parsed_content(net_id).eval()
    files = [str(bundle.path("configs", f"{name}.json")) for name in configs]
    meta_file = bundle.path("configs", f"{metadata}.json")
    document = json.loads(meta_file.read_text())
    image = document["network_data_format"]["inputs"]["image"]
    if "volume" not in request.param:
        image["spatial_shape"] = options["_meta_#network_data_format#inputs#image#spatial_shape"] = [SIZE, SIZE]
    arguments = {
        **options,
        "net_id": net_id,
        "meta_file": str(meta_file),
        "config_file": files if len(files) > 1 else files[0],
        "bundle_root": str(bundle.root),
    }
    return Exported(network, arguments, torch.rand(2, image["num_channels"], *image["spatial_shape"]), document)


def test_what_goes_in_and_comes_out(exported):
    verify_net_in_out(device="cpu", **exported.arguments)
    described = exported.metadata["network_data_format"]["outputs"]["pred"]
    shape = [size for size in described["spatial_shape"] if size != 1]
    found = list(exported.output().shape)[2:]
    assert len(found) == len(shape)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_says_what_it_is(exported, tmp_path):
    """By scripting, as the model zoo's check does it."""
    weights, path = (str(tmp_path / name) for name in ("model.pt", "model.ts"))
    torch.save(exported.network.state_dict(), weights)
    ckpt_export(filepath=path, ckpt_file=weights, **exported.arguments)
    network, metadata, _ = load_net_with_metadata(path)
    assert metadata["network_data_format"] == exported.metadata["network_data_format"]
    assert metadata["name"] == exported.metadata["name"]
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(exported.image), exported.output(), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_pt2(exported, tmp_path):
    path: Path = tmp_path / "model.pt2"
    with torch.no_grad():
        torch.export.save(torch.export.export(exported.network, (exported.image,)), path)
        found = torch.export.load(path).module()(exported.image)
    torch.testing.assert_close(found, exported.output(), rtol=0, atol=1e-5)
