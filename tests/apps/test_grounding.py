# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from monai_mgca.apps import PhraseGrounder
from monai_mgca.apps.image_text_model import PretrainedModel, image_transform
from monai_mgca.networks import MGCA, ReportEncoder, create_image_encoder
from monai_mgca.transforms import TokenizeReport
from monai_mgca.utils import DataError
from monai_mgca.utils.errors import first_cause

SIZE, RESIZE = 64, 72


@pytest.fixture(scope="module", params=["resnet_tiny", "vit_compact"])
def model(request):
    from transformers import BertTokenizerFast

    torch.manual_seed(0)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "left", "right", "effusion", "##s", "no"]
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    image = create_image_encoder(request.param, SIZE)
    network = MGCA(image, ReportEncoder({"vocab_size": len(pieces), **sizes}), hidden_dim=32)
    tokenizer = BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)})
    settings = {"image_size": SIZE, "resize_size": RESIZE, "in_channels": 1}
    return PretrainedModel(network, image_transform(settings), TokenizeReport(tokenizer, 20))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    generator = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("images")
    for i, size in enumerate([(72, 72), (72, 72), (90, 60), (47, 83)]):
        Image.fromarray(generator.integers(0, 255, size[::-1], dtype=np.uint8)).save(folder / f"{i}.png")
    return [folder / f"{i}.png" for i in range(4)]


class TestAttribution:
    def test_sum_is_the_difference_of_the_cosines(self, model, files):
        ground = PhraseGrounder(model, files[:2], steps=64)
        image = next(model.load_images(files[2:3]))
        text = ground.encode(["left effusion"])
        for moved, usual in zip(ground._move(image), ground.usual, strict=True):
            features = model.network.image_encoder.local_features(moved).detach()
            found = ground._attribute(features, usual, text[0]).sum()
            pool, head = model.network.image_encoder.pool_features, model.network.image_head
            wanted = head(pool(features)) @ text[0] - head(pool(usual)) @ text[0]
            torch.testing.assert_close(found, wanted[0], rtol=0.05, atol=2e-3)

    def test_pooling_the_local_features_is_the_encoder(self, model, files):
        encoder = model.network.image_encoder
        image = next(model.load_images(files))
        with torch.no_grad():
            found = encoder.pool_features(encoder.local_features(image))
            torch.testing.assert_close(found, encoder(image).pooled)

    def test_the_usual_image_has_no_map(self, model, files):
        ground = PhraseGrounder(model, files[:1])
        image = next(model.load_images(files[:1]))
        maps = ground.heat_maps(image, ground.encode(["left effusion", "no effusion"]))
        assert maps.shape == (1, 2, SIZE, SIZE)
        assert maps.abs().max() < 1e-5


class TestToken:
    def test_equals_a_slow_computation(self, model, files):
        ground = PhraseGrounder(model, files[:3], "token")
        image = next(model.load_images(files[3:]))
        found = ground.heat_maps(image, ground.encode(["left effusions"]))[0, 0]
        output = model.encode_texts(["left effusions"])
        words = output["word_tokens"][0][output["word_mask"][0]]
        assert len(words) == 2
        wanted = torch.zeros(SIZE, SIZE)
        for dy, dx in ((-4, -4), (-4, 4), (4, -4), (4, 4)):

            def tokens_of(batch, dy=dy, dx=dx):
                moved = F.pad(batch, [4] * 4, mode="replicate").roll((dy, dx), (2, 3))[..., 4:-4, 4:-4]
                with torch.no_grad():
                    return model.network.encode_image(moved)["image_tokens"]

            usual = torch.stack([tokens_of(next(model.load_images([file])))[0] for file in files[:3]]).mean(0)
            similarity = torch.stack([(tokens_of(image)[0] - usual) @ word for word in words]).mean(0)
            heat = F.interpolate(similarity.view(1, 1, 4, 4), (SIZE, SIZE), mode="bicubic")
            wanted += F.pad(heat, [4] * 4, mode="replicate").roll((-dy, -dx), (2, 3))[0, 0, 4:-4, 4:-4] / 4
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)

    def test_a_map_for_every_word(self, model, files):
        ground = PhraseGrounder(model, files[:1], "token")
        words, maps = ground.ground_words(files[3], "No effusions. Left.")
        assert words == ["no", "effusions", "left"]
        assert maps.shape == (3, 83, 47)

    def test_words_need_tokens(self, model, files):
        with pytest.raises(ValueError, match='method="token"'):
            PhraseGrounder(model, files[:1]).ground_words(files[3], "no effusion")


@pytest.mark.parametrize("method", ["attribution", "token"])
def test_maps_have_the_images_own_size_and_are_deterministic(model, files, method):
    ground = PhraseGrounder(model, files[:2], method)
    for file in files[2:]:
        with Image.open(file) as image:
            wanted = (2, image.height, image.width)
        maps = ground(file, ["left effusion", "right effusion"])
        assert maps.shape == wanted
        assert maps.device.type == "cpu"
        assert (maps >= 0).all()
        torch.testing.assert_close(
            maps, PhraseGrounder(model, files[:2], method)(file, ["left effusion", "right effusion"])
        )


def test_the_map_lies_where_the_image_differs(model, tmp_path, files):
    # one corner of the second image is not as usual: only there can anything add to the similarity
    if "ViT" in type(model.network.image_encoder).__name__:
        pytest.skip("every token of a ViT with random weights sees the whole image")
    pixels = np.full((144, 144), 100, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "usual.png")
    pixels[100:140, 8:48] = 250
    Image.fromarray(pixels).save(tmp_path / "other.png")
    heat = PhraseGrounder(model, [tmp_path / "usual.png"])(tmp_path / "other.png", ["left effusion"])[0]
    heat = (heat - heat.median()).abs()
    y, x = divmod(int(heat.argmax()), 144)
    assert y > 72
    assert x < 72


class TestErrors:
    def test_arguments(self, model, files):
        with pytest.raises(ValueError, match="reference"):
            PhraseGrounder(model, [])
        with pytest.raises(ValueError, match="attribution"):
            PhraseGrounder(model, files[:1], "atribution")

    @pytest.mark.parametrize(
        ("phrase", "message"),
        [("", "no word"), (" . ", "no word"), ("xyzzy", "knows no word"), ("left " * 30, "longer than the 20")],
    )
    def test_phrases(self, model, files, phrase, message):
        with pytest.raises(DataError, match=message):
            PhraseGrounder(model, files[:1])(files[2], ["left effusion", phrase])

    def test_a_broken_image_is_named(self, model, files, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"no image")
        with pytest.raises(RuntimeError) as caught:
            PhraseGrounder(model, files[:1])(tmp_path / "broken.png", ["left effusion"])
        assert "broken.png" in str(first_cause(caught.value))
