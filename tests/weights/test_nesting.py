# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""Checkpoints as trainers and downloads leave them: taken where it is clear what is meant, or named."""

from __future__ import annotations

import gzip
import io
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from monai_mgca.networks import MGCA, ImageEmbedder, ProjectionHead, ReportEncoder, ResNetImageEncoder, ViTImageEncoder
from monai_mgca.utils import CheckpointError
from monai_mgca.weights import load_encoder, load_image_weights, load_network, start_encoder

BERT = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def encoder() -> ResNetImageEncoder:
    return ResNetImageEncoder("basic", (1, 1, 1, 1), width=4)


def embedder() -> ImageEmbedder:
    image_encoder = encoder()
    return ImageEmbedder(image_encoder, ProjectionHead(image_encoder.out_channels, 4, 4))


def whole() -> MGCA:
    return MGCA(encoder(), ReportEncoder(BERT), embed_dim=4, hidden_dim=4, num_prototypes=3)


def same(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[key]) for key, value in first.state_dict().items())


def renamed(state: dict, prefix: str) -> dict:
    return {f"{prefix}{key}": value for key, value in state.items()}


# how the same weights may lie in a file
FORMS = {
    "as they are": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 3},
    "state_dict": lambda state: {"state_dict": state, "hyper_parameters": {"lr": 0.1}},
    "model_state_dict": lambda state: {"epoch": 1, "model_state_dict": state, "loss": 0.5},
    "an entry of any name": lambda state: {"net": state, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}},
    "two levels": lambda state: {"state_dict": {"model": state}},
    "of several GPUs": lambda state: renamed(state, "module."),
    "compiled": lambda state: renamed(state, "_orig_mod."),
    "compiled, of several GPUs": lambda state: {"model": renamed(state, "module._orig_mod.")},
    "compiled in part": lambda state: {
        key.replace("image_encoder.", "image_encoder._orig_mod."): value for key, value in state.items()
    },
    "of Lightning": lambda state: {"state_dict": renamed(state, "model."), "epoch": 3},
    "under another name": lambda state: renamed(state, "student.net."),
    "in half precision": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_same_weights_in_every_form(form, suffix, tmp_path):
    source, path = whole(), tmp_path / f"file{suffix}"
    if "half" in form:  # whose values half precision has
        source.load_state_dict({k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()})
    content = FORMS[form](source.state_dict())
    if suffix == ".pt":
        torch.save(content, path)
    elif all(isinstance(value, torch.Tensor) for value in content.values()):
        save_file({key: value.clone() for key, value in content.items()}, path)
    else:
        torch.save(content, path)  # a name of another format than the file has
    target, alone = whole(), encoder()
    assert load_network(target, path) == len(source.state_dict())
    assert same(source, target)
    assert load_encoder(alone, path) == len(alone.backbone.state_dict())
    assert same(source.image_encoder, alone)


def test_safetensors_by_the_name_of_another_format(tmp_path):
    source, target = embedder(), embedder()
    save_file(source.state_dict(), tmp_path / "model.pt")
    load_network(target, tmp_path / "model.pt")
    assert same(source, target)


def test_a_checkpoint_of_a_training_holds_the_network(tmp_path):
    source, path = whole(), tmp_path / "checkpoint_iteration=7.pt"
    optimizer = torch.optim.AdamW(source.parameters())
    torch.save(
        {
            "network": source.state_dict(),
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": {"last_epoch": 7, "_schedulers": [{"factor": 0.1}]},
            "trainer": {"iteration": 7, "unfinished": False},
            "progress": {"epoch": 1, "train_metric": (0.1, 1)},
            "settings": {"batch_size": 2},
            "processes": [{"random": {"torch": torch.get_rng_state()}, "metrics": {}}],
        },
        path,
    )
    target = whole()
    load_network(target, path)
    assert same(source, target)
    start_encoder(alone := encoder(), path)
    assert same(source.image_encoder, alone)


class TestHalves:
    def test_model_for_model_pretrain(self, tmp_path):
        torch.save(embedder().state_dict(), tmp_path / "model.pt")
        with pytest.raises(CheckpointError) as caught:
            load_network(whole(), tmp_path / "model.pt")
        assert "holds the image encoder and its projection alone, as model.pt does" in str(caught.value)
        assert "model_pretrain.pt beside it" in str(caught.value)
        assert "image_encoder_weights" in str(caught.value)

    @pytest.mark.parametrize("name", ["model.pt", "model_pretrain.pt"])
    def test_its_advice_works(self, tmp_path, name):
        source, target = (embedder() if name == "model.pt" else whole()), encoder()
        torch.save(source.state_dict(), tmp_path / name)
        load_image_weights(target, tmp_path / name)
        assert same(source.image_encoder, target)

    def test_model_pretrain_for_model(self, tmp_path):
        torch.save(whole().state_dict(), tmp_path / "model_pretrain.pt")
        with pytest.raises(
            CheckpointError, match=r"holds both encoders, as model_pretrain.pt does .* model.pt beside it"
        ):
            load_network(embedder(), tmp_path / "model_pretrain.pt")

    def test_of_the_official_code(self):
        with pytest.raises(CheckpointError, match=r"one of the official code .*weights convert on it first"):
            load_network(whole(), {"img_encoder_q.model.cls_token": torch.zeros(1)})


def test_several_entries_are_not_guessed(tmp_path):
    state = encoder().state_dict()
    torch.save({"student": state, "teacher": state}, tmp_path / "dino.pth")
    with pytest.raises(CheckpointError, match="under several entries, student, teacher: write the one that is meant"):
        load_encoder(encoder(), tmp_path / "dino.pth")


def test_timm_names_are_taken_by_load_encoder():
    sizes = {"image_size": 32, "patch_size": 16, "hidden_size": 8, "mlp_dim": 8, "num_layers": 1, "num_heads": 2}
    source, target = ViTImageEncoder(**sizes), ViTImageEncoder(**sizes)
    state = source.backbone.state_dict()
    places = torch.cat((torch.zeros(1, 1, 8), state.pop("patch_embedding.position_embeddings")), dim=1)
    names = {
        "patch_embedding.patch_embeddings.": "patch_embed.proj.",
        ".attn.out_proj.": ".attn.proj.",
        ".mlp.linear1.": ".mlp.fc1.",
        ".mlp.linear2.": ".mlp.fc2.",
    }
    for ours, theirs in names.items():
        state = {key.replace(ours, theirs): value for key, value in state.items()}
    load_encoder(target, {**renamed(state, "visual."), "visual.pos_embed": places, "visual.head.weight": torch.ones(1)})
    assert same(source, target)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("load", [load_network, load_encoder])
def test_weights_that_are_no_numbers_are_refused_by_name(load, value, tmp_path):
    source = whole()
    with torch.no_grad():
        source.image_encoder.backbone.conv1.weight[0, 0, 0, 0] = value
    torch.save(source.state_dict(), tmp_path / "diverged.pt")
    target = whole()
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"diverged.pt' has NaN or infinite values in 1 of \d+ tensors: .*conv1"):
        load(target, tmp_path / "diverged.pt")
    assert all(torch.equal(tensor, before[key]) for key, tensor in target.state_dict().items())


def zipped(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


FILES = {
    "a pointer of Git LFS .*git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "a web page": b"\n<!DOCTYPE html><html><body>Log in</body></html>",
    "a web page,": b"<html>\n<head><title>404</title>",
    "a text in JSON": b'{"error": "Repository not found"}',
    "packed by gzip: unpack it": gzip.compress(b"weights"),
    "an archive that torch.save did not write": zipped("weights/model.txt", b"x"),
    "a TorchScript archive": zipped("model/code/__torch__.py", b"x"),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "is empty": b"",
    "cannot be read as a checkpoint": b"anything else" * 9,
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", FILES)
def test_other_files_are_named_for_what_they_are(kind, suffix, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(FILES[kind])
    with pytest.raises(CheckpointError, match=f"model{suffix}' .*{kind}" if "is empty" not in kind else kind):
        load_encoder(encoder(), path)


def test_a_folder(tmp_path):
    torch.save({}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"is a folder: give a file in it, such as model.pt"):
        load_encoder(encoder(), tmp_path)


class TestRandomWeights:
    def test_frozen_ones_are_warned_of_with_what_to_pass(self, caplog):
        with caplog.at_level("INFO"):
            start_encoder(encoder(), None, freeze=True)
        (record,) = [record for record in caplog.records if "random weights" in record.message]
        assert record.levelname == "WARNING"
        assert all(advice in record.message for advice in ("--pretrained_path", "train.json", "--freeze_encoder false"))

    def test_trained_ones_are_not(self, caplog):
        with caplog.at_level("INFO"):
            start_encoder(encoder(), None, freeze=False)
        assert [record.levelname for record in caplog.records] == ["INFO"]
