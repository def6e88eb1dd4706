# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import base64
import io

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, ornt_transform
from PIL import Image

from monai_mgca.utils import DataError
from monai_mgca.visualize import RadiographView, VolumeView, open_view, show_volume

WINDOW = {"spatial_dims": 3, "hu_min": -1000, "hu_max": 400}
AXES = ("RAS", "LPS", "LAI", "SRA", "IPL", "ASR")
# 48 mm to the right, 36 to the front, 60 to the head; upright, so that the world can be told from the index
SHAPE, SIZES, START = (24, 12, 20), (2.0, 3.0, 3.0), (-30.0, 10.0, -100.0)


@pytest.fixture(params=AXES)
def volume(request, tmp_path):
    """Air with a bright block at the patient's right, front and head, as a file of some orientation."""
    values = np.full(SHAPE, -1000, np.int16)
    values[20:23, 9:11, 16:19] = 400
    affine = np.diag([*SIZES, 1])
    affine[:3, 3] = START
    image = nibabel.Nifti1Image(values, affine)
    nibabel.save(
        image.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(request.param))), tmp_path / "v.nii"
    )
    return tmp_path / "v.nii"


def panels_of(picture):
    """The axial, coronal and sagittal panel of a picture, as arrays."""
    pixels = np.asarray(picture.convert("L")).astype(float)
    widths = np.round(np.array([48, 48, 36]) * pixels.shape[0] / 60).astype(int)
    ends = np.cumsum([0, *(widths + 3)])
    return [pixels[:, start : start + width] for start, width in zip(ends, widths, strict=False)]


def test_the_right_is_on_the_left_and_the_head_on_top(volume):
    view = VolumeView(volume, WINDOW)
    axial, coronal, sagittal = panels_of(view.draw((21, 10, 17), size=240))
    assert view.draw(size=240).size == (192 + 192 + 144 + 6, 240)
    # the axial plane is less high than the row: 144 pixels in the middle of 240
    for panel, (rows, columns) in (
        (axial, ((48 + 12, 48 + 36), (8, 32))),
        (coronal, ((12, 48), (8, 32))),
        (sagittal, ((12, 48), (12, 36))),
    ):
        panel[100:140, :10] = 0  # the letter
        bright = np.argwhere(panel > 200)
        low, high = bright.min(0), bright.max(0)
        assert np.abs(low - (rows[0], columns[0])).max() <= 6
        assert np.abs(high - (rows[1], columns[1])).max() <= 6


def test_places_of_the_world(volume):
    view = VolumeView(volume, WINDOW)
    assert view.index_at(np.array(START) + np.array(SIZES) * (21, 10, 17)) == (21, 10, 17)
    assert view.index_at((-999, 999, 0)) == (0, 11, 19)
    stored = np.asarray(nibabel.load(volume).dataobj)
    places = [view.index_of(int(place)) for place in np.flatnonzero(stored == 400)]
    assert np.min(places, axis=0).tolist() == [20, 9, 16]
    assert np.max(places, axis=0).tolist() == [22, 10, 18]


def test_a_map_is_drawn_where_it_is_highest_and_by_the_whole_maps_range(volume):
    stored = nibabel.load(volume)
    view = VolumeView(volume, WINDOW)
    heat = torch.zeros(stored.shape)
    at = np.rint(
        nibabel.affines.apply_affine(np.linalg.inv(stored.affine), np.array(START) + np.array(SIZES) * (5, 3, 4))
    )
    heat[tuple(at.astype(int))] = 1
    picture = np.asarray(view.draw_heat(heat, heat, size=240)).astype(int)
    orange = np.argwhere(picture[..., 0] - picture[..., 2] > 60)
    assert len(orange) > 30
    assert np.asarray(view.draw_heat(heat, size=240)).shape == (240, 534, 3)
    # where the volume is air in all planes of the voxel, all that is not black is the map and the letters
    assert (picture[..., 2] > 120).sum() > 20, "the outline is blue"
    flat = view.draw_heat(torch.zeros(stored.shape), size=240)
    assert (np.asarray(flat)[..., 0] == np.asarray(flat)[..., 2]).all()


def test_boxes_are_around_what_they_name(volume):
    view, block = VolumeView(volume, WINDOW), [9, 35.5, -53.5, 15, 41.5, -44.5]
    far = [-31, 8.5, -101.5, -29, 11.5, -98.5]  # in none of the planes through the block
    picture = np.asarray(view.draw_boxes([(block, 0, ""), (far, 1, "")], size=240)).astype(int)
    orange, blue = picture[..., 0] - picture[..., 2] > 100, picture[..., 2] - picture[..., 0] > 60
    assert not blue.any()
    dark = VolumeView(volume, {"hu_min": 2000, "hu_max": 3000})  # nothing but the letters
    planes = [panels_of(one.draw((21, 10, 17), 240)) for one in (view, dark)]
    for lines, bright, letter in zip(panels_of(Image.fromarray(orange)), *planes, strict=True):
        inside = (lines > 0, bright - letter > 127)
        ends = [[(at.min(), at.max()) for at in np.nonzero(values)] for values in inside]
        np.testing.assert_allclose(ends[0], ends[1], atol=6)  # half a voxel, where the block's edge is half as bright
    assert np.asarray(view.draw_boxes([], size=60)).shape == (60, 48 + 48 + 36 + 6, 3)


def test_slices_go_from_the_head_down(volume):
    view = VolumeView(volume, WINDOW)
    slices = view.slices(count=10, size=48)
    assert len(slices) == 10
    assert {picture.size for picture in slices} == {(48, 36)}
    bright = [np.asarray(picture).max() > 200 for picture in slices]
    assert bright == [False, True, *[False] * 8], "of twenty slices those with odd numbers, and 16 to 18 have the block"
    assert len(view.slices(count=99)) == 20
    assert view.slices(count=0) == []


def test_window_of_the_model_or_the_volumes_own_range(tmp_path):
    values = np.linspace(0, 5000, 8**3).reshape(8, 8, 8).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "mr.nii")
    assert VolumeView(tmp_path / "mr.nii", {"hu_min": 100, "hu_max": 200}).window == (100, 200)
    low, high = VolumeView(tmp_path / "mr.nii", {"intensity": "normalize"}).window
    assert (low, high) == (pytest.approx(25, abs=10), pytest.approx(4975, abs=10))


def test_an_entry_says_what_its_file_lacks(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.full((8, 8, 8), 1424, np.int16), np.eye(4)), tmp_path / "v.nii")
    entry = {"image": tmp_path / "v.nii", "rescale": [1, -1024], "spacing": [1, 1, 5]}
    view = open_view(entry, WINDOW)
    assert view.values.max() == 400
    assert view.sizes.tolist() == [1, 1, 5]
    assert view.draw(size=40).size == (8 + 8 + 8 + 6, 40)


def test_of_a_radiograph(tmp_path):
    Image.new("L", (30, 40), 7).save(tmp_path / "1.png")
    view = open_view(tmp_path / "1.png", {"spatial_dims": 2})
    assert isinstance(view, RadiographView)
    assert view.draw().size == (30, 40)
    assert view.slices() == ()
    assert view.draw_heat(torch.rand(40, 30)).size == (30, 40)


def test_pictures_of_a_page(volume):
    shown = show_volume(volume, boxes=[[10, 37, -52, 16, 43, -43]], settings=WINDOW, slices=5)
    assert len(shown.slices) == 5
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in shown.slices)
    content = base64.b64decode(shown.planes.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(content)) as planes:
        through = [panel.max() for panel in panels_of(planes)]
    assert min(through) > 200, "the planes go through the box"
    content = base64.b64decode(show_volume(volume, settings=WINDOW).planes.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(content)) as planes:
        letters = [np.delete(panel, np.s_[:12], axis=1).max() for panel in panels_of(planes)]
    assert max(letters) < 100, "in the middle is air"


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "v.nii").write_bytes(b"no volume")
    with pytest.raises(DataError, match=r"v\.nii"):
        open_view(tmp_path / "v.nii", WINDOW)


def test_masks_are_drawn_where_most_of_them_is_seen(volume):
    stored = nibabel.load(volume)
    view, mask = VolumeView(volume, WINDOW), torch.from_numpy(np.asarray(stored.dataobj) == 400)
    drawn = np.asarray(view.draw_masks([torch.zeros_like(mask), mask], size=240)).astype(float)
    plain = np.asarray(view.draw((21, 10, 17), size=240)).astype(float)
    colored = np.ptp(drawn, axis=2) > 20
    bright = np.repeat(plain[..., None], 3, axis=2).max(axis=2) > 200 if plain.ndim == 2 else plain.max(axis=2) > 200
    bright[100:140, [*range(10), *range(195, 205), *range(390, 400)]] = False  # the letters
    assert colored.sum() > 200
    # the block is drawn smoothly, and its mask by whole voxels
    assert (colored & ~bright).mean() < 0.02
    assert (bright & ~colored).mean() < 0.02
    nothing = view.draw_masks([torch.zeros_like(mask)], size=240)
    np.testing.assert_array_equal(np.asarray(nothing.convert("L")), np.asarray(view.draw(size=240).convert("L")))
