"""Broken and hostile files, made from a seed. Some can be read after all: each is answered or refused."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from cxrmodels.radiograph import Radiograph, RadiographError, read_radiograph

PATIENT = "Plantedname^Patient"
"""Stands in every DICOM file made here, and must come out nowhere."""


def film(height: int = 96, width: int = 80, bits: int = 8) -> np.ndarray:
    """Something with contrast: unsigned (height, width) that uses the whole range of `bits`."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(7).random((height, width)) * 0.2
    waves = np.sin(rows / 11) + np.cos(columns / 7) + noise
    scaled = (waves - waves.min()) / np.ptp(waves) * (2**bits - 1)
    values: np.ndarray = np.rint(scaled).astype(np.uint8 if bits <= 8 else np.uint16)
    return values


def picture(array: np.ndarray, kind: str, **options: Any) -> bytes:
    """The array as a file of Pillow's format `kind`."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind, **options)
    return out.getvalue()


def dataset(array: np.ndarray, **tags: Any) -> Dataset:
    """A DICOM dataset of `array`, (H, W) or (H, W, 3), with `tags` on top; None takes one out."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.7"), UID("1.2.3")
    ds.PatientName = ds.PatientID = ds.InstitutionName = ds.StudyDescription = PATIENT
    ds.Rows, ds.Columns = array.shape[:2]
    ds.SamplesPerPixel = 3 if array.ndim == 3 else 1
    if array.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = "RGB" if array.ndim == 3 else "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * array.itemsize
    ds.PixelRepresentation = int(array.dtype.kind == "i")
    ds.PixelData = array.tobytes()
    for keyword, value in tags.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    if "BitsStored" in ds:
        ds.HighBit = ds.BitsStored - 1
    return ds


def saved(ds: Dataset) -> bytes:
    """The bytes of a DICOM file, with preamble."""
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def dicom(array: np.ndarray, **tags: Any) -> bytes:
    return saved(dataset(array, **tags))


def raw_dicom(array: np.ndarray, elements: list[tuple[int, int, bytes, bytes]], **tags: Any) -> bytes:
    """A DICOM file with elements put in as raw bytes, for values that pydicom would not write."""
    plain = dicom(array, **tags)
    at = plain.index(struct.pack("<HH", 0x7FE0, 0x0010))
    more = b"".join(
        struct.pack("<HH2sH", group, element, vr, len(value)) + value for group, element, vr, value in elements
    )
    return plain[:at] + more + plain[at:]


def png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of these (type, body) chunks, with right checksums."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def png_header(width: int, height: int, depth: int = 8) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)


def tiff(width: int, height: int, bits: int = 8, body: bytes = b"", **tags: int) -> bytes:
    """A bare little-endian TIFF of one strip; sample format 3 is float; tags as t262=0."""
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 277: 1, 278: height, 279: len(body)}
    entries |= {int(tag[1:]): value for tag, value in tags.items()}
    entries[273] = 8 + 2 + 12 * (len(entries) + 1) + 4
    packed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\x00" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4) + body


def saved_as(array: np.ndarray, syntax: str, body: bytes | None = None) -> bytes:
    """A DICOM file that says it is stored as `syntax`, with `body` as pixel data."""
    ds = dataset(array, BitsStored=12)
    if body is not None:
        ds.PixelData = body
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = UID(syntax)
        return saved(ds)
    # pydicom would not write a syntax that it does not know: the UID is put in afterwards.
    plain = saved(ds)
    old = struct.pack("<HH2sH", 2, 0x10, b"UI", 20) + b"1.2.840.10008.1.2.1\0"
    padded = syntax.encode() + b"\0" * (len(syntax) % 2)
    new = struct.pack("<HH2sH", 2, 0x10, b"UI", len(padded)) + padded
    length_at = plain.index(struct.pack("<HH2sH", 2, 0, b"UL", 4)) + 8
    (group_length,) = struct.unpack_from("<I", plain, length_at)
    group_length += len(new) - len(old)
    plain = plain[:length_at] + struct.pack("<I", group_length) + plain[length_at + 4 :]
    return plain.replace(old, new, 1)


def answered_or_refused(data: bytes, name: str = "") -> Radiograph | None:
    """What the reader promises for any bytes at all: a film in order, or one short sentence on why not (None)."""
    try:
        answer = read_radiograph(data, name)
    except RadiographError as error:
        said = str(error)
    else:
        _check_film(answer)
        return answer
    assert "expected" in said
    assert len(said) < 300
    assert said.isprintable()
    return None


def _check_film(answer: Radiograph) -> None:
    assert answer.pixels.dtype == np.float32
    assert answer.pixels.shape == answer.original_size[::-1]
    assert 0 <= answer.pixels.min() < answer.pixels.max() <= 1
    assert len(answer.name) <= 120
    assert answer.name.isprintable()
    assert all(note.isprintable() and len(note) < 100 for note in answer.notes)


Case = tuple[str, bytes]


def broken_inputs() -> list[Case]:
    """(name, bytes) of each; the names are hostile, too, where that is the point."""
    rng = np.random.default_rng(20)
    whole = _whole_files()
    return [
        *_cut_and_bent(whole, rng),
        *_bombs(whole),
        *_no_films(),
        *_lying_dicom(),
        *_no_pictures(whole, rng),
    ]


def _whole_files() -> dict[str, bytes]:
    grey, deep = film(), film(bits=12)
    whole = {
        "png": picture(grey, "PNG"),
        "jpg": picture(grey, "JPEG", quality=90),
        "progressive.jpg": picture(grey, "JPEG", progressive=True),
        "tif": picture(grey, "TIFF"),
        "lzw.tif": picture(grey, "TIFF", compression="tiff_lzw"),
        "webp": picture(grey, "WEBP"),
        "gif": picture(grey, "GIF"),
        "bmp": picture(grey, "BMP"),
        "dcm": dicom(deep, BitsStored=12),
    }
    for syntax in (RLELossless, JPEG2000Lossless):
        ds = dataset(deep, BitsStored=12)
        ds.compress(syntax, generate_instance_uid=False)
        whole[f"{syntax.keyword}.dcm"] = saved(ds)
    return whole


def _cut_and_bent(whole: dict[str, bytes], rng: np.random.Generator) -> list[Case]:
    cases: list[Case] = []
    for kind, data in whole.items():
        cuts = sorted(int(n) for n in rng.integers(1, len(data) - 16, 3))
        cases += [(f"cut at {n}.{kind}", data[:n]) for n in cuts]
        bent = bytearray(data)
        for at in rng.integers(0, len(data), 20):
            bent[at] = rng.integers(256)
        cases.append((f"bent.{kind}", bytes(bent)))
    cases.append(("last byte gone.jpg", whole["jpg"][:-1]))
    cases.append(("end chunk gone.png", whole["png"][:-12]))
    cases.append(("wrong magic.png", b"\x88" + whole["png"][1:]))
    return cases


def _bombs(whole: dict[str, bytes]) -> list[Case]:
    """Huge sides declared, or much in little."""
    deep = film(bits=12)
    cases: list[Case] = []
    cases.append(("huge.png", png_chunks(png_header(2**31 - 1, 2**31 - 1), (b"IDAT", b""), (b"IEND", b""))))
    cases.append(("strip.png", png_chunks(png_header(70_000, 64), (b"IDAT", b""), (b"IEND", b""))))
    zeros = zlib.compress(bytes(9001 * 9000), 9)
    cases.append(("bomb.png", png_chunks(png_header(9000, 9001), (b"IDAT", zeros), (b"IEND", b""))))
    text = b"Comment\0\0" + zlib.compress(bytes(2**26), 9)
    start = 8 + 25  # after the signature and the header chunk
    zipped_text = png_chunks((b"zTXt", text))[8:]
    cases.append(("text bomb.png", whole["png"][:start] + zipped_text + whole["png"][start:]))
    cases.append(("huge.tif", tiff(60_000, 60_000)))
    cases.append(("pages in a ring.tif", whole["tif"][:4] + struct.pack("<I", 4) + whole["tif"][8:]))
    cases.append(("huge.gif", whole["gif"][:6] + struct.pack("<HH", 65535, 65535) + whole["gif"][10:]))
    cases.append(("huge.bmp", whole["bmp"][:18] + struct.pack("<ii", 2**30, 2**30) + whole["bmp"][26:]))
    cases.append(("frames.dcm", dicom(deep, NumberOfFrames=2_000_000_000)))
    cases.append(("huge.dcm", dicom(deep, Rows=65535, Columns=65535)))
    cases.append(("deflated.dcm", saved_as(deep, "1.2.840.10008.1.2.1.99")))
    segment = b"\x81\x07" * 500_000
    header = struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13)
    cases.append(("bomb.rle.dcm", saved_as(deep, RLELossless, encapsulate([header + segment * 2]))))
    inner = whole["JPEG2000Lossless.dcm"]
    at = inner.index(b"\xff\x4f\xff\x51") + 8
    cases.append(("other size inside.dcm", inner[:at] + struct.pack(">II", 60_000, 60_000) + inner[at + 8 :]))
    return cases


def _no_films() -> list[Case]:
    """Sizes and contents that are no film."""
    cases: list[Case] = []
    cases += [(f"{n} pixels.png", picture(film(n, n), "PNG")) for n in (63, 64)]
    cases.append(("one pixel.png", picture(np.zeros((1, 1), np.uint8), "PNG")))
    cases.append(("no pixel.png", png_chunks(png_header(0, 0), (b"IDAT", b""), (b"IEND", b""))))
    cases.append(("blank.png", picture(np.full((80, 80), 255, np.uint8), "PNG")))
    cases.append(("blank.dcm", dicom(np.zeros((80, 80), np.uint16))))
    for name, fill in (("nan", np.nan), ("inf", np.inf), ("greatest float", 3e38)):
        floats = np.full((80, 80), fill, np.float32)
        cases.append((f"{name}.tif", tiff(80, 80, 32, floats.tobytes(), t339=3)))
        floats[:40] = film(40, 80) - np.float32(3e38 if name == "greatest float" else 0)
        cases.append((f"half {name}.tif", tiff(80, 80, 32, floats.tobytes(), t339=3)))
    return cases


def _lying_dicom() -> list[Case]:
    grey, deep = film(), film(bits=12)
    cases: list[Case] = []
    for width in (b"0 ", b"-5", b"NaN ", b"1e308 ", b"abc ", b"", b"inf "):
        window = [
            (0x0028, 0x1050, b"DS", b"NaN " if width == b"NaN " else b"99"),
            (0x0028, 0x1051, b"DS", width),
        ]
        cases.append((f"window {width.decode().strip()}.dcm", raw_dicom(deep, window)))
    for slope in (b"NaN ", b"0 ", b"1e308 ", b"x "):
        rescale = [(0x0028, 0x1052, b"DS", b"0 "), (0x0028, 0x1053, b"DS", slope)]
        cases.append((f"slope {slope.decode().strip()}.dcm", raw_dicom(deep, rescale)))
    cases.append(("no pixels.dcm", dicom(deep, PixelData=None)))
    cases.append(("empty pixels.dcm", dicom(deep, PixelData=b"")))
    cases.append(("no rows.dcm", dicom(deep, Rows=None)))
    cases.append(("too many rows.dcm", dicom(deep, Rows=5000)))
    cases.append(("too few columns.dcm", dicom(deep, Columns=70)))
    cases.append(("12 bits allocated.dcm", dicom(deep, BitsAllocated=12, BitsStored=12)))
    cases.append(("7 samples.dcm", dicom(deep, SamplesPerPixel=7)))
    cases.append(("no photometric.dcm", dicom(deep, PhotometricInterpretation=None)))
    cases.append(("hsv.dcm", dicom(np.dstack([grey] * 3), PhotometricInterpretation="HSV")))
    cases.append(("palette without palette.dcm", dicom(grey, PhotometricInterpretation="PALETTE COLOR")))
    cases.append(("unknown syntax.dcm", saved_as(deep, "1.2.3.4.5.6")))
    cases.append(("raw but said JPEG 2000.dcm", saved_as(deep, JPEG2000Lossless, encapsulate([deep.tobytes()]))))
    cases.append(("only the preamble.dcm", bytes(128) + b"DICM"))
    cases.append(("only a group.dcm", b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(200)))
    deep_nesting = struct.pack("<HHI", 0x0040, 0xA730, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    cases.append(("nested.dcm", struct.pack("<HHI", 8, 8, 2) + b"A " + deep_nesting * 20_000))
    return cases


def _no_pictures(whole: dict[str, bytes], rng: np.random.Generator) -> list[Case]:
    """What is no picture at all, and names."""
    cases: list[Case] = []
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("film.png", whole["png"])
    cases.append(("zero length.png", b""))
    cases.append(("text.png", b"This is not a picture.\n" * 20))
    cases.append(("page.jpg", b"<!DOCTYPE html><html><script>alert(1)</script></html>"))
    cases.append(("archive.dcm", packed.getvalue()))
    cases.append(("report.pdf", b"%PDF-1.7\n" + rng.bytes(500)))
    cases.append(("noise.bin", rng.bytes(5000)))
    cases.append(("zeros.bin", bytes(5000)))
    names = (
        "../../etc/passwd",
        "<script>alert(1)</script>.png",
        "x" * 10_000_000,
        "a\0b\x1b[31m\u202egnp.png",
        "..\\..\\",
    )
    cases += [(name, whole["png"]) for name in names]
    return cases
