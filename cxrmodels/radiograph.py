"""Bytes of a file -> Radiograph: pictures and DICOM, checked before decoding, never written to disk."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import struct
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from cxrmodels.resizing import bilinear

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_BYTES = 50 * 1024 * 1024
"""Largest file, in bytes (50 MB)."""
MAX_PIXELS = 60_000_000
"""Largest picture, in pixels; for DICOM all frames together."""
MAX_SIDE = 2**16
"""Longest side, in pixels."""
MIN_SIDE = 64
"""Shortest side, in pixels: below it no network here can say anything."""
SYNTHETIC_MARK = "cxrmodels phantom"
"""Text of the PNG chunk `Software` in pictures that this program drew itself."""

Floats = npt.NDArray[np.float32]

_MAX_NAME = 120
_SILENT = logging.CRITICAL + 1
_COLOUR_TOLERANCE = 16  # of 255: JPEG rounding alone parts the channels of a grey film by a few levels
_READABLE = "PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM"
_PICTURES = (  # what a file starts with -> Pillow's name of the format
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"II[*+]\x00|MM\x00[*+]", "TIFF"),
    (rb"RIFF....WEBP", "WEBP"),
    (rb"GIF8[79]a", "GIF"),
    (rb"BM", "BMP"),
)
_STRANGERS = (
    (rb"%PDF", "a PDF: export the picture from it first"),
    (rb"PK", "a zip archive: unpack it first"),
    (rb"\x1f\x8b", "a gzip archive: unpack it first"),
    (rb"\s*<", "a web page or XML: save the picture itself, not the page around it"),
    (rb"\x00\x00\x00\x0cjP|\xff\x4f\xff\x51", "a bare JPEG 2000: save it as PNG"),
)
# All that is ever taken from a DICOM file: nothing of the patient enters the program, so nothing can leak.
_DICOM_TAGS = (
    "SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns "
    "BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit "
    "WindowCenter WindowWidth VOILUTFunction RescaleIntercept RescaleSlope ModalityLUTSequence "
    "VOILUTSequence RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor "
    "BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData GreenPaletteColorLookupTableData "
    "BluePaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData "
    "SegmentedGreenPaletteColorLookupTableData SegmentedBluePaletteColorLookupTableData "
    "ExtendedOffsetTable ExtendedOffsetTableLengths FloatPixelData DoubleFloatPixelData PixelData"
)
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
_DEFLATED = b"1.2.840.10008.1.2.1.99"
# EXIF / TIFF 6.0 tag 0x0112: stored orientation -> what puts the picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MIRRORS = (2, 4, 5, 7)


class RadiographError(ValueError):
    """The file is of no use as a radiograph: the message says what came, what was expected, what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """One film, ready for the networks. Two films are the same when their `sha256` is.

    name: basename only, printable, at most 120 characters; still to be escaped where it is shown as HTML.
    sha256: hex digest of the file's bytes; identity and cache key.
    pixels: float32 (H, W), 0-1, air dark, read-only.
    original_size: (width, height) in pixels, upright.
    format: "PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "DICOM"; "synthetic" for one that never was a file.
    notes: what was done to the stored values, for a reader.
    synthetic: drawn by this program, not taken of anybody.
    """

    name: str
    sha256: str
    pixels: Floats
    original_size: tuple[int, int]
    format: str
    notes: tuple[str, ...]
    synthetic: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Radiograph) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)


def read_radiograph(data: bytes, name: str = "") -> Radiograph:
    """Read one radiograph from the bytes of a PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM file.

    The format is told from the content, never from `name`, which is only shown. Returns `pixels` as float32
    (H, W), 0-1, air dark:

    - 8 bits are divided by 255. 16-bit grey is divided by 65535, but where its top bits are all unused (a
      12-bit film in a 16-bit file) by the smallest 2**n - 1 that holds the maximum, with a note. Such a film
      would otherwise be almost black; the scaling is linear, and no picture's maximum ends up below 0.5.
      Colour is read at 8 bits and turned to grey (ITU-R 601); 32-bit and float pictures are stretched from
      their least to their greatest finite value. EXIF orientation is applied.
    - DICOM goes through modality LUT (PS3.3 C.11.1), first VOI LUT or window (C.11.2), then the MONOCHROME1
      inversion (C.7.6.3.1.2). Without a usable VOI the full range of the values is shown, by the rule of the
      16-bit pictures (signed ones: least to greatest), pixel padding (C.7.5.1.1.2) left out and put to 0. So
      the same film gives the same pixels as PNG and as DICOM. Of several frames the first is read.

    Raises RadiographError, and nothing else, for anything that cannot be read whole, is larger than
    MAX_BYTES, MAX_PIXELS or MAX_SIDE (all checked before decoding), smaller than MIN_SIDE, or blank.
    """
    if not data:
        raise RadiographError(f"The file is empty (0 bytes); expected {_READABLE}. Choose another file.")
    if len(data) > MAX_BYTES:
        raise RadiographError(
            f"The file has {len(data) / 2**20:.1f} MB; expected at most {MAX_BYTES / 2**20:.0f} MB. "
            "Export the film smaller."
        )
    kind = _sniff(data)
    notes: list[str] = []
    _quieten()
    try:
        with np.errstate(all="ignore"):
            read = _read_dicom if kind == "DICOM" else _read_picture
            pixels, synthetic = read(data, kind, notes)
    except RadiographError:
        raise
    except Image.DecompressionBombError:  # Pillow's own limit is three times ours
        raise _too_large("more than a hundred million pixels") from None
    except BaseException as error:
        # The one boundary: on broken bytes decoders raise anything, quoting what they read. A panic in the
        # RLE decoder (Rust) is no Exception, and its class cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise RadiographError(
            f"This {kind} file cannot be decoded: it is broken, cut short or of a rare variety; "
            f"expected a whole {_READABLE} file. Export it again, best as PNG."
        ) from None
    if pixels.min() == pixels.max():
        raise RadiographError(
            "The picture is blank (every pixel is the same); expected a radiograph. Choose another file."
        )
    pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    pixels.flags.writeable = False
    height, width = pixels.shape
    digest = hashlib.sha256(data).hexdigest()
    return Radiograph(_display_name(name), digest, pixels, (width, height), kind, tuple(notes), synthetic)


def resize(pixels: np.ndarray, width: int, height: int) -> Floats:
    """(H, W) greys 0-1 -> float32 (height, width), 0-1: bilinear with anti-aliasing when shrinking."""
    resized: Floats = bilinear(pixels, width, height).clip(0, 1)
    return resized


def to_png(pixels: np.ndarray) -> bytes:
    """(H, W) greys, clipped to 0-1 -> bytes of an 8-bit grey PNG of the same size."""
    out = io.BytesIO()
    Image.fromarray(np.rint(np.clip(pixels, 0.0, 1.0) * 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def _quieten() -> None:
    """Keep the decoders' warnings and logs from quoting what they read.

    They are silenced for the process, since `warnings.catch_warnings` is not thread-safe and this module is
    the one door to pictures. Both calls replace what they set before, so repeating them adds nothing.
    """
    warnings.filterwarnings("ignore", module=r"(PIL|pydicom|pylibjpeg|libjpeg|openjpeg|rle)(\.|$)")
    for library in ("PIL", "pydicom", "pylibjpeg", "libjpeg", "openjpeg", "rle"):
        logger = logging.getLogger(library)
        if logger.level != _SILENT:  # Setting it empties the caches of all loggers.
            logger.setLevel(_SILENT)


def _display_name(name: str) -> str:
    # Cut before cleaning: a name may be megabytes long.
    base = name.replace("\\", "/").rsplit("/", 1)[-1][: 8 * _MAX_NAME]
    shown = "".join(c for c in base if c.isprintable()).strip()[:_MAX_NAME]
    return shown if shown.strip(".") else "unnamed"


def _sniff(data: bytes) -> str:
    if data[128:132] == b"DICM":
        return "DICOM"
    for magic, kind in _PICTURES:
        if re.match(magic, data[:16], re.DOTALL):
            return kind
    # DICOM without preamble starts with group 0002 or 0008, little endian, as explicit or implicit VR.
    if data[:2] in (b"\x02\x00", b"\x08\x00") and len(data) > 132:
        length = struct.unpack_from("<I", data, 4)[0]
        if re.match(rb"[A-Z]{2}", data[4:6]) or length < 1024:
            return "DICOM"
    what = next((words for magic, words in _STRANGERS if re.match(magic, data[:16])), "of an unknown format")
    raise RadiographError(f"The file is {what}; expected {_READABLE}.")


def _check_size(width: int, height: int, frames: int = 1) -> None:
    came = f"{width} x {height} pixels" + (f" x {frames} frames" if frames > 1 else "")
    if width > MAX_SIDE or height > MAX_SIDE or width * height * frames > MAX_PIXELS:
        raise _too_large(came)
    if width < MIN_SIDE or height < MIN_SIDE:
        raise RadiographError(
            f"The picture has {came}; expected at least {MIN_SIDE} a side. Export the film at full size."
        )


def _too_large(came: str) -> RadiographError:
    return RadiographError(
        f"The picture has {came}; expected at most {MAX_PIXELS // 1_000_000} million pixels and "
        f"{MAX_SIDE} a side. Export it smaller, or one frame of it."
    )


def _bits_used(maximum: float) -> int:
    """The bits that hold `maximum`, but at least 8."""
    return max(8, int(maximum).bit_length())


def _stretch(values: np.ndarray, notes: list[str]) -> Floats:
    """Values whose full scale nobody knows -> 0-1 over the finite ones; NaN and infinity become 0."""
    finite = np.isfinite(values)
    if not finite.all():
        notes.append("values that are not finite set to black")
    if not finite.any():
        return np.zeros(values.shape, np.float32)
    # Halved, so that the range of the largest floats does not overflow.
    low, high = float(values[finite].min()) / 2, float(values[finite].max()) / 2
    notes.append("stretched from least to greatest value")
    scaled = (values.astype(np.float64) / 2 - low) / ((high - low) or 1.0)
    return np.where(finite, scaled, 0.0).astype(np.float32)


def _grey(rgb: Image.Image, notes: list[str]) -> Floats:
    """RGB picture, 8 bits a channel -> (H, W), 0-1. Equal channels come through exactly."""
    red, green, blue = rgb.split()
    apart = (ImageChops.difference(red, green), ImageChops.difference(green, blue))
    if any(np.asarray(band).max() > _COLOUR_TOLERANCE for band in apart):
        notes.append("colour picture turned to grey")
    return np.asarray(rgb.convert("L"), dtype=np.float32) / np.float32(255)


# --- pictures -----------------------------------------------------------------------------------------------


def _read_picture(data: bytes, kind: str, notes: list[str]) -> tuple[Floats, bool]:
    with Image.open(io.BytesIO(data), formats=[kind]) as picture:
        _check_size(*picture.size)
        if kind == "PNG":  # Pillow checks the checksums, and that the file has its end, only when asked
            picture.verify()
    with Image.open(io.BytesIO(data), formats=[kind]) as picture:
        if getattr(picture, "is_animated", False):
            notes.append("first of several frames or pages")
        try:
            orientation = picture.getexif().get(0x0112, 1)
        except Exception:  # A broken EXIF block is no reason to refuse a whole picture.
            orientation = 1
        white_is_zero = kind == "TIFF" and picture.tag_v2.get(262) == 0  # type: ignore[attr-defined]
        picture.load()
        synthetic = kind == "PNG" and picture.text.get("Software") == SYNTHETIC_MARK  # type: ignore[attr-defined]
        upright: Image.Image = picture
        if orientation in _UPRIGHT:
            if kind != "TIFF":  # Pillow itself turns a TIFF while loading
                upright = picture.transpose(_UPRIGHT[orientation])
            notes.append("EXIF mirrored" if orientation in _MIRRORS else "EXIF rotated")
        return _greys(upright, white_is_zero, notes), synthetic


def _greys(picture: Image.Image, white_is_zero: bool, notes: list[str]) -> Floats:
    """Loaded picture of any mode -> (H, W), 0-1."""
    if picture.mode.startswith("I;16"):
        values = np.asarray(picture)
        bits = _bits_used(values.max())
        if bits < 16:
            notes.append(f"values fill {bits} of 16 bits")
        pixels = values.astype(np.float32) / np.float32(2**bits - 1)
    elif picture.mode in ("I", "F"):
        pixels = _stretch(np.asarray(picture), notes)
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if np.asarray(picture.getchannel("A")).min() < 255:
            notes.append("transparent parts put on black")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        return _grey(Image.alpha_composite(black, picture).convert("RGB"), notes)
    elif picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L"), dtype=np.float32) / np.float32(255)
    else:
        return _grey(picture.convert("RGB"), notes)
    if white_is_zero:  # Pillow inverts such TIFF files of up to 8 bits only
        notes.append("white-is-zero inverted")
        pixels = 1 - pixels
    return pixels


# --- DICOM --------------------------------------------------------------------------------------------------


def _read_dicom(data: bytes, kind: str, notes: list[str]) -> tuple[Floats, bool]:
    from pydicom import config, dcmread
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import RLELossless

    config.settings.reading_validation_mode = config.IGNORE
    if _DEFLATED in data:  # pydicom would inflate all of it before any size can be checked
        raise _unsupported("Deflated Explicit VR Little Endian")
    ds = dcmread(io.BytesIO(data), force=True, specific_tags=[*_DICOM_TAGS.split()])
    stored = next((k for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if k in ds), None)
    if stored is None or not ds[stored].value:
        raise RadiographError(
            "The DICOM file holds no picture, or ends before it; expected an image. Choose another file."
        )
    frames = max(1, int(ds.get("NumberOfFrames") or 1))
    _check_size(int(ds.Columns), int(ds.Rows), frames)
    _check_coding(ds, frames)
    if frames > 1:
        notes.append(f"first of {frames} frames")

    # pydicom's own RLE decoder follows a hostile stream to gigabytes; pylibjpeg's stops at the declared size.
    plugin = "pylibjpeg" if ds.file_meta.TransferSyntaxUID == RLELossless else ""
    values = pixel_array(ds, index=0, decoding_plugin=plugin)
    photometric = str(ds.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        values = apply_color_lut(values, ds)[..., :3]
    if photometric not in (_GREY if values.ndim == 2 else _COLOUR):
        raise RadiographError(
            "The DICOM file has a photometric interpretation that is not read; expected MONOCHROME1, "
            "MONOCHROME2, PALETTE COLOR, RGB or YBR. Export it as PNG."
        )
    if values.ndim == 3:
        if values.dtype != np.uint8:  # for colour 8 bits will do
            values = (values >> (_bits_used(values.max()) - 8)).astype(np.uint8)
        return _grey(Image.fromarray(values), notes), False
    if values.dtype.kind == "f":
        pixels, background = _stretch(values, notes), None
    else:
        pixels, background = _shown(values, ds, notes)
    if photometric == "MONOCHROME1":
        notes.append("MONOCHROME1 inverted")
        pixels = 1 - pixels
    if background is not None:
        pixels[background] = 0
    return pixels, False


def _unsupported(syntax: str) -> RadiographError:
    return RadiographError(
        f"The DICOM file is stored as {syntax}, for which this program has no decoder; expected an "
        "uncompressed, JPEG, JPEG-LS, JPEG 2000 or RLE file. Export it uncompressed or as PNG."
    )


def _check_coding(ds: Dataset, frames: int) -> None:
    """Is there a decoder, and is the stored picture whole and of the size that the header says?

    Decoders go by the size inside the compressed stream, whatever the header says, and fill up a stream that
    was cut short: both have to be told beforehand.
    """
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import get_expected_length
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

    if "TransferSyntaxUID" not in ds.file_meta:  # a file without preamble: pydicom told it from the bytes
        implicit = ds.original_encoding[0]
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    syntax = ds.file_meta.TransferSyntaxUID
    # The name of an unknown syntax is whatever the file says: it may be shown only when it is a number.
    shown = syntax.name if re.fullmatch(r"[0-9.]{1,64}", syntax) else "an unknown transfer syntax"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise _unsupported(shown) from None
    if not decoder.is_available:
        raise _unsupported(shown)

    if not syntax.is_encapsulated:
        if "PixelData" in ds:
            row = int(ds.Columns) * int(ds.SamplesPerPixel) * int(ds.BitsAllocated) / 8
            if len(ds.PixelData) >= get_expected_length(ds) + max(row, 2):
                raise ValueError("more pixels than Rows x Columns x frames: read so, the picture would be sheared")
    elif syntax != RLELossless:
        frame = get_frame(ds.PixelData, 0, number_of_frames=frames)
        if _coded_size(frame) != (int(ds.Columns), int(ds.Rows)) or not frame.rstrip(b"\0").endswith(b"\xff\xd9"):
            raise ValueError("the compressed picture is cut short or not of the size in the header")


def _coded_size(frame: bytes) -> tuple[int, int]:
    """(width, height) inside a JPEG, JPEG-LS (T.81 B.2.2, T.87 C.2.2) or JPEG 2000 (T.800 A.5.1) stream."""
    if frame[4:8] == b"jP  ":  # a JP2 file around the stream
        frame = frame[frame.index(b"jp2c") + 4 :]
    if frame[:4] == b"\xff\x4f\xff\x51":
        right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
        (components,) = struct.unpack_from(">H", frame, 40)
        return (right - left, bottom - top) if components <= 4 else (0, 0)
    at = 2
    while frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = struct.unpack_from(">2H", frame, at + 5)
            return width, height
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", frame, at + 2)[0]
    raise ValueError("no frame header")


def _shown(stored: np.ndarray, ds: Dataset, notes: list[str]) -> tuple[Floats, npt.NDArray[np.bool_] | None]:
    """Stored integers (H, W) -> (greys 0-1 through the DICOM greyscale pipeline, mask of background)."""
    low, high = int(stored.min()), int(stored.max())
    if high - low < 2**16:
        # Every step works on single values, so the pipeline runs once over the values, not over the pixels.
        table = _voi(_modality(np.arange(low, high + 1), ds, notes), ds, notes)
        if table is not None:
            index: npt.NDArray[np.integer] = stored.astype(np.int32 if stored.itemsize <= 2 else np.int64)
            return np.take(table, index - low), None
    else:
        pixels = _voi(_modality(stored.astype(np.int64), ds, notes), ds, notes)
        if pixels is not None:
            return pixels, None
    return _full_range(stored, ds, notes)


def _number(ds: Dataset, keyword: str) -> float:
    """The first value of a numeric element; NaN where there is none or it is no number."""
    try:
        value: Any = ds[keyword].value
        return float(value if isinstance(value, (int, float, str)) else value[0])
    except (KeyError, TypeError, ValueError, IndexError):
        return float("nan")


def _slope(ds: Dataset) -> float:
    """Rescale slope; 1 where there is none that can be used."""
    slope, intercept = _number(ds, "RescaleSlope"), _number(ds, "RescaleIntercept")
    usable = 1e-30 < abs(slope) < 1e30 and abs(intercept) < 1e30  # False for NaN as well
    return slope if usable else 1.0


def _modality(values: np.ndarray, ds: Dataset, notes: list[str]) -> np.ndarray:
    """Stored values -> modality values (PS3.3 C.11.1), any shape."""
    from pydicom.pixels.processing import apply_modality_lut

    if ds.get("ModalityLUTSequence"):
        ds.ModalityLUTSequence[0].LUTDescriptor[2] = 16  # pydicom makes a dtype of it: 12 bits would fail
    elif "RescaleSlope" in ds or "RescaleIntercept" in ds:
        if _slope(ds) != _number(ds, "RescaleSlope"):
            notes.append("unusable rescale slope ignored")
            return values
        ds.RescaleSlope, ds.RescaleIntercept = _slope(ds), _number(ds, "RescaleIntercept")
    return apply_modality_lut(values, ds)


def _voi(values: np.ndarray, ds: Dataset, notes: list[str]) -> Floats | None:
    """Modality values -> greys 0-1 by the first VOI LUT or window (PS3.3 C.11.2); None if unusable."""
    from pydicom import Dataset
    from pydicom.pixels.processing import apply_voi_lut, apply_windowing

    greys: np.ndarray
    if ds.get("VOILUTSequence"):
        descriptor = ds.VOILUTSequence[0].LUTDescriptor
        first, bits = int(descriptor[1]), int(descriptor[2])
        descriptor[2] = 16  # pydicom counts the entries, too, in a type of this many bits
        inputs = np.clip(np.rint(values), first, first + 2**16 - 1).astype(np.int64)
        greys = apply_voi_lut(inputs, ds)
        # Files exist whose descriptor says 16 bits while the table fills 12.
        greys = greys / (2 ** min(bits, _bits_used(greys.max())) - 1)
        notes.append("DICOM VOI table applied")
    elif "WindowWidth" in ds or "WindowCenter" in ds:
        function = str(ds.get("VOILUTFunction") or "LINEAR").strip().upper()
        center, width = _number(ds, "WindowCenter"), _number(ds, "WindowWidth")
        least = 1 if function == "LINEAR" else 1e-30
        if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or not (
            abs(center) < 1e30 and least <= width < 1e30  # False for NaN as well
        ):
            notes.append("unusable DICOM window ignored")
            return None
        # pydicom answers in the range of the stored values; one stored bit makes that range 0-1.
        window = Dataset()
        window.PhotometricInterpretation = "MONOCHROME2"
        window.BitsStored, window.PixelRepresentation = 1, 0
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = center, width, function
        greys = apply_windowing(values, window)
        notes.append("DICOM window applied")
    else:
        return None
    if greys.min() == greys.max():
        notes[-1] = "DICOM window or table without contrast ignored"
        return None
    shown: Floats = greys.clip(0, 1).astype(np.float32)
    return shown


def _full_range(stored: np.ndarray, ds: Dataset, notes: list[str]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Stored integers -> (greys 0-1 over their full range, mask of pixel padding), for files without VOI."""
    from pydicom.pixels.processing import apply_modality_lut

    notes.append("no DICOM window: full range shown")
    padding, limit = _number(ds, "PixelPaddingValue"), _number(ds, "PixelPaddingRangeLimit")
    least, greatest = sorted((padding, padding if np.isnan(limit) else limit))
    background: npt.NDArray[np.bool_] = (stored >= least) & (stored <= greatest)  # nothing where NaN
    if background.all():
        background[:] = False

    values, bits, falling = stored, min(8, int(ds.BitsStored)), _slope(ds) < 0
    if ds.get("ModalityLUTSequence"):  # its output is unsigned, whatever goes in (C.11.1.1.1)
        values, bits, falling = apply_modality_lut(stored.astype(np.int64), ds), 8, False
    real = values[~background]
    low, high = int(real.min()), int(real.max())
    if values.dtype.kind == "u":
        low, high = 0, 2 ** max(bits, high.bit_length()) - 1
    exact: npt.NDArray[Any] = values.astype(np.float32 if values.itemsize <= 2 else np.float64)
    pixels: Floats = ((exact - low) / ((high - low) or 1)).clip(0, 1).astype(np.float32)
    return (1 - pixels if falling else pixels), background
