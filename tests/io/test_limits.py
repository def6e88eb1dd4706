# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""A few bytes that unpack to gigabytes: refused before anything of that size is made."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_mgca.data.annotations import image_size
from monai_mgca.io.geometry import read_geometry
from monai_mgca.io.image_header import look_at_header
from monai_mgca.io.limits import MAX_PIXELS, refuse_bomb
from monai_mgca.transforms import LoadMask, LoadRadiograph, LoadVolume
from monai_mgca.utils import DataError

MEMORY = 40_000_000
ZEROS = gzip.compress(bytes(2**26), 1)


def save_png(path, width, height):
    """A whole, valid PNG of one bit a pixel, made without its pixels: rows of zeros pack to a thousandth."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    return path


def save_nifti(path, shape, extension=b"\0\0\0\0", start=352.0, order="<"):
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    head = bytearray(header.binaryblock)
    head[108:112] = struct.pack(f"{order}f", start)
    head[344:348] = b"n+1\0"
    path.write_bytes(gzip.compress(bytes(head) + extension) + ZEROS)
    return path


def refused(load, path, words):
    """It is refused in these words and with its name, and never takes the memory."""
    assert path.stat().st_size < 600_000
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=words) as caught:
            load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert peak < MEMORY


@pytest.mark.parametrize(("width", "height"), [(8193, 8192), (12000, 12000), (14000, 14000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_png(tmp_path, width, height):
    path = save_png(tmp_path / "bomb.png", width, height)
    refused(LoadRadiograph(), path, "bomb")
    refused(LoadMask(), path, "bomb")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_png_where_pillow_has_no_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    refused(LoadRadiograph(), save_png(tmp_path / "bomb.png", 14000, 14000), "declares 14000 x 14000 values")


def test_the_limit_itself_is_read():
    refuse_bomb((8192, 8192))
    with pytest.raises(DataError, match=f"{MAX_PIXELS:,}"):
        refuse_bomb((8192, 8193))
    with pytest.raises(DataError):
        refuse_bomb([2**40, 2**40])


@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti(tmp_path, order):
    refused(LoadRadiograph(), save_nifti(tmp_path / "a.nii.gz", (14000, 14000), order=order), "14000 x 14000 values")
    refused(LoadRadiograph(), save_nifti(tmp_path / "b.nii.gz", (512, 512, 600), order=order), "bomb")
    refused(LoadVolume(), save_nifti(tmp_path / "c.nii.gz", (2000, 2000, 2000), order=order), "bomb")
    refused(LoadMask(), save_nifti(tmp_path / "d.nii.gz", (14000, 14000), order=order), "bomb")


@pytest.mark.parametrize(
    ("size", "start"), [(2**26, 352 + 2**20), (0, 352 + 64), (64, 2.0**26), (64, 0.0), (64, float("nan"))]
)
def test_nifti_whose_extensions_make_no_sense(tmp_path, size, start):
    extension = b"\1\0\0\0" + struct.pack("<ii", size, 6)
    path = save_nifti(tmp_path / "a.nii.gz", (64, 64), extension, start)
    refused(LoadRadiograph(), path, "its values begin|extension")


def test_nifti_with_a_comment_is_read(tmp_path):
    image = nibabel.Nifti1Image(np.arange(64, dtype=np.uint8).reshape(8, 8), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"made by hand"))
    nibabel.save(image, tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti2Image(image.get_fdata().astype(np.uint8), np.eye(4)), tmp_path / "b.nii")
    assert LoadRadiograph()(tmp_path / "a.nii.gz").max() == 63
    assert LoadRadiograph()(tmp_path / "b.nii").shape == (1, 8, 8)


def test_nifti_headers_that_nibabel_reads_in_another_way(tmp_path):
    """It takes any size of the header, and goes by the number of axes for the order of the bytes."""
    path = save_nifti(tmp_path / "a.nii.gz", (14000, 14000))
    head = bytearray(gzip.decompress(path.read_bytes())[:352])
    path.write_bytes(gzip.compress(bytes(4) + bytes(head[4:])) + ZEROS)
    refused(LoadRadiograph(), path, "does not begin with its size")
    assert look_at_header(path).problem == "unreadable"
    head[:4] = struct.pack(">i", 348)
    head[40:56] = struct.pack("<8h", 2, 0x7F00, 0x7F00, 256, 256, 256, 256, 256)  # 127 x 127 in the other order
    path.write_bytes(gzip.compress(bytes(head)) + ZEROS)
    refused(LoadRadiograph(), path, "declares 512 axes")
    head[:4], head[40:56] = struct.pack("<i", 348), struct.pack("<8h", 2, -14000, -14000, 1, 1, 1, 1, 1)
    path.write_bytes(gzip.compress(bytes(head)) + ZEROS)
    refused(LoadRadiograph(), path, "14000 x 14000 values")


def test_nifti_2(tmp_path):
    head = bytearray(nibabel.Nifti2Header().binaryblock)
    head[16:80] = struct.pack("<8q", 2, 2**20, 2**20, 1, 1, 1, 1, 1)
    (tmp_path / "a.nii").write_bytes(bytes(head) + bytes(64))
    refused(LoadRadiograph(), tmp_path / "a.nii", "1048576 x 1048576 values")


def test_dicom(tmp_path, save_dicom):
    pydicom = pytest.importorskip("pydicom")
    path = save_dicom(tmp_path / "a.dcm", np.zeros((8, 8), np.uint8), Rows=60000, Columns=60000)
    refused(LoadRadiograph(), path, "60000 x 60000 values")

    data = pydicom.dcmread(save_dicom(tmp_path / "b.dcm", np.zeros((8, 8), np.uint8)))
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(tmp_path / "b.dcm", write_like_original=False)
    assert LoadRadiograph()(tmp_path / "b.dcm").shape == (1, 8, 8)
    raw, packer = (tmp_path / "b.dcm").read_bytes(), zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(140)) + packer.flush()
    end = 144 + struct.unpack("<I", raw[140:144])[0]  # of what describes the file
    long = b"\2\0\3\0UI" + struct.pack("<H", 3000) + b"1." * 1500  # the kind of packing stands behind it
    for content in (raw[:end] + bomb, raw[:144] + long + raw[144:end] + bomb):
        (tmp_path / "b.dcm").write_bytes(content)
        for load in (LoadRadiograph(), image_size):
            refused(load, tmp_path / "b.dcm", "unpacks to more than")
        assert look_at_header(tmp_path / "b.dcm").problem == "decompression bomb"
    (tmp_path / "b.dcm").write_bytes(raw[:end] + b"\xff" + raw[end + 1 :])
    assert look_at_header(tmp_path / "b.dcm").problem == "unreadable"


def test_packed_dicom_that_itk_reads(tmp_path, save_dicom):
    """Of a series each file may be small enough; ITK makes room for the pixels when it looks at a header."""
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("itk")
    (tmp_path / "series").mkdir()
    for k in range(2):
        place = {"InstanceNumber": k + 1, "ImagePositionPatient": [0, 0, k], "SeriesInstanceUID": "1.2.5"}
        path = save_dicom(tmp_path / "series" / f"{k}.dcm", np.zeros((8, 8), np.uint8), **place)
        data = pydicom.dcmread(path)
        data.Rows = data.Columns = 30000
        data.PixelData, data["PixelData"].is_undefined_length = pydicom.encaps.encapsulate([bytes(64)]), True
        data.file_meta.TransferSyntaxUID = pydicom.uid.RLELossless
        data.save_as(path)
    refused(LoadVolume(), tmp_path / "series", "1800000000 values")
    refused(read_geometry, path, "900000000 values")


def test_several_frames_and_other_colors(tmp_path):
    pages = [Image.new("L", (8, 8), value) for value in (0, 200)]
    for name in ("a.gif", "a.tif", "a.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        with pytest.raises(DataError, match="several frames"):
            LoadRadiograph()(tmp_path / name)
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="CMYK"):
        LoadRadiograph()(tmp_path / "a.jpg")
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "b.jpg")
    assert LoadRadiograph()(tmp_path / "b.jpg").max() == 9
