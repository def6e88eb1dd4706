# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Grounding in volumes: the maps of the grounder, their files, and boxes in millimeters."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nibabel.orientations import axcodes2ornt, ornt_transform
from PIL import Image
from scipy import ndimage

from monai_mgca.__main__ import main
from monai_mgca.apps import PhraseGrounder, load_pretrained, read_reference, write_reference
from monai_mgca.apps.ground.phrase_grounder import _token_grid
from monai_mgca.apps.ground.region import VolumeRegion, fill_boxes
from monai_mgca.apps.ground.regions import load_regions
from monai_mgca.data import load_datalist
from monai_mgca.io.volumes.volume_grid import VolumeGrid, read_grid
from monai_mgca.metrics import compute_grounding
from monai_mgca.utils import DataError

from ..tiny_pretraining import write_network

CORNERS = ((-1, -1, -1), (-1, 1, 1), (1, -1, 1), (1, 1, -1))
AXES = ("RAS", "LPS", "LAI", "SRA", "IPL", "ASR")
PHRASES = ["left pleural effusion", "the heart is enlarged"]


@pytest.fixture(scope="module")
def small_patches(volume_model, tmp_path_factory):
    """A vision transformer that sees a box of 24 x 16 x 32 voxels in patches of 8."""
    folder = tmp_path_factory.mktemp("patches")
    shutil.copytree(volume_model / "data" / "report_encoder", folder / "data" / "report_encoder")
    settings = json.loads((volume_model / "models" / "model.json").read_text())
    crop = {"_target_": "monai.transforms.CenterSpatialCropd", "keys": "image", "roi_size": [24, 16, 32]}
    steps = [crop if "CenterSpatialCropd" in step["_target_"] else step for step in settings["preprocessing"]]
    size = {"image_encoder": "vit_compact", "image_size": [24, 16, 32], "patch_size": 8, "preprocessing": steps}
    write_network(folder, 4, **{**settings, **size, "report_encoder": str(folder / "data" / "report_encoder")})
    return folder


@pytest.fixture(scope="module", params=["resnet", "transformer"])
def model(request, volume_model, small_patches):
    folder = volume_model if request.param == "resnet" else small_patches
    return load_pretrained(folder / "models" / "model_pretrain.pt", "cpu")


@pytest.fixture(scope="module")
def entries(volume_model):
    return load_datalist(volume_model / "data" / "datalist.json", "training")


def moved_by_hand(batch, offset):
    """Along all three axes, the edge repeated, by another way than the grounder's."""
    reach = max(map(abs, offset))
    padded = F.pad(batch, [reach] * 6, mode="replicate").roll(tuple(offset), (2, 3, 4))
    return padded[..., reach:-reach, reach:-reach, reach:-reach]


class TestGrounder:
    def test_pooling_the_local_features_is_the_encoder(self, model, entries):
        encoder, image = model.network.image_encoder, next(model.load_images(entries[:2]))
        with torch.no_grad():
            features = encoder.local_features(image)
            torch.testing.assert_close(encoder.pool_features(features), encoder(image).pooled)
        assert features.shape[2:] in ((8, 8, 8), (25,)), "a small volume has places enough"

    def test_attribution_sums_to_the_difference_of_the_cosines(self, model, entries):
        ground = PhraseGrounder(model, entries[:3], steps=48)
        image = next(model.load_images(entries[4:5]))
        text = ground.encode(PHRASES[:1])
        encoder, head = model.network.image_encoder, model.network.image_head
        for moved, usual in zip(ground._move(image), ground.usual, strict=True):
            features = encoder.local_features(moved).detach()
            found = ground._attribute(features, usual, text[0]).sum()
            wanted = head(encoder.pool_features(features)) @ text[0] - head(encoder.pool_features(usual)) @ text[0]
            torch.testing.assert_close(found, wanted[0], rtol=0.05, atol=2e-3)

    def test_token_equals_a_slow_computation(self, model, entries):
        ground = PhraseGrounder(model, entries[:3], "token")
        image = next(model.load_images(entries[4:5]))
        size = tuple(image.shape[2:])
        found = ground.heat_maps(image, ground.encode(PHRASES[:1]))[0, 0]
        output = model.encode_texts(PHRASES[:1])
        words = output["word_tokens"][0][output["word_mask"][0]]
        edge = 16 if size == (32, 32, 32) else 8
        grid, wanted = [side // edge for side in size], torch.zeros(size)
        for corner in CORNERS:
            offset = [side * edge // 4 for side in corner]
            with torch.no_grad():
                tokens = [
                    model.network.encode_image(moved_by_hand(batch, offset))["image_tokens"]
                    for batch in [image, *(next(model.load_images([entry])) for entry in entries[:3])]
                ]
            step = tokens[0][0] - torch.cat(tokens[1:]).mean(0)
            similarity = torch.stack([step @ word for word in words]).mean(0).view(1, 1, *grid)
            heat = F.interpolate(similarity, size, mode="trilinear")
            wanted += moved_by_hand(heat, [-by for by in offset])[0, 0] / 4
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)

    def test_the_usual_volume_has_no_map(self, model, entries):
        ground = PhraseGrounder(model, entries[:1])
        maps = ground.heat_maps(next(model.load_images(entries[:1])), ground.encode(PHRASES))
        assert maps.shape[:2] == (1, 2)
        assert maps.abs().max() < 1e-5

    def test_a_map_for_every_word(self, model, entries):
        words, maps = PhraseGrounder(model, entries[:1], "token").ground_words(entries[2], "No pleural effusion.")
        assert words == ["no", "pleural", "effusion"]
        assert maps.shape == (3, 24, 24, 24)
        assert (maps >= 0).all()

    @pytest.mark.parametrize(
        ("size", "grid"), [((160, 160, 96), (10, 10, 6)), ((48, 40, 24), (3, 3, 2)), ((24, 16, 32), (3, 2, 4))]
    )
    def test_grid_of_tokens(self, size, grid):
        count = int(np.prod(grid))
        assert _token_grid(torch.zeros(1, count, 5), "token", size) == grid
        assert _token_grid(torch.zeros(1, 5, 1 + count), "attribution", size) == grid
        assert _token_grid(torch.zeros(1, 5, *grid), "attribution", size) == grid


class TestReference:
    def test_of_volumes_is_kept_and_used(self, volume_model, entries, tmp_path, monkeypatch):
        shutil.copytree(volume_model / "models", tmp_path / "models")
        checkpoint = tmp_path / "models" / "model_pretrain.pt"
        write_reference(checkpoint, entries, "cpu", count=5)
        kept = read_reference(checkpoint)
        model = load_pretrained(checkpoint, "cpu")
        wanted = PhraseGrounder(model, entries[:5])
        for found, own in zip(kept["attribution"], wanted.usual, strict=True):
            torch.testing.assert_close(found, own)
        assert sum(part.nbytes for part in kept["attribution"]) < 2**20
        options = ["--image", entries[6]["image"], "--text", PHRASES[0], "--output", str(tmp_path / "out")]
        monkeypatch.chdir(tmp_path)  # no data are given, and none is here
        assert main(["ground", "--checkpoint", str(checkpoint), *options]) == 0
        assert (tmp_path / "out" / f"{Path(entries[6]['image']).name[:-7]}_left_pleural_effusion_map.nii.gz").is_file()

    def test_not_without_bounds(self, volume_model, entries, tmp_path, monkeypatch, caplog):
        shutil.copytree(volume_model / "models", tmp_path / "models")
        monkeypatch.setattr("monai_mgca.apps.ground.grounding_reference.LARGEST", 100)
        caplog.set_level("INFO")
        write_reference(tmp_path / "models" / "model_pretrain.pt", entries, "cpu", count=1)
        assert read_reference(tmp_path / "models" / "model_pretrain.pt") is None
        assert "larger than 128 MiB" in caplog.text


@pytest.fixture(scope="module")
def real_ct(shared):
    path = shared / "data" / "ct" / "chest_small.nii.gz"
    if not path.is_file():
        pytest.skip("the real CTs are not here")
    return nibabel.load(path)


class _Intensities(PhraseGrounder):
    """Its maps are what the network sees, so that one sees where they come to lie."""

    def heat_maps(self, image, texts):
        return image + 1


class TestFiles:
    def run(self, volume_model, folder, *options):
        base = ["--checkpoint", str(volume_model / "models" / "model_pretrain.pt"), "--reference", "3"]
        base += ["--dataset-dir", str(volume_model / "data"), "--output", str(folder / "out")]
        return main(["ground", *base, *map(str, options)])

    def test_overlays_the_same_anatomy_in_six_orientations(self, volume_model, real_ct, tmp_path):
        """Of a real CT: the files lie on the volume's voxels, for nibabel and for SimpleITK."""
        sitk = pytest.importorskip("SimpleITK")
        for axes in AXES:
            turn = ornt_transform(nibabel.io_orientation(real_ct.affine), axcodes2ornt(axes))
            nibabel.save(real_ct.as_reoriented(turn), tmp_path / f"{axes}.nii.gz")
        paths = [tmp_path / f"{axes}.nii.gz" for axes in AXES]
        assert self.run(volume_model, tmp_path, "--image", *paths, "--text", PHRASES[0], "--threshold", "0.6") == 0
        upright, peaks = [], []
        for path in paths:
            volume = nibabel.load(path)
            base = tmp_path / "out" / f"{path.name[:-7]}_left_pleural_effusion"
            heat, mask = nibabel.load(f"{base}_map.nii.gz"), nibabel.load(f"{base}_mask.nii.gz")
            for made in (heat, mask):
                assert made.shape == volume.shape
                assert np.array_equal(made.affine, volume.affine)
                assert made.header["sform_code"] == volume.header["sform_code"]
                assert made.header["qform_code"] == volume.header["qform_code"]
            values = heat.get_fdata()
            inside = np.asarray(mask.dataobj)
            assert set(np.unique(inside)) == {0, 1}
            assert np.array_equal(inside[values > 0.61 * values.max()], np.ones((values > 0.61 * values.max()).sum()))
            assert not inside[values < 0.59 * values.max()].any()
            upright.append(nibabel.as_closest_canonical(heat).get_fdata())
            read = [sitk.ReadImage(str(name)) for name in (path, f"{base}_map.nii.gz")]
            assert read[0].GetSize() == read[1].GetSize()
            for name in ("GetSpacing", "GetOrigin", "GetDirection"):
                np.testing.assert_allclose(*(getattr(one, name)() for one in read), atol=1e-4)
            top = np.argwhere(sitk.GetArrayFromImage(read[1]) == sitk.GetArrayFromImage(read[1]).max())
            places = [read[1].TransformIndexToPhysicalPoint([int(at) for at in one[::-1]]) for one in top]
            peaks.append(np.mean(places, axis=0))
        assert upright[0].max() > 0
        for other, peak in zip(upright[1:], peaks[1:], strict=True):
            np.testing.assert_allclose(other, upright[0], atol=upright[0].max() / 250)
            np.testing.assert_allclose(peak, peaks[0], atol=3)

    @pytest.mark.parametrize("axes", AXES)
    def test_a_map_of_the_intensities_is_the_ct(self, volume_model, real_ct, tmp_path, axes):
        """The way through resampling, crop and back moves nothing, in any orientation."""
        turn = ornt_transform(nibabel.io_orientation(real_ct.affine), axcodes2ornt(axes))
        nibabel.save(real_ct.as_reoriented(turn), tmp_path / "ct.nii.gz")
        model = load_pretrained(volume_model / "models" / "model_pretrain.pt", "cpu")
        ground = _Intensities(model, {"attribution": [torch.zeros(1, 256, 2, 2, 2)] * 4})
        heat = ground(tmp_path / "ct.nii.gz", ["effusion"])[0].numpy()
        stored = np.clip(nibabel.load(tmp_path / "ct.nii.gz").get_fdata(), -1000, 400)
        assert heat.shape == stored.shape
        smooth = ndimage.gaussian_filter(stored, 2)  # the network's voxels are of 14 mm, the file's of 3

        def agree(shift):
            return np.corrcoef(np.roll(heat, shift, (0, 1, 2)).ravel(), smooth.ravel())[0, 1]

        best = max(itertools.product((-1, 0, 1), repeat=3), key=agree)
        assert best == (0, 0, 0)
        assert agree(best) > 0.99

    def test_map_and_picture_of_a_file_and_a_series(self, volume_model, entries, write_series, tmp_path, capsys):
        image = nibabel.load(entries[0]["image"])
        origin = image.affine[:3, 3] * (-1, -1, 1)
        series = write_series(tmp_path / "1.2.3", np.asarray(image.dataobj), image.header.get_zooms(), origin)
        assert self.run(volume_model, tmp_path, "--image", entries[0]["image"], series, "--text", *PHRASES) == 0
        names = [Path(entries[0]["image"]).name[:-7], "1.2.3"]
        slugs = [f"{name}_{slug}" for name in names for slug in ("left_pleural_effusion", "the_heart_is_enlarged")]
        wanted = {f"{slug}{ending}" for slug in slugs for ending in (".png", "_map.nii.gz")}
        assert {path.name for path in (tmp_path / "out").iterdir()} == wanted
        maps = [
            nibabel.as_closest_canonical(nibabel.load(tmp_path / "out" / f"{name}_left_pleural_effusion_map.nii.gz"))
            for name in names
        ]
        np.testing.assert_allclose(maps[0].affine, maps[1].affine, atol=1e-3)
        np.testing.assert_allclose(maps[0].get_fdata(), maps[1].get_fdata(), atol=maps[0].get_fdata().max() / 100)
        with Image.open(tmp_path / "out" / f"{names[0]}_left_pleural_effusion.png") as picture:
            assert picture.size == (3 * 256 + 6, 256)
        said = re.findall(r"voxel \[(\d+), (\d+), (\d+)\] of 24 x 24 x 24, at \[(.+?)\] mm", capsys.readouterr().out)
        heat = nibabel.load(tmp_path / "out" / f"{slugs[0]}_map.nii.gz")
        place = tuple(map(int, said[0][:3]))
        assert heat.get_fdata()[place] == heat.get_fdata().max()
        world = nibabel.affines.apply_affine(heat.affine, place)
        assert [float(at) for at in said[0][3].split(",")] == pytest.approx(world, abs=0.06)

    def test_words_of_a_volume(self, volume_model, entries, tmp_path, open_page):
        assert self.run(volume_model, tmp_path, "--image", entries[0]["image"], "--words") == 0
        found = open_page(tmp_path / "out" / "words.html")
        assert found["errors"] == []
        assert set(found["widths"]) == {3 * 256 + 6}
        assert entries[0]["report"].split()[0].lower() in found["text"].lower()

    @pytest.mark.parametrize(
        ("options", "words"),
        [(["--threshold", "1.5"], "at most 1"), (["--image", "none", "--text", "a"], "image none")],
    )
    def test_input(self, volume_model, entries, tmp_path, options, words, capsys):
        assert self.run(volume_model, tmp_path, "--image", entries[0]["image"], "--text", "effusion", *options) == 2
        assert words in capsys.readouterr().err


class TestRegions:
    @pytest.mark.parametrize("axes", AXES)
    def test_voxels_of_boxes_whatever_the_axes(self, axes):
        turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
        upright = nibabel.Nifti1Image(np.zeros((7, 9, 5), np.uint8), np.array(AFFINE))
        image = upright.as_reoriented(turn)
        boxes = [[-18, 3, 55, -10.5, 12, 70], [-15, 11, 60, -14, 12.1, 66], [90, 90, 90, 99, 99, 99]]
        found = fill_boxes(boxes, VolumeGrid(image.shape, image.affine))
        wanted = np.zeros(image.shape, np.uint8)
        for at in np.ndindex(*image.shape):
            place = nibabel.affines.apply_affine(image.affine, at)
            wanted[at] = any((place >= box[:3]).all() and (place <= box[3:]).all() for box in boxes)
        assert wanted.sum() > 20
        assert np.array_equal(found, wanted)

    def test_an_oblique_volume(self):
        angle = np.radians(20)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = turn * 2, (-5, 4, 0)
        found = fill_boxes([[0, 6, 2, 9, 17, 7]], VolumeGrid((12, 12, 6), affine))
        for at in np.ndindex(12, 12, 6):
            place = nibabel.affines.apply_affine(affine, at)
            assert found[at] == ((place >= (0, 6, 2)).all() and (place <= (9, 17, 7)).all())
        assert found.sum() > 20

    def test_boxes_of_the_sample_hold_its_findings(self, volume_model):
        """A box is all voxels of its finding, in the mask of the sample that was drawn beside it."""
        regions = load_regions(volume_model / "data" / "datalist.json", "training", spatial_dims=3)
        assert len(regions) > 5
        entries = {e["image"]: e for e in load_datalist(volume_model / "data" / "datalist.json", "training")}
        for image, own in itertools.groupby(regions, key=lambda region: region.image):
            mask = np.asarray(nibabel.load(volume_model / "data" / entries[image]["finding_mask"]).dataobj)
            union = np.any([region.filled().mask.numpy() for region in own], axis=0)
            assert mask.any()
            assert not mask[~union].any()

    def test_cut_to_a_mask_that_lies_along_other_axes(self, volume_model, entries, tmp_path):
        path = volume_model / "data" / next(e for e in entries if e["boxes"])["finding_mask"]
        mask = nibabel.load(path)
        turned = mask.as_reoriented(ornt_transform(nibabel.io_orientation(mask.affine), axcodes2ornt("SRA")))
        nibabel.save(turned, tmp_path / "turned.nii.gz")
        entry = next(e for e in entries if e["boxes"])
        plain, other = (
            VolumeRegion(entry["image"], "a", "a", entry["boxes"], str(one)).filled().mask
            for one in (path, tmp_path / "turned.nii.gz")
        )
        assert torch.equal(plain, other)
        assert torch.equal(plain, torch.from_numpy(np.asarray(mask.dataobj)))
        nibabel.save(nibabel.Nifti1Image(np.asarray(mask.dataobj), np.eye(4)), tmp_path / "lost.nii.gz")
        with pytest.raises(DataError, match=r"lost\.nii\.gz lies elsewhere"):
            VolumeRegion(entry["image"], "a", "a", entry["boxes"], str(tmp_path / "lost.nii.gz")).filled()

    def test_evaluate(self, volume_model, tmp_path, capsys, open_page):
        checkpoint = volume_model / "models" / "model_pretrain.pt"
        base = [
            "ground",
            "--evaluate",
            "--checkpoint",
            str(checkpoint),
            "random",
            "--reference",
            "3",
            "--overlays",
            "2",
        ]
        base += ["--dataset-dir", str(volume_model / "data"), "--section", "training", "--output", str(tmp_path)]
        assert main([*base, "--tolerance", "0.1", "--mask-key", "finding_mask"]) == 0
        with (tmp_path / "grounding.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        regions = load_regions(
            volume_model / "data" / "datalist.json", "training", mask_key="finding_mask", spatial_dims=3
        )
        assert len(rows) == 2 * len(regions)
        assert f"{len(regions)} findings in the section 'training'" in capsys.readouterr().out
        entries = load_datalist(volume_model / "data" / "datalist.json", "training")
        model = load_pretrained(checkpoint, "cpu")
        ground, first = PhraseGrounder(model, entries[:3]), regions[0]
        within = volume_model / "data" / first.within if not Path(first.within).is_absolute() else Path(first.within)
        region = first._replace(within=str(within)).filled()
        heat = ground(first.image, [first.phrase])
        spacing = np.linalg.norm(read_grid(first.image).affine[:3, :3], axis=0)
        hit, contrast, iou, area = compute_grounding(heat, region.mask[None], spacing=spacing)[0].tolist()
        near = compute_grounding(heat, region.mask[None], 0.1, spacing=spacing)[0, 0].item()
        found = [
            float(rows[0][key])
            for key in ("pointing_game", "pointing_game_near", "contrast_to_noise", "mean_iou", "area")
        ]
        assert found == pytest.approx([hit, near, contrast, iou, area], abs=1e-5)
        seen = open_page(tmp_path / "grounding.html")
        assert seen["errors"] == []
        assert seen["widths"] == [3 * 256 + 6] * 2


AFFINE = [[3.0, 0, 0, -20], [0, 2, 0, 0], [0, 0, 5, 55], [0, 0, 0, 1]]
