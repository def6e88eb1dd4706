# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""Compressed DICOM radiographs are read, or what is missing is said; damage is another reason."""

import base64
import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from monai_mgca.apps.check_command import main
from monai_mgca.data import write_datalist
from monai_mgca.data.check.check_datalist import check_datalist
from monai_mgca.data.preflight import header_reason
from monai_mgca.io.dicom import dicom_codec
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils import DataError

pytest.importorskip("pydicom")
pytest.importorskip("itk")
from .dicom_bytes import EXPLICIT, RLE, dicom, run_lengths

JPEG = "1.2.840.10008.1.2.4."
PIXELS = (np.add.outer(np.arange(16) * 150, np.arange(16) * 20) + np.arange(256).reshape(16, 16) % 7).astype(np.uint16)
# of these pixels, in base 85; no encoder is among the dependencies
FRAMES = {
    "JPEG Lossless": (
        JPEG + "70",
        "|JeV;02lxP0RaI40000000000000072n7TT|HA+a3;+-S5CH%Y0RP$m2mt^91^@u_{{ZUh>gww1_iF0u>gwwEYSRgciHV4*DhY{+"
        "iHNBx36#QOVk%04Vq#)qDoTQ4Vr4LjlAxHFn3#%^pqQALn2SiLCMG5(BBZD$CMG5#q^MH~iHV4*DhY{+iHNBx35k@#Vk%04Vq#)q"
        "DoTQ4Vq#??lAxHFn3#%^pqQALn2M83CMG5(BBZD$CMG5#q^KrS35kfQDhY{+iHNBx35ki6!YWFFVq#)qDoTQ4Vq#(~BA}R<n3#%^"
        "pqQALn2M62OeQ8KBBZD$CMG5#q^Kq)QwfNvDhY{+iHNBx35kh`l!{7%Vq#)qDoTQ4Vq#({O)!|4n3#%^pqQALn2M61nE%-",
    ),
    "JPEG-LS": (
        JPEG + "80",
        "|JeWN03cIPNk&Eh0ssI30000G0000G3J?YX0003j0003j|L6b+00001|JeWc01FTR5C9MX0TBTI_y7$7|Nj6I07C&306_oR00;pA"
        "00000p-d@+@hmBX@VrMMkH=$in3z*cAyg=dqDZ7Fg;EIgay1nSAw(*s64H>7G)*NTAsqn{M3K{>MJ|IPkxZE~R5=8KRH;&-ibWok"
        "B1DL>=;VnKBt?!wtg=NDPa2I)G}BKpF*He)O+2);(@iw;l9Np|iyD%WnrWt<LPBYzl9>igB$7!?goKhwOvgt@vPx4i(bT0Wn8?af"
        "Igw^EGL)q=GG!@BLn#ERQj*-MRHUW3P@y1{rMXh2DNAytRKh(=ks_+8awJt$vK=BtRZ`?gs;XR~HC0r(5-O^fB1Dk?*#",
    ),
    "JPEG-LS near": (
        JPEG + "81",
        "|JeWN03cIPNk&Eh0ssI30000G0000G3J?YX0003j0003j|L6b+00001|JeWc01FTR5C9MX0TBTI_y7$7|Nj6O08IfR06_oR00;pA"
        "00IC2pzwH1JRTknJXo=1mKf)ds6-+n5=3bcq?#!tgioR*f=N;$B2c8ID2e1HDN0g=A|zB)HPuvAO;l7=)N9I$nu?04im2C-H5yH3"
        "lSa6jNR6UKk)vqQM)fq)MI_Qm6w-W>DI}6fW|AqreI%1qkxDMoN>nK-RS8Y%r3q4!YLp|z)g@4sB~o^(lDd?slgBAJ?;!u#",
    ),
    "JPEG Extended": (
        JPEG + "51",
        "|JeWF01!$>Nk#wx0RR9200961|JwjV009930RaI40RaI40RaI40s#R50RaL50RaL60s;a80s;a90|WyD0|NsB0s{mC0|W#F1Ox&D"
        "1qB2I1q1{H1pmPR3k(1d01yEI5di<h02KfM0RR9100000000000000B4*$deDi8nx0s{sF2LJ#700000000330|^l!00svP6EOr5"
        "QF0j~GB!a|asS!?2mt{A06zeduY{IWL`v-?FyI9MG)fx6zE;4et<4J1ovBTQlmZfYRT-x2j}8>6BSaZtR+kKu<rO*;RX{x}Luv>J"
        "N##_57hy&mAxQ<23z$+{U~FWRXiS+E4z&5QfI?3yrR{R4aeYB9JB1yflr}hi(>Z>NfB)G",
    ),
    "JPEG 2000": (
        JPEG + "91",
        "|4;u>04V?f0000G0000G00000000000000G0000G0000000000009pH0sm3}3;+NC0RRC61ONg5TmT0^fQX2Y|6~9q00BdCWnpw>"
        "WFTUBAWv{*Zc0!^M<8}(a&u{KZXhx)H7+#&kN^q*00000>;M7(li&E0SQ0B|7LSjif*2N3@_RT!u^weH^Yph<6<u(oMD=r=?+~MB"
        "(D!IF(C*uV#Jnhq=Q_FX2JT$X;G4~DSU(|ygsm|`;KR&MY*uNX-<D{IWKvtpLGL3L;Wv#lH2@&CkMv9Bx>1o<Jot5szyb50fFFTG"
        "00ZH0Hldl?3ltm5A9j{>l5lK~0sZy{)dgA$M~Nc~j8~UErZig++?aqu+KG=E)V|8JEuQhqF|(B5PSm5kiyeSZQ7oI6d$u1LN};DX"
        "4Pz(7+ESp_65d^&Lua$MeNiMEmTO=C*#",
    ),
    "JPEG 2000 boxed": (
        JPEG + "90",
        "0000CYEU2`4GM<}0000KW^{RQYH%_j00000YH%_j0000jYH%`W0000MX=r3}0000G0000G009pN0000001sntY;pkr000005dZ)I"
        "VQO$PWB*V8Q2;3b000005C8xG5C8xG00000000005C8xG5C8xG000000003G0RjI~01N;C009621Oxy9|6BkEK!AvdkpE-=B>(|K"
        "a%Ew3Wn>^?c_2@4Wo}APMMofZWpZ<AZ*CwmE;TMR|BwI*000000PFw(|C8VNlUNcfXBLl-p@J9|Qu2E^La`oYG4u4dQx#osq(t>|"
        "obM2$XVCX(GtlnagT%Zjisw4H?*{H%&)}QQZCF1cgM_UyLg2&9Pi$6cpWl{fh-6Y*%R%oW7U4IIGc^DpwvY5n<+@RkRy_E1i@*W%"
        "pMW2ML;wTfa5kZt+6xpL${%)?bdqpvj{*Jm2Gs>x3rC3~3yfEnJ*G5U5Zsu6LfVOs8q~hZv@M?T%Q3T*;7-(|yo()xPf;wJmwUD!"
        "8A_q2I1OVb#M)Az))L-bo<nD|w|!A08<uNd|Je",
    ),
    "HTJ2K": (
        JPEG + "201",
        "|4;u>04YEK0000G0000G00000000000000G0000G0000000000009pH0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&"
        "kdTm&kdTmwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*000010ssO3lfVEb<@p5%bN~Rr0206e6F>kFfNBAUbO5ya0|#^f"
        "7jpo>02L4b1w;S=7=QrH_5gyk003YWs{o*s00*-GzyK9+00pH009AkhR*a_o0H*;0rT}oKYijBMP6SN-K?Vc6SW7qnDtu@;@YxZc"
        "Sd{?404|mQ0d_C|3!zyVLJ$dot|17zHUtoq7o=;0Q0QPs3rg-Uq|EGect9t)U{L{}E(V7v4n|#I*u`Kls^Bu<!U6!K0Zai5hyj*h"
        "gaxod5G}{!9*V4^T2-FuNbI!%Nv&tp<xE@F)-x+DIr;u$-XFLBPai87eEq7Iu=RAZ0sq+",
    ),
}


def min_max(values):
    return (values - float(values.min())) * 255 / (float(values.max()) - float(values.min()))


def compressed(name, **options):
    syntax, frame = FRAMES[name]
    described = {"syntax": syntax, "frame": base64.b85decode(frame), "BitsStored": 12, "HighBit": 11}
    return dicom(PIXELS, **described | options)


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("changed", [{}, {"syntax": ""}, {"syntax": EXPLICIT}, {"WindowWidth": "0"}])
def test_compressed(tmp_path, name, changed):
    """Also where TransferSyntaxUID is missing or wrong: the pixels themselves say what they are."""
    (tmp_path / "a.dcm").write_bytes(compressed(name, **changed))
    lossy = name in ("JPEG-LS near", "JPEG Extended")
    np.testing.assert_allclose(LoadRadiograph()(tmp_path / "a.dcm")[0], min_max(PIXELS), atol=0.3 if lossy else 1e-3)


def encoded(values, **options):
    stream = BytesIO()
    Image.fromarray(values).save(stream, **options)
    return stream.getvalue()


def test_compressed_8_bits(tmp_path):
    """Of which JPEG keeps no more, also where the tags declare 16."""
    gray = (PIXELS >> 4).astype(np.uint8)
    for dtype in (np.uint8, np.uint16):
        frame = encoded(gray, format="JPEG", quality=95)
        (tmp_path / "a.dcm").write_bytes(dicom(gray.astype(dtype), JPEG + "50", frame=frame, BitsStored=8, HighBit=7))
        right = np.asarray(Image.open(BytesIO(frame)))
        np.testing.assert_allclose(LoadRadiograph()(tmp_path / "a.dcm")[0], min_max(right), atol=1.2)


def test_run_lengths(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(PIXELS, RLE, frame=run_lengths(PIXELS)))
    np.testing.assert_allclose(LoadRadiograph()(tmp_path / "a.dcm")[0], min_max(PIXELS), atol=1e-3)


@pytest.mark.parametrize("name", ["JPEG Lossless", "HTJ2K"])
def test_sign_and_padding_of_compressed_pixels(tmp_path, name):
    content = compressed(name, signed=True, PixelPaddingValue=0)
    (tmp_path / "a.dcm").write_bytes(content)
    signed = PIXELS.astype(int) - 4096 * (PIXELS >= 2048)
    seen = signed[PIXELS != 0]
    right = np.where(PIXELS == 0, 0, (signed - seen.min()) * 255.0 / (seen.max() - seen.min()))
    np.testing.assert_allclose(LoadRadiograph()(tmp_path / "a.dcm")[0], right, atol=1e-3)


def test_pixels_of_another_size_than_the_tags_say(tmp_path):
    """No room is made for what a stream of a few bytes declares."""
    for name, (_, frame) in FRAMES.items():
        if "boxed" in name:  # the boxes' own size does not matter
            continue
        frame = base64.b85decode(frame).replace(b"\0\x10\0\x10", b"\xff\xff\xff\xff", 1)
        frame = frame.replace(b"\0\0\0\x10\0\0\0\x10", b"\0\1\0\0\0\1\0\0", 1)
        (tmp_path / "a.dcm").write_bytes(compressed(name, frame=frame))
        with pytest.raises(DataError, match="16 x 16 pixels, and its compressed pixels are 65"):
            LoadRadiograph()(tmp_path / "a.dcm")


SIGNED_8 = (
    "|4;u>04V?f0000G0000G00000000000000G0000G000000000000D;q0sm3}3;+NC0RRC61ONg5TmT0^KuAbX|6~9q00BdCWnpw>"
    "WFTUBAWv{*Zc0!^M<8}(a&u{KZXhx)H7+#&kN^q*00000PXGb`liz`e5-S4>3lrqIFNHriP>UCJ?EdS!znKc-S4oO94|pUB;W`U7"
    "&<FVdY&I56GGoVZpTH48^MwF5p*^NFV1NJF"
)


def test_8_bits_with_a_sign(tmp_path):
    values = np.arange(256).reshape(16, 16) - 128
    frame = base64.b85decode(SIGNED_8)
    (tmp_path / "a.dcm").write_bytes(
        dicom(values.astype(np.int8).view(np.uint8), JPEG + "90", frame=frame, signed=True)
    )
    np.testing.assert_allclose(LoadRadiograph()(tmp_path / "a.dcm")[0], values + 128, atol=1e-3)


@pytest.mark.parametrize("segments", [0, 1, 3, 2**32 - 1])
def test_damaged_run_lengths(tmp_path, segments):
    """GDCM divides by their number."""
    frame = segments.to_bytes(4, "little") + run_lengths(PIXELS)[4:]
    (tmp_path / "a.dcm").write_bytes(dicom(PIXELS, RLE, frame=frame))
    with pytest.raises(DataError, match="run lengths are damaged"):
        LoadRadiograph()(tmp_path / "a.dcm")


def test_precision_that_no_radiograph_has(tmp_path):
    frame = base64.b85decode(FRAMES["JPEG-LS"][1])
    place = frame.index(b"\xff\xf7") + 4
    (tmp_path / "a.dcm").write_bytes(compressed("JPEG-LS", frame=frame[:place] + b"\x7f" + frame[place + 1 :]))
    with pytest.raises(DataError, match="127 bits"):
        LoadRadiograph()(tmp_path / "a.dcm")


def entries(folder, files):
    """A datalist of files, each with a report and a patient of its own."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    words = ("clear", "wide", "small", "old", "dense", "faint", "round", "low", "high", "flat", "left", "right")
    training = [
        {"id": name, "image": name, "report": f"Lungs are {word}. No effusion.", "patient": name}
        for name, word in zip(files, words, strict=False)
    ]
    write_datalist(folder / "list.json", {"training": training}, "n", "s", {})
    return folder / "list.json"


def test_check_separates_damaged_files_from_sound_ones(tmp_path):
    whole = compressed("JPEG Extended")
    damaged = bytearray(compressed("JPEG 2000"))
    damaged[-80:-40] = bytes(40)
    files = {
        "ended.dcm": whole,
        "cut in its pixels.dcm": whole[:-60],
        "cut in its tags.dcm": dicom(PIXELS)[:-60],
        "cut before its end.dcm": compressed("JPEG-LS")[:-12],
        "frame cut.dcm": compressed("JPEG 2000", frame=base64.b85decode(FRAMES["JPEG 2000"][1])[:-60]),
        "video.dcm": compressed("JPEG-LS", syntax=JPEG + "102"),
        "xl.dcm": compressed("JPEG-LS", syntax=JPEG + "110"),
        "strange.dcm": compressed("JPEG-LS", syntax="1.2.3", frame=b"nobody knows"),
    }
    found = {p.file: p for p in check_datalist(entries(tmp_path, files), num_workers=1)}
    reasons = {name: problem.reason for name, problem in found.items()}
    assert reasons == {
        **dict.fromkeys((name for name in files if "cut" in name), "truncated"),
        **dict.fromkeys(("video.dcm", "xl.dcm", "strange.dcm"), "no decoder"),
    }
    assert "pip install imagecodecs" in found["xl.dcm"].detail
    assert "uncompressed" in found["video.dcm"].detail
    # before a training begins
    assert header_reason(str(tmp_path), "xl.dcm") == "no decoder"
    assert header_reason(str(tmp_path), "ended.dcm") is None


def test_clean_datalist_says_what_it_leaves_out(tmp_path, capsys):
    files = {"a.dcm": compressed("JPEG Lossless"), "b.dcm": compressed("JPEG-LS", syntax=JPEG + "110")}
    datalist = entries(tmp_path, files)
    assert main([str(datalist), "--write-clean", str(tmp_path / "clean.json")]) == 1
    output = capsys.readouterr().out
    assert "left out: 1 (no decoder)" in output
    assert "no decoder is sound" in output
    assert "pip install imagecodecs" in output
    assert [entry["id"] for entry in json.loads((tmp_path / "clean.json").read_text())["training"]] == ["a.dcm"]


def test_decoder_that_is_installed_is_used(tmp_path, monkeypatch):
    frame = b"\xff\x0a and so on"
    (tmp_path / "a.dcm").write_bytes(compressed("JPEG-LS", syntax=JPEG + "110", frame=frame))
    with pytest.raises(DataError, match="pip install imagecodecs"):
        LoadRadiograph()(tmp_path / "a.dcm")

    class Codecs:
        @staticmethod
        def jpegxl_decode(data):
            return PIXELS

    monkeypatch.setattr(dicom_codec, "imagecodecs", Codecs)
    np.testing.assert_allclose(LoadRadiograph()(tmp_path / "a.dcm")[0], min_max(PIXELS), atol=1e-3)


def test_cases(shared):
    folder = shared / "cases" / "dicom_jpeg_lossless_called_unreadable"
    for path in folder.glob("*.dcm"):
        np.testing.assert_allclose(LoadRadiograph()(path)[0], np.load(folder / "right.npy"), atol=0.3)
