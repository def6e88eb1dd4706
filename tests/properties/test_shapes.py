# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Resized, Rotate90d, SpatialCropd, SpatialPadd

from monai_mgca.data import split_by_patient
from monai_mgca.data.split import count_shared_patients
from monai_mgca.io import decode_rle, decode_siim, encode_rle
from monai_mgca.io.geometry import Geometry
from monai_mgca.label.store.markups import boxes_to_markups, markups_to_boxes
from monai_mgca.transforms import InvertProbabilitiesd, MapBoxesd, RememberAffined
from monai_mgca.transforms.box_coordinates import map_boxes, restore_boxes
from monai_mgca.utils import DataError

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5)),
    lambda inside: st.one_of(st.lists(inside, max_size=4), st.dictionaries(st.text(max_size=5), inside, max_size=3)),
    max_leaves=8,
)
SIZES = st.one_of(JSON, st.lists(st.integers(-3, 2**40), min_size=2, max_size=2))
COUNTS = st.one_of(JSON, st.lists(st.integers(-(2**62), 2**62), max_size=6), st.lists(st.integers(0, 9), max_size=6))


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**32 - 1), st.sampled_from((0, 0.1, 0.5, 1)))
def test_run_lengths_there_and_back(height, width, seed, part):
    mask = np.random.default_rng(seed).random((height, width)) < part
    assert np.array_equal(decode_rle(encode_rle(mask)), mask)


@given(SIZES, COUNTS)
def test_run_lengths_of_any_kind_are_read_or_refused(size, counts):
    try:
        mask = decode_rle({"size": size, "counts": counts})
    except DataError:
        return
    assert mask.shape == tuple(int(side) for side in size)
    assert set(np.unique(mask)) <= {0, 1}
    assert mask.sum() == sum(int(count) for count in counts[1::2])


@given(
    st.one_of(
        st.text(max_size=20), st.lists(st.integers(-(2**70), 2**70), max_size=6).map(lambda n: " ".join(map(str, n)))
    )
)
def test_run_lengths_of_siim_are_read_or_refused(text):
    for relative in (True, False):
        try:
            mask = decode_siim(text, 4, 5, relative)
        except DataError:
            continue
        assert mask.shape == (4, 5)
        assert set(np.unique(mask)) <= {0, 1}


@st.composite
def moved_images(draw):
    """An image of up to 30 x 40, after some transforms that move its pixels and lose none of them."""
    height, width = draw(st.integers(8, 30)), draw(st.integers(8, 40))
    steps = [RememberAffined("image")]
    for kind in draw(st.lists(st.sampled_from(("flip", "flip other", "turn", "pad", "longest", "resize")), max_size=4)):
        steps.append(
            {
                "flip": lambda: Flipd("image", 0),
                "flip other": lambda: Flipd("image", 1),
                "turn": lambda: Rotate90d("image", draw(st.integers(1, 3))),
                "pad": lambda: SpatialPadd("image", (draw(st.integers(40, 60)), draw(st.integers(40, 60)))),
                "longest": lambda: Resized("image", draw(st.integers(10, 70)), size_mode="longest", mode="area"),
                "resize": lambda: Resized("image", (draw(st.integers(9, 50)), draw(st.integers(9, 50))), mode="area"),
            }[kind]()
        )
    image = MetaTensor(torch.ones(1, height, width))
    image.meta["spatial_shape"] = np.array([height, width])
    return Compose(steps)({"image": image})["image"], height, width


BOX = st.tuples(*[st.floats(0, 1, width=32)] * 4)


def boxes_in(height: int, width: int, parts: list) -> torch.Tensor:
    corners = [(min(a, c) * width, min(b, d) * height, max(a, c) * width, max(b, d) * height) for a, b, c, d in parts]
    return torch.tensor(corners).reshape(-1, 4)


@given(moved_images(), st.lists(BOX, max_size=4))
def test_boxes_follow_their_image_and_come_back(moved, parts):
    image, height, width = moved
    boxes = boxes_in(height, width, parts)
    there = map_boxes(boxes, image)
    rows, columns = image.shape[1:]
    assert (there >= -1e-2).all()
    assert (there <= torch.tensor([columns, rows, columns, rows]) + 1e-2).all()
    torch.testing.assert_close(restore_boxes(there, image), boxes, rtol=1e-3, atol=1e-2)


@given(st.integers(8, 30), st.integers(8, 40), st.lists(BOX, max_size=4), st.integers(4, 8), st.integers(4, 8))
def test_boxes_are_clipped_to_a_crop_and_those_outside_vanish(height, width, parts, rows, columns):
    crop = Compose(
        [RememberAffined("image"), SpatialCropd("image", roi_slices=[slice(2, 2 + rows), slice(1, 1 + columns)])]
    )
    item = crop({"image": MetaTensor(torch.ones(1, height, width))})
    boxes = boxes_in(height, width, parts)
    found = MapBoxesd("boxes", label_keys="labels")({**item, "boxes": boxes, "labels": list(range(len(boxes)))})
    limit = torch.tensor(item["image"].shape[:0:-1]).repeat(2)
    assert len(found["boxes"]) == len(found["labels"])
    assert (found["boxes"] >= 0).all()
    assert (found["boxes"] <= limit).all()
    clipped = (boxes - torch.tensor([1.0, 2, 1, 2])).clamp(min=torch.zeros(4), max=limit.float())
    torch.testing.assert_close(found["boxes"], clipped[found["labels"]], rtol=1e-4, atol=1e-4)
    lost = [i for i in range(len(boxes)) if i not in found["labels"].tolist()]
    assert all((clipped[i, 2:] - clipped[i, :2]).min() < 1 + 1e-4 for i in lost)


@given(st.integers(4, 40), st.integers(4, 40), st.integers(8, 32), st.floats(0, 1))
def test_probabilities_come_back_at_their_images_size(height, width, size, value):
    resize = Compose([Resized("image", size, size_mode="longest", mode="area"), SpatialPadd("image", (size, size))])
    item = resize({"image": MetaTensor(torch.zeros(1, height, width))})
    found = InvertProbabilitiesd("pred", resize)({**item, "pred": torch.full((2, size, size), value)})["pred"]
    assert found.shape == (2, height, width)
    torch.testing.assert_close(found.as_tensor(), torch.full((2, height, width), value), rtol=1e-5, atol=1e-6)


@st.composite
def patients(draw):
    names = st.one_of(st.text(max_size=4), st.integers(0, 30), st.sampled_from(("\ud800", "é", "")))
    return [{"id": i, "patient": p} for i, p in enumerate(draw(st.lists(names, max_size=30)))]


@given(patients(), st.sampled_from(((0.8, 0.1, 0.1), (1, 0, 0), (0.5, 0, 0.5), (0.34, 0.33, 0.33))), st.data())
def test_no_patient_is_in_two_splits_whatever_the_order(entries, fractions, data):
    seed, order = data.draw(st.integers(0, 99)), data.draw(st.permutations(entries))
    wanted = sum(part > 0 for part in fractions)
    if len({entry["patient"] for entry in entries}) < wanted:
        with pytest.raises(DataError):
            split_by_patient(entries, fractions, seed)
        return
    splits = split_by_patient(entries, fractions, seed)
    assert count_shared_patients(splits) == 0
    assert len(splits) == wanted
    assert all(splits.values())
    assert sorted(entry["id"] for some in splits.values() for entry in some) == [entry["id"] for entry in entries]
    others = split_by_patient(order, fractions, seed)
    assert {s: {e["id"] for e in some} for s, some in splits.items()} == {
        s: {e["id"] for e in some} for s, some in others.items()
    }


@given(
    st.lists(BOX, max_size=3),
    st.floats(-3, 3),
    st.tuples(*[st.floats(0.05, 5)] * 2),
    st.tuples(*[st.floats(-500, 500)] * 2),
)
def test_boxes_come_back_from_slicers_markups(parts, angle, spacing, origin):
    affine = np.eye(4)
    affine[:2, :2] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * spacing
    affine[:2, 3] = origin
    geometry, boxes = Geometry((40, 30), affine), boxes_in(30, 40, parts).double().numpy()
    found, names = markups_to_boxes(boxes_to_markups(boxes, ["nodule"] * len(boxes), None, geometry), geometry)
    assert np.allclose(found, boxes, atol=1e-5)
    assert names == ["nodule"] * len(boxes)
