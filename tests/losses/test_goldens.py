# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The losses against the official code's numbers: tests/goldens, and all of ../shared/goldens where it is present."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from monai_mgca.losses import InstanceAlignmentLoss, MGCALoss, PrototypeAlignmentLoss, TokenAlignmentLoss, sinkhorn
from monai_mgca.losses.prototype import LARGE
from monai_mgca.networks import attention_to_weights, soft_match
from monai_mgca.utils import MGCAKeys as Keys

VENDORED = Path(__file__).resolve().parents[1] / "goldens"
SHARED = VENDORED.parents[2] / "shared" / "goldens"


def parameters() -> list:
    """A parameter a file; the learned matcher ("mha") is tested with the networks."""
    found = [path for pattern in ("loss_*.npz", "pipeline_*.npz") for path in sorted(VENDORED.glob(pattern))]
    names = {path.name for path in found}
    others = [path for pattern in ("loss_*.npz", "pipeline_*.npz") for path in sorted(SHARED.glob(pattern))]
    found += [path for path in others if path.name not in names]
    parameters = [pytest.param(path, id=path.stem) for path in found if "mha" not in path.name]
    if not others:
        skip = pytest.mark.skip(reason="the goldens of ../shared are not here")
        parameters.append(pytest.param(None, id="shared", marks=skip))
    return parameters


def load(path: Path, dtype: torch.dtype) -> SimpleNamespace:
    """One case: the normalized embeddings as leaves, the settings, and the official numbers."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    info = json.loads(arrays.pop("info_json").tobytes().decode())
    case = SimpleNamespace(arrays=arrays, settings=info["hparams"], losses=info["losses64"])
    for name in ("img", "report", "patch", "word", "prototypes"):
        raw = torch.from_numpy(arrays[f"in/{name}_raw"]).to(dtype)
        setattr(case, name, F.normalize(raw, dim=-1).requires_grad_())
    case.mask = ~torch.from_numpy(arrays["in/pad_mask"])
    case.word_weights = attention_to_weights(torch.from_numpy(arrays["in/word_attn_pre"]).to(dtype))
    heads = arrays.get("in/patch_attn_heads")
    case.patch_weights = None if heads is None else attention_to_weights(torch.from_numpy(heads).to(dtype).mean(1))
    return case


def outputs(case: SimpleNamespace) -> dict[str, torch.Tensor | None]:
    """What the network would give, as the official code has it: a ViT's image contexts are not normalized."""
    temperature = case.settings["local_temperature"]
    is_vit = case.patch_weights is not None
    result = {
        Keys.IMAGE_EMBEDDING: case.img,
        Keys.REPORT_EMBEDDING: case.report,
        Keys.WORD_TOKENS: case.word,
        Keys.WORD_CONTEXT: soft_match(case.word, case.patch, temperature),
        Keys.WORD_WEIGHTS: case.word_weights,
        Keys.WORD_MASK: case.mask,
        Keys.IMAGE_SCORES: case.img @ case.prototypes.T,
        Keys.REPORT_SCORES: case.report @ case.prototypes.T,
    }
    if case.settings["bidirectional"]:
        result[Keys.IMAGE_TOKENS] = case.patch
        result[Keys.IMAGE_CONTEXT] = soft_match(case.patch, case.word, temperature, case.mask, normalize=not is_vit)
        result[Keys.IMAGE_WEIGHTS] = case.patch_weights
    return result


def parts(case: SimpleNamespace) -> tuple:
    settings = case.settings
    return (
        InstanceAlignmentLoss(settings["softmax_temperature"]),
        TokenAlignmentLoss(settings["local_temperature"], mask_padding=False),
        PrototypeAlignmentLoss(settings["proto_temperature"], settings["epsilon"], settings["sinkhorn_iterations"]),
    )


def terms(case: SimpleNamespace) -> dict[str, torch.Tensor]:
    """The official terms by their names in the goldens."""
    output, (instance, token, prototype) = outputs(case), parts(case)
    found = {
        "ita": 2 * instance(output[Keys.IMAGE_EMBEDDING], output[Keys.REPORT_EMBEDDING]),
        "word": token(
            output[Keys.WORD_TOKENS], output[Keys.WORD_CONTEXT], output[Keys.WORD_WEIGHTS], output[Keys.WORD_MASK]
        ),
        "proto": prototype(output[Keys.IMAGE_SCORES], output[Keys.REPORT_SCORES]),
    }
    if case.settings["bidirectional"]:
        found["patch"] = token(output[Keys.IMAGE_TOKENS], output[Keys.IMAGE_CONTEXT], output[Keys.IMAGE_WEIGHTS])
    return found


def assert_near(found: torch.Tensor, expected: np.ndarray, bar: float, what: str) -> None:
    """Within ``bar`` of the largest expected entry."""
    found = found.detach().double().numpy()
    assert found.shape == expected.shape, what
    worst = np.abs(found - expected).max() / np.abs(expected).max()
    assert worst <= bar, f"{what}: relative difference {worst:.1e}, allowed {bar:.0e}"


@pytest.mark.parametrize("path", parameters())
def test_values_and_gradients_in_float64(path):
    case = load(path, torch.float64)
    found = terms(case)
    assert found.keys() == {name.split("__")[0].split("/g_")[1] for name in case.arrays if name.startswith("grad64/")}
    for name, value in found.items():
        bar = 5e-6 if name == "proto" else 1e-9
        assert value.item() == pytest.approx(case.losses[f"loss_{name}"], rel=bar, abs=0), name
        for key in (key for key in case.arrays if key.startswith(f"grad64/g_{name}__")):
            embedding = key.split("__")[1]
            leaf = getattr(case, "prototypes" if embedding == "proto" else embedding)
            (grad,) = torch.autograd.grad(value, leaf, retain_graph=True)
            assert_near(grad, case.arrays[key], 1e-5 if name == "proto" else 1e-8, key)


@pytest.mark.parametrize("path", parameters())
def test_values_in_float32(path):
    case = load(path, torch.float32)
    for name, value in terms(case).items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(case.losses[f"loss_{name}"], rel=2e-6, abs=0), name


@pytest.mark.parametrize("path", parameters())
def test_weights_and_codes(path):
    case = load(path, torch.float64)
    assert_near(case.word_weights, case.arrays["mid64/word_weights"], 1e-9, "word weights")
    if "mid64/patch_weights" in case.arrays:
        expected = case.arrays["mid64/patch_weights"]
        uniform = torch.full(expected.shape, 1 / expected.shape[1], dtype=torch.float64)  # a ResNet has no attention
        assert_near(uniform if case.patch_weights is None else case.patch_weights, expected, 1e-9, "patch weights")
    epsilon, iterations = case.settings["epsilon"], case.settings["sinkhorn_iterations"]
    for embedding, name in ((case.img, "img_code"), (case.report, "report_code")):
        codes = sinkhorn(embedding @ case.prototypes.T, epsilon, iterations)
        assert_near(codes, case.arrays[f"mid64/{name}"], 2e-6, name)


@pytest.mark.parametrize("path", parameters())
def test_official_total(path):
    case = load(path, torch.float64)
    loss = MGCALoss.official(bidirectional=case.settings["bidirectional"])
    assert not loss.token.mask_padding
    loss.instance, loss.token, loss.prototype = parts(case)
    expected = case.losses["loss_ita"] + case.losses["loss_local"] + case.losses["loss_proto"]
    assert loss(outputs(case)).item() == pytest.approx(expected, rel=2e-6, abs=0)


with np.load(VENDORED / "sinkhorn.npz") as file:
    SINKHORN = json.loads(file["info_json"].tobytes().decode())


@pytest.mark.parametrize("setting", SINKHORN, ids=lambda setting: f"epsilon{setting['epsilon']}_B{setting['B']}")
@pytest.mark.parametrize("large", [LARGE, 0], ids=["log space", "one exponential"])
def test_sinkhorn_codes(setting, large, monkeypatch):
    monkeypatch.setattr("monai_mgca.losses.prototype.LARGE", large)
    with np.load(VENDORED / "sinkhorn.npz") as file:
        scores, expected = file[f"scores_{setting['i']}"], file[f"codes64_{setting['i']}"]
    assert scores.dtype == np.float32
    codes = sinkhorn(torch.from_numpy(scores), setting["epsilon"], setting["iterations"])
    assert codes.isfinite().all()
    assert_near(codes, expected, 2e-6, "codes")


def test_one_sinkhorn_setting_overflows_in_the_official_code():
    assert [setting["epsilon"] for setting in SINKHORN if not setting["finite32"]] == [0.01]
