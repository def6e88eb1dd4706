# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from monai_mgca.apps import load_pretrained
from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder
from monai_mgca.utils import CheckpointError, DataError, write_settings

from ..tiny_pretraining import SETTINGS as TINY

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "left", "effusion", "no", "##s"]
PIECES += [*"xyzq", "##y", "##z", "##q"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SETTINGS = {**TINY, "report_layers": 1, "max_length": 12, "matcher": "learned", "matcher_heads": 2}


@pytest.fixture
def place(tmp_path):
    """Weights, their settings, and the folder of the report encoder."""
    (tmp_path / "bert").mkdir()
    config = {"model_type": "bert", "vocab_size": len(PIECES), **SIZES}
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config))
    tokenizer = {"tokenizer_class": "BertTokenizerFast", "do_lower_case": True}
    (tmp_path / "bert" / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(PIECES))
    torch.manual_seed(0)
    text = ReportEncoder(str(tmp_path / "bert"), pretrained=False, num_layers=1)
    names = ("embed_dim", "hidden_dim", "num_prototypes", "matcher", "matcher_heads", "pool_report")
    network = MGCA(create_image_encoder("resnet_tiny"), text, **{name: SETTINGS[name] for name in names})
    torch.save({"model": network.state_dict()}, tmp_path / "model_pretrain.pt")
    write_settings(tmp_path / "model.json", SETTINGS | {"report_encoder": str(tmp_path / "bert")})
    return tmp_path, network.eval()


def test_embeds_as_the_network_does(place):
    folder, network = place
    generator = np.random.default_rng(0)
    files = [folder / f"{i}.png" for i in range(3)]
    for file in files:
        Image.fromarray(generator.integers(0, 255, (64, 64), dtype=np.uint8)).save(file)
    model = load_pretrained(folder / "model_pretrain.pt", device="cpu")
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(file))[None, 4:60, 4:60] / 127.5 - 1) for file in files])
    with torch.no_grad():
        wanted = network.encode_image(pixels.float())["image_embedding"]
        torch.testing.assert_close(model.embed_images(files, batch_size=2), wanted, rtol=1e-4, atol=1e-5)
        # [CLS] no effusion ##s . left . [SEP], and each sentence's full stop is no word
        ids = torch.tensor([[2, 8, 7, 9, 5, 6, 5, 3]])
        words = torch.tensor([[-1, 0, 1, 1, -1, 2, -1, -1]])
        wanted = network.encode_report(ids, torch.ones_like(ids), words)["report_embedding"]
    torch.testing.assert_close(model.embed_texts(["No effusions. Left!"]), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.embed_reports(["No effusions. Left!"]), wanted, rtol=1e-4, atol=1e-5)


def test_a_report_is_cut_and_a_phrase_is_not(place):
    model = load_pretrained(place[0] / "model_pretrain.pt")
    long = "no effusion left " * 9
    assert model.embed_reports([long]).shape == (1, 16)
    with pytest.raises(DataError, match=r"of 30 word pieces .* longer than the 12"):
        model.embed_texts([long])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no word"),
        ("... !", "has no word"),
        ("\u5fc3\u81d3", "has no word"),
        ("zyzzy", "knows no word of 'zyzzy'"),
        ("heart", "knows no word of 'heart'"),
    ],
)
def test_texts_that_say_nothing(place, text, message):
    model = load_pretrained(place[0] / "model_pretrain.pt")
    assert not model.knows(text)
    with pytest.raises(DataError, match=message):
        model.read_text(text)


def test_some_unknown_words_are_reported(place, caplog):
    model = load_pretrained(place[0] / "model_pretrain.pt")
    assert not model.knows("left heart effusion qyzzy")
    assert model.read_text("left heart effusion qyzzy")["input_ids"][1] == PIECES.index("left")
    assert "does not know: heart, qyzzy" in caplog.text
    caplog.clear()
    assert model.knows("left effusions")
    model.read_text("left effusions")
    assert caplog.text == ""


class TestLoading:
    def test_random_weights_follow_the_seed(self, place):
        found = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            found.append(load_pretrained(place[0] / "model_pretrain.pt", random=True).embed_texts(["left effusion"]))
        assert torch.equal(found[0], found[1])
        assert not torch.equal(found[0], found[2])

    def test_without_settings(self, place):
        (place[0] / "model.json").unlink()
        with pytest.raises(CheckpointError, match=r"model.json"):
            load_pretrained(place[0] / "model_pretrain.pt")

    def test_of_another_architecture(self, place):
        write_settings(place[0] / "model.json", SETTINGS | {"report_encoder": str(place[0] / "bert"), "embed_dim": 24})
        with pytest.raises(CheckpointError, match="another architecture"):
            load_pretrained(place[0] / "model_pretrain.pt")

    @pytest.mark.parametrize("copy", [False, True])
    def test_the_report_encoder_is_gone(self, place, copy):
        """What was copied beside the weights has no name that a hub could be asked for."""
        name = "report_encoder-0123abcd" if copy else str(place[0] / "gone")
        write_settings(place[0] / "model.json", SETTINGS | {"report_encoder": name})
        with pytest.raises(DataError, match=f"encoder of reports that is not there.*{place[0]}"):
            load_pretrained(place[0] / "model_pretrain.pt")
