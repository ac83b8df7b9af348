"""Small whole files of every kind that the reader knows, made by code: what the fuzzer starts from."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.broken_inputs import dataset, dicom, film, picture, saved, tiff

SIDE = 64
"""The least that is read: small files leave the fuzzer more tries."""


def seeds() -> dict[str, bytes]:
    """Name -> bytes; the ending tells the kind. All of them can be read, but the deflated one, which is refused."""
    return {**_pictures(), **_dicom()}


def _pictures() -> dict[str, bytes]:
    grey, deep = film(SIDE, SIDE), film(SIDE, SIDE, bits=12)
    colour = np.dstack([grey, grey // 2, grey // 4])
    alpha = np.dstack([colour, np.full_like(grey, 128)])
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = io.BytesIO()
    Image.fromarray(grey).convert("P").save(palette, "PNG")
    made = {
        "grey.png": picture(grey, "PNG"),
        "deep.png": picture(deep, "PNG"),
        "alpha.png": picture(alpha, "PNG"),
        "palette.png": palette.getvalue(),
        "frames.png": picture(grey, "PNG", save_all=True, append_images=[Image.fromarray(255 - grey)]),
        "grey.jpg": picture(grey, "JPEG", quality=60),
        "colour.jpg": picture(colour, "JPEG", quality=60, exif=exif),
        "progressive.jpg": picture(grey, "JPEG", quality=60, progressive=True),
        "deep.tif": picture(deep, "TIFF"),
        "float.tif": tiff(SIDE, SIDE, 32, deep.astype("<f4").tobytes(), t339=3),
        "white is zero.tif": tiff(SIDE, SIDE, 8, grey.tobytes(), t262=0),
        "grey.gif": picture(grey, "GIF"),
        "grey.bmp": picture(grey, "BMP"),
        "grey.webp": picture(grey, "WEBP", quality=60),
        "lossless.webp": picture(colour, "WEBP", lossless=True),
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        made[f"{compression}.tif"] = picture(grey, "TIFF", compression=compression)
    return made


def _dicom() -> dict[str, bytes]:
    grey, deep = film(SIDE, SIDE), film(SIDE, SIDE, bits=12)
    window: dict[str, Any] = {"BitsStored": 12, "WindowCenter": 2000, "WindowWidth": 3000}
    made = {
        "window.dcm": dicom(deep, **window, RescaleSlope=2, RescaleIntercept=-100),
        "padded.dcm": dicom(deep, BitsStored=12, PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1"),
        "frames.dcm": dicom(grey, NumberOfFrames=2, PixelData=grey.tobytes() * 2),
        "colour.dcm": dicom(np.dstack([grey] * 3)),
        "no preamble.dcm": dicom(deep, BitsStored=12)[132:],
        "tables.dcm": dicom(
            grey, ModalityLUTSequence=[_table(range(255, -1, -1))], VOILUTSequence=[_table(range(0, 512, 2), 12)]
        ),
    }
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        made[f"{syntax.keyword}.dcm"] = _plain(deep, syntax)
    for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLSNearLossless):
        ds = dataset(deep, **window)
        options: dict[str, Any] = {"jls_error": 2} if syntax == JPEGLSNearLossless else {}
        ds.compress(syntax, generate_instance_uid=False, **options)
        made[f"{syntax.keyword}.dcm"] = saved(ds)
    jpeg = picture(grey, "JPEG", quality=60)
    for syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        made[f"{syntax.keyword}.dcm"] = holding(jpeg, grey, syntax)
    for syntax in (JPEGLossless, JPEGLosslessSV1):
        made[f"{syntax.keyword}.dcm"] = holding(lossless_jpeg(deep), deep, syntax, BitsStored=12)
    return made


def _table(entries: range, bits: int = 8) -> Dataset:
    """An item of a sequence of look-up tables (PS3.3 C.11)."""
    item = Dataset()
    item.LUTDescriptor = [len(entries), 0, bits]
    item["LUTDescriptor"].VR = "US"
    item.add_new("LUTData", "US", list(entries))
    return item


def _plain(array: np.ndarray, syntax: UID) -> bytes:
    little = syntax != ExplicitVRBigEndian
    ds = dataset(array, BitsStored=12, PixelData=array.astype("<u2" if little else ">u2").tobytes())
    ds["PixelData"].VR = "OW"
    ds.file_meta.TransferSyntaxUID = syntax
    out = io.BytesIO()
    dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def holding(stream: bytes, array: np.ndarray, syntax: UID, **tags: Any) -> bytes:
    """A DICOM file that holds a coded picture of `array`."""
    ds = dataset(array, **tags, PixelData=encapsulate([stream]))
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = syntax
    return saved(ds)


def lossless_jpeg(array: np.ndarray) -> bytes:
    """(H, W), at most 16 bits -> a lossless JPEG (ITU-T T.81 annex H): predictor 1, every Huffman code 5 bits long.

    Most archives keep their films so, and no library here writes it.
    """
    values = array.astype(np.int64)
    height, width = values.shape
    bits = max(8, int(values.max()).bit_length())
    # H.1.2.1: the left neighbour predicts; the one above at the start of a line; half the range at the very first.
    before = np.empty_like(values)
    before[:, 1:], before[1:, 0], before[0, 0] = values[:, :-1], values[:-1, 0], 2 ** (bits - 1)
    written = []
    for difference in (values - before).ravel().tolist():
        category = abs(difference).bit_length()
        extra = difference if difference > 0 else difference + 2**category - 1
        written.append(f"{category:05b}" + (f"{extra:0{category}b}" if category else ""))
    coded = "".join(written)
    coded += "1" * (-len(coded) % 8)
    body = int(coded, 2).to_bytes(len(coded) // 8, "big").replace(b"\xff", b"\xff\0")

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    return (
        b"\xff\xd8"
        + segment(0xC3, struct.pack(">BHHB3B", bits, height, width, 1, 1, 0x11, 0))
        + segment(0xC4, bytes([0, *[17 if length == 5 else 0 for length in range(1, 17)], *range(17)]))
        + segment(0xDA, bytes([1, 1, 0, 1, 0, 0]))
        + body
        + b"\xff\xd9"
    )
