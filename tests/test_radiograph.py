from __future__ import annotations

import hashlib
import io
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

from cxrmodels import radiograph
from cxrmodels.radiograph import SYNTHETIC_MARK, RadiographError, read_radiograph, resize, to_png
from tests.broken_inputs import (
    PATIENT,
    answered_or_refused,
    broken_inputs,
    dataset,
    dicom,
    film,
    picture,
    png_chunks,
    png_header,
    raw_dicom,
    saved,
    tiff,
)

GREY = film()
DEEP = film(bits=12)
BROKEN = broken_inputs()
ROUNDING = 1e-6


def pixels_of(data: bytes) -> np.ndarray:
    return read_radiograph(data).pixels


def close(first: np.ndarray, second: Any, tolerance: float = ROUNDING) -> bool:
    return bool(np.allclose(first, second, rtol=0, atol=tolerance))


# --- what comes back ----------------------------------------------------------------------------------------


def test_radiograph_of_an_8_bit_png() -> None:
    data = picture(GREY, "PNG")
    film_read = read_radiograph(data, "a/b\\film.png")
    assert film_read.name == "film.png"
    assert film_read.sha256 == hashlib.sha256(data).hexdigest()
    assert film_read.original_size == (80, 96)
    assert film_read.format == "PNG"
    assert film_read.notes == ()
    assert not film_read.synthetic
    assert film_read.pixels.dtype == np.float32
    assert film_read.pixels.shape == (96, 80)
    assert np.array_equal(film_read.pixels, GREY / np.float32(255))
    with pytest.raises(ValueError, match="read-only"):
        film_read.pixels[0, 0] = 1


def test_films_are_equal_when_their_bytes_are() -> None:
    first, same = (read_radiograph(picture(GREY, "PNG"), name) for name in "ab")
    assert first == same
    assert len({first, same}) == 1
    assert first != read_radiograph(picture(GREY, "BMP"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\films\\one.dcm", "one.dcm"),
        ("a\0b\x1b[31m\u202egnp.png\u2028", "ab[31mgnp.png"),
        ("x" * 10_000_000, "x" * 120),
        ("", "unnamed"),
        ("folder/", "unnamed"),
        ("..", "unnamed"),
        ("\udcff.png", ".png"),
    ],
)
def test_display_name(name: str, shown: str) -> None:
    assert read_radiograph(picture(GREY, "PNG"), name).name == shown


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG"])
def test_content_tells_the_format_not_the_name(kind: str) -> None:
    each: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}
    options = each.get(kind, {})
    for name in ("film.dcm", "film.txt", ""):
        film_read = read_radiograph(picture(GREY, kind, **options), name)
        assert film_read.format == kind
        assert close(film_read.pixels, GREY / 255, 0.05 if kind == "JPEG" else ROUNDING)


def test_own_pictures_are_known_as_synthetic() -> None:
    for text, synthetic in ((SYNTHETIC_MARK, True), ("GIMP", False)):
        info = PngInfo()
        info.add_text("Software", text)
        assert read_radiograph(picture(GREY, "PNG", pnginfo=info)).synthetic is synthetic


# --- pictures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_full_precision(kind: str) -> None:
    deep = film(bits=16)
    film_read = read_radiograph(picture(deep, kind))
    assert close(film_read.pixels, deep / 65535, 1e-7)
    assert len(np.unique(film_read.pixels)) == len(np.unique(deep)) > 5000
    assert film_read.notes == ()


def test_12_bit_film_in_16_bit_file_is_not_black() -> None:
    film_read = read_radiograph(picture(DEEP, "PNG"))
    assert close(film_read.pixels, DEEP / 4095)
    assert film_read.notes == ("values fill 12 of 16 bits",)


def test_1_bit_and_palette() -> None:
    bits = Image.fromarray(GREY).convert("1")
    out = io.BytesIO()
    bits.save(out, "PNG")
    assert np.array_equal(pixels_of(out.getvalue()), np.asarray(bits, np.float32))
    reversed_palette = Image.fromarray(255 - GREY).convert("P")
    reversed_palette.putpalette([255 - index // 3 for index in range(768)])
    out = io.BytesIO()
    reversed_palette.save(out, "PNG")
    film_read = read_radiograph(out.getvalue())
    assert close(film_read.pixels, GREY / 255)
    assert film_read.notes == ()


def test_grey_stored_as_colour_comes_through_exactly_and_colour_is_noted() -> None:
    film_read = read_radiograph(picture(np.dstack([GREY] * 3), "PNG"))
    assert np.array_equal(film_read.pixels, GREY / np.float32(255))
    assert film_read.notes == ()
    coloured = np.dstack([GREY, GREY // 2, GREY // 4])
    film_read = read_radiograph(picture(coloured, "PNG"))
    assert close(film_read.pixels, coloured @ np.array([0.299, 0.587, 0.114]) / 255, 1 / 255)
    assert film_read.notes == ("colour picture turned to grey",)


def test_cmyk() -> None:
    cmyk = Image.fromarray(np.dstack([GREY] * 3)).convert("CMYK")
    out = io.BytesIO()
    cmyk.save(out, "TIFF")
    assert close(pixels_of(out.getvalue()), GREY / 255, 1 / 255)


def test_alpha_is_put_on_black() -> None:
    alpha = np.full_like(GREY, 255)
    opaque = read_radiograph(picture(np.dstack([GREY] * 3 + [alpha]), "PNG"))
    assert close(opaque.pixels, GREY / 255)
    assert opaque.notes == ()
    alpha[:48] = 0
    half = read_radiograph(picture(np.dstack([GREY] * 3 + [alpha]), "PNG"))
    assert not half.pixels[:48].any()
    assert close(half.pixels[48:], GREY[48:] / 255)
    assert half.notes == ("transparent parts put on black",)


@pytest.mark.parametrize(("sample_format", "kind"), [(3, np.float32), (2, np.int32)])
def test_32_bit_tiff_is_stretched(sample_format: int, kind: type) -> None:
    values: np.ndarray = (DEEP.astype(np.int32) * 100 - 50_000).astype(kind)
    film_read = read_radiograph(tiff(80, 96, 32, values.tobytes(), t339=sample_format))
    assert close(film_read.pixels, DEEP / 4095)
    assert film_read.notes == ("stretched from least to greatest value",)


def test_values_that_are_not_finite_are_black_and_do_not_move_the_range() -> None:
    values = DEEP.astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    film_read = read_radiograph(tiff(80, 96, 32, values.tobytes(), t339=3))
    assert not film_read.pixels[0, :3].any()
    assert close(film_read.pixels[1:], DEEP[1:] / 4095)


@pytest.mark.parametrize("bits", [8, 16])
def test_white_is_zero_tiff_is_inverted(bits: int) -> None:
    values = film(bits=bits)
    film_read = read_radiograph(tiff(80, 96, bits, values.tobytes(), t262=0))
    assert close(film_read.pixels, 1 - values / (2**bits - 1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    film_read = read_radiograph(picture(GREY, kind, exif=exif, **options))
    # EXIF 2.3, 4.6.4: where row 0 and column 0 of the stored picture belong.
    upright = {
        1: GREY,
        2: GREY[:, ::-1],
        3: GREY[::-1, ::-1],
        4: GREY[::-1],
        5: GREY.T,
        6: np.rot90(GREY, -1),
        7: GREY[::-1, ::-1].T,
        8: np.rot90(GREY),
    }[orientation]
    assert film_read.pixels.shape == upright.shape
    assert film_read.original_size == upright.shape[::-1]
    assert np.abs(film_read.pixels - upright / 255).mean() < (0.05 if kind == "JPEG" else ROUNDING)
    notes = {1: (), 3: ("EXIF rotated",), 6: ("EXIF rotated",), 8: ("EXIF rotated",)}
    assert film_read.notes == notes.get(orientation, ("EXIF mirrored",))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_first_of_several_frames(kind: str) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    later = [Image.fromarray(255 - GREY), Image.fromarray(GREY[::-1].copy())]
    film_read = read_radiograph(picture(GREY, kind, save_all=True, append_images=later, **options))
    assert close(film_read.pixels, GREY / 255)
    assert film_read.notes == ("first of several frames or pages",)


# --- DICOM --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_same_film_as_png_and_as_dicom(bits: int) -> None:
    values = film(bits=bits)
    values //= 2 if bits == 8 else 1  # an 8-bit film that does not fill its range keeps its grey
    stored = picture(values, "PNG")
    plain = dicom(values, BitsStored=bits)
    windowed = dicom(values, BitsStored=bits, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)
    inverse = dicom(
        (2**bits - 1 - values).astype(values.dtype), BitsStored=bits, PhotometricInterpretation="MONOCHROME1"
    )
    for data in (plain, windowed, *([inverse] if bits != 8 else [])):
        assert close(pixels_of(data), pixels_of(stored))


def test_monochrome1_is_inverted() -> None:
    film_read = read_radiograph(dicom(GREY, PhotometricInterpretation="MONOCHROME1"))
    assert close(film_read.pixels, 1 - GREY / 255)
    assert "MONOCHROME1 inverted" in film_read.notes
    assert film_read.format == "DICOM"


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(None, None), (1, 0), (0.5, -200), (-2, 4095)])
@pytest.mark.parametrize("signed", [False, True])
def test_windows_as_pydicom_shows_them(
    function: str | None, slope: float | None, intercept: float | None, signed: bool
) -> None:
    values = DEEP.astype(np.int16) - 2000 if signed else DEEP
    tags: dict[str, Any] = {"BitsStored": 13, "WindowCenter": 700, "WindowWidth": 1500}
    if function:
        tags["VOILUTFunction"] = function
    if slope is not None:
        tags |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
    ds = dataset(values, **tags)
    shown = apply_voi_lut(apply_modality_lut(values, ds), ds)
    stored_range = np.array([-4096, 4095] if signed else [0, 8191])
    low, high = sorted(stored_range * (slope or 1) + (intercept or 0))
    expected = (shown - low) / (high - low)
    if slope is not None and slope < 0:
        # pydicom takes the range of the output from the slope, too: a falling slope turns its windows round.
        # C.11.2.1.2 lets grey rise with the modality value, whatever the slope was.
        expected = 1 - expected
    film_read = read_radiograph(saved(ds))
    assert close(film_read.pixels, expected, 1e-5)
    assert film_read.notes == ("DICOM window applied",)


def test_first_of_several_windows_is_taken() -> None:
    one = dicom(DEEP, BitsStored=12, WindowCenter=2000, WindowWidth=1000)
    two = dicom(DEEP, BitsStored=12, WindowCenter=[2000, 300], WindowWidth=[1000, 50])
    assert np.array_equal(pixels_of(one), pixels_of(two))


def test_negative_slope_without_window_turns_the_grey_round() -> None:
    assert close(pixels_of(dicom(GREY, RescaleSlope=-1, RescaleIntercept=255)), 1 - GREY / 255)


def lut_item(table: list[int], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(table), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.add_new("LUTData", "US", table)
    return item


@pytest.mark.parametrize(("bits", "declared"), [(8, 8), (12, 12), (16, 16), (12, 16)])
def test_voi_lut_sequence(bits: int, declared: int) -> None:
    table = [round((entry / 999) ** 2 * (2**bits - 1)) for entry in range(1000)]
    ds = dataset(DEEP, BitsStored=12, VOILUTSequence=[lut_item(table, 500, declared)])
    film_read = read_radiograph(saved(ds))
    # C.11.2.1.1: below the first value mapped the first entry, beyond the last the last.
    expected = np.array(table)[np.clip(DEEP.astype(int) - 500, 0, 999)] / (2**bits - 1)
    assert close(film_read.pixels, expected)
    assert film_read.notes == ("DICOM VOI table applied",)
    if bits > 8:  # pydicom itself counts 1000 entries in 8 bits
        assert close(film_read.pixels, apply_voi_lut(DEEP, ds) / (2**bits - 1))


def test_modality_lut_sequence_of_12_bits() -> None:
    table = list(range(4095, -1, -1))
    ds = dataset(DEEP, BitsStored=12, ModalityLUTSequence=[lut_item(table, 0, 12)])
    assert close(pixels_of(saved(ds)), 1 - DEEP / 4095)


def test_padding_is_black_and_does_not_move_the_range() -> None:
    for values, padding in ((DEEP, 65535), (DEEP.astype(np.int16) - 2000, -32768)):
        padded = values.copy()
        padded[:10] = padding
        for photometric in ("MONOCHROME1", "MONOCHROME2"):
            tags = {"PixelPaddingValue": padding, "PhotometricInterpretation": photometric}
            whole, part = pixels_of(dicom(values, **tags)), pixels_of(dicom(padded, **tags))
            assert not part[:10].any()
            assert close(part[10:], whole[10:], 1e-2)


@pytest.mark.parametrize("width", [b"0 ", b"-5", b"NaN ", b"1e308 ", b"abc ", b"", b"inf "])
def test_unusable_window_is_ignored_and_noted(width: bytes) -> None:
    window = [(0x0028, 0x1050, b"DS", b"99"), (0x0028, 0x1051, b"DS", width)]
    film_read = read_radiograph(raw_dicom(DEEP, window))
    assert close(film_read.pixels, DEEP / 4095)
    assert "unusable DICOM window ignored" in film_read.notes


@pytest.mark.parametrize("slope", [b"NaN ", b"0 ", b"1e308 ", b"x "])
def test_unusable_slope_is_ignored_and_noted(slope: bytes) -> None:
    rescale = [(0x0028, 0x1052, b"DS", b"0 "), (0x0028, 0x1053, b"DS", slope)]
    film_read = read_radiograph(raw_dicom(DEEP, rescale))
    assert close(film_read.pixels, DEEP / 4095)
    assert "unusable rescale slope ignored" in film_read.notes


def test_window_beside_the_film_is_ignored() -> None:
    film_read = read_radiograph(dicom(DEEP, WindowCenter=60_000, WindowWidth=10))
    assert close(film_read.pixels, DEEP / 4095)
    assert film_read.notes[0] == "DICOM window or table without contrast ignored"


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_compressed_round_trip(syntax: UID, bits: int) -> None:
    if syntax == JPEGLSLossless:
        pytest.importorskip("jpeg_ls", reason="pyjpegls, which would encode JPEG-LS, is not installed")
    ds = dataset(film(bits=bits), BitsStored=bits)
    plain = pixels_of(saved(ds))
    ds.compress(syntax, generate_instance_uid=False)
    assert np.array_equal(pixels_of(saved(ds)), plain)


def test_colour_dicom() -> None:
    coloured = np.dstack([GREY, GREY // 2, GREY // 4])
    film_read = read_radiograph(dicom(coloured))
    assert np.array_equal(film_read.pixels, pixels_of(picture(coloured, "PNG")))
    assert film_read.notes == ("colour picture turned to grey",)


@pytest.mark.parametrize("encoding", ["native", "rle"])
def test_first_frame_of_several(encoding: str) -> None:
    frames = np.stack([GREY, 255 - GREY])
    ds = dataset(GREY, NumberOfFrames=2, PixelData=frames.tobytes())
    if encoding == "rle":
        ds.compress(RLELossless, generate_instance_uid=False)
    film_read = read_radiograph(saved(ds))
    assert close(film_read.pixels, GREY / 255)
    assert "first of 2 frames" in film_read.notes


def test_float_pixel_data() -> None:
    ds = dataset(GREY, PixelData=None, BitsAllocated=32, FloatPixelData=(GREY - 99.5).astype("<f4").tobytes())
    for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(ds, keyword)
    assert close(pixels_of(saved(ds)), GREY / 255)


def test_dicom_without_preamble() -> None:
    whole = dicom(DEEP, BitsStored=12)
    expected = pixels_of(whole)
    assert np.array_equal(pixels_of(whole[132:]), expected)  # the file meta information still there
    (length,) = struct.unpack_from("<I", whole, 132 + 8)
    assert np.array_equal(pixels_of(whole[132 + 12 + length :]), expected)
    out = io.BytesIO()
    ds = dataset(DEEP, BitsStored=12)
    del ds.file_meta
    pydicom.dcmwrite(out, ds, implicit_vr=True, little_endian=True)
    bare = out.getvalue()
    assert bare[:2] == b"\x08\x00"
    assert np.array_equal(pixels_of(bare), expected)


def test_missing_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(RadiographError, match="Explicit VR Little Endian"):
        read_radiograph(dicom(GREY))


def test_patient_appears_nowhere(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    caplog.set_level(logging.DEBUG)
    words = []
    for name, data in BROKEN:
        if name.endswith(".dcm"):
            try:
                words.append(repr(read_radiograph(data, name)))
            except RadiographError as error:
                words.append(f"{error!r} {error.__cause__!r}")
    assert len(words) > 30
    out, err = capfd.readouterr()
    said = " ".join([*words, caplog.text, out, err, *(str(warning.message) for warning in recwarn)])
    assert PATIENT.split("^", maxsplit=1)[0] not in said


# --- limits and refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data"), BROKEN, ids=[name[:40] for name, _ in BROKEN])
def test_broken_input_is_answered_or_refused(name: str, data: bytes) -> None:
    answered_or_refused(data, name)


def test_there_are_enough_broken_inputs() -> None:
    assert len(BROKEN) >= 45
    assert len({name for name, _ in BROKEN}) == len(BROKEN)
    again = dict(broken_inputs())
    assert all(again[name] == data for name, data in BROKEN if "archive" not in name)  # a zip keeps the time


@pytest.mark.parametrize("name", [n for n, _ in BROKEN if n.startswith(("cut at", "last byte", "end chunk"))])
def test_cut_files_are_refused(name: str) -> None:
    with pytest.raises(RadiographError):
        read_radiograph(dict(BROKEN)[name])


def test_size_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    header = (png_header(70_000, 64), (b"IDAT", b""), (b"IEND", b""))
    with pytest.raises(RadiographError, match="70000 x 64"):
        read_radiograph(png_chunks(*header))
    with pytest.raises(RadiographError, match="63 x 80"):
        read_radiograph(picture(film(80, 63), "PNG"))
    with pytest.raises(RadiographError, match="2000000000 frames"):
        read_radiograph(dicom(GREY, NumberOfFrames=2_000_000_000))
    monkeypatch.setattr(radiograph, "MAX_BYTES", 1000)
    with pytest.raises(RadiographError, match="at most"):
        read_radiograph(picture(GREY, "PNG"))


def test_sizes_are_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded")

    files = picture(GREY, "PNG"), picture(GREY, "TIFF"), picture(GREY, "JPEG"), dicom(GREY)
    monkeypatch.setattr(Image.Image, "load", decode)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    monkeypatch.setattr("pydicom.pixels.utils.pixel_array", decode)
    monkeypatch.setattr(radiograph, "MAX_PIXELS", 5000)
    for data in files:
        with pytest.raises(RadiographError, match="80 x 96"):
            read_radiograph(data)


def test_blank_is_refused() -> None:
    for data in (picture(np.full((80, 80), 200, np.uint8), "PNG"), dicom(np.zeros((80, 80), np.uint16))):
        with pytest.raises(RadiographError, match="blank"):
            read_radiograph(data)


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened = []
    read_radiograph(dicom(GREY))  # so that pydicom is imported before files are watched
    files = picture(GREY, "TIFF", compression="tiff_lzw"), picture(GREY, "WEBP"), dicom(DEEP)
    monkeypatch.setattr("builtins.open", lambda *names, **_: opened.append(names))
    for data in files:
        read_radiograph(data, "film")
    monkeypatch.undo()
    assert opened == []
    assert list(tmp_path.iterdir()) == []


# --- helpers ------------------------------------------------------------------------------------------------


def test_resize_is_antialiased() -> None:
    stripes = np.zeros((64, 64), np.float32)
    stripes[:, ::2] = 1
    small = resize(stripes, 16, 8)
    assert small.shape == (8, 16)
    assert small.dtype == np.float32
    assert close(small[:, 2:-2], 0.5, 0.05)
    frozen = read_radiograph(picture(GREY, "PNG")).pixels
    assert np.array_equal(resize(frozen, 80, 96), frozen)
    oracle = np.asarray(Image.fromarray(frozen).resize((40, 48), Image.Resampling.BILINEAR))
    assert close(resize(frozen, 40, 48), oracle)


def test_to_png_round_trip() -> None:
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(to_png(GREY / 255)))), GREY)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(to_png(GREY / 100)))).max(), 255)


# --- real data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["negatives", "dicom", "originals"])
def test_every_real_file_is_answered_or_refused(data_dir: Path, folder: str) -> None:
    files = [path for path in (data_dir / folder).rglob("*") if path.is_file()]
    assert files
    read = 0
    for path in files:
        try:
            film_read = read_radiograph(path.read_bytes(), path.name)
        except RadiographError:
            continue
        assert 0 <= film_read.pixels.min() < film_read.pixels.max() <= 1
        read += 1
    assert read >= len(files) - 2  # a table, a blank picture, a file cut short


def test_real_monochrome1_film_has_dark_air(data_dir: Path) -> None:
    data = (data_dir / "dicom" / "RG1_J2KI.dcm").read_bytes()
    film_read = read_radiograph(data)
    assert "MONOCHROME1 inverted" in film_read.notes
    assert film_read.original_size == (1841, 1955)
    pixels = film_read.pixels
    air = pixels[60:160, 10:60].mean()  # above the shoulder
    lung, heart = pixels[300:500, 500:700].mean(), pixels[1200:1400, 1100:1300].mean()
    assert air < lung < heart
    ds = pydicom.dcmread(io.BytesIO(data))
    expected = 1 - apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds) / (2**15 - 1)
    assert close(pixels, expected, 1e-5)


def test_real_films_as_pillow_reads_them(data_dir: Path) -> None:
    for path in (data_dir / "originals").glob("*.*g"):
        with Image.open(path) as stored:
            expected = np.asarray(stored.convert("L")) / np.float32(255)
        assert close(pixels_of(path.read_bytes()), expected)
