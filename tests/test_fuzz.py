"""What the fuzzer starts from, and what it found: each file is answered or refused, as `tests/fuzz` demands of any."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.pixels.decoders.base import _PIXEL_DATA_DECODERS
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, JPEGLosslessSV1

from cxrmodels.radiograph import RadiographError, read_radiograph
from tests.broken_inputs import answered_or_refused, film, picture, png_chunks, png_header
from tests.fuzz.__main__ import repaired
from tests.fuzz.seeds import SIDE, holding, lossless_jpeg, seeds

ROOT = Path(__file__).resolve().parent.parent
SEEDS = seeds()


@pytest.mark.parametrize("name", [name for name in SEEDS if "Deflated" not in name])
def test_a_seed_is_a_film(name: str) -> None:
    """One that was refused would have the fuzzer start where nothing lies behind."""
    answer = answered_or_refused(SEEDS[name], name)
    assert answer is not None
    assert answer.pixels.shape == (SIDE, SIDE)


def test_deflated_dicom_is_refused() -> None:
    with pytest.raises(RadiographError, match="Deflated"):
        read_radiograph(SEEDS["DeflatedExplicitVRLittleEndian.dcm"])


def test_seeds_hold_every_transfer_syntax_that_is_read() -> None:
    readable = {UID(syntax).keyword for syntax, decoder in _PIXEL_DATA_DECODERS.items() if decoder[0].is_available}
    held = {name.removesuffix(".dcm") for name in SEEDS}
    # No encoder is at hand for these, which share their decoder with what is there.
    assert readable - held <= {
        *("ExplicitVRLittleEndian", "JPEG2000", "JPEG2000MC", "JPEG2000MCLossless"),
        *("HTJ2K", "HTJ2KLossless", "HTJ2KLosslessRPCL", "EncapsulatedUncompressedExplicitVRLittleEndian"),
    }


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_jpeg_comes_back_exactly(bits: int) -> None:
    """Most archives keep their films so. The encoder is the tests' own, written from the standard."""
    values = film(70, 66, bits=bits)
    data = holding(lossless_jpeg(values), values, JPEGLosslessSV1, BitsStored=max(bits, 8))
    assert np.array_equal(pixel_array(io.BytesIO(data)), values)
    assert read_radiograph(data).pixels.max() == 1


def test_checksums_are_put_right_and_nothing_else() -> None:
    whole = picture(film(), "PNG")
    assert repaired(whole) == whole
    at = whole.index(b"IDAT") + 30
    bent = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    fixed = repaired(bent)
    assert fixed != bent
    assert sum(a != b for a, b in zip(fixed, bent, strict=True)) <= 4
    assert repaired(b"GIF89a") == b"GIF89a"
    header = png_header(64, 64)
    assert repaired(png_chunks(header)[:-1]) == png_chunks(header)[:-1]
    assert zlib.crc32(b"IEND").to_bytes(4, "big") in repaired(whole)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is for Linux on x86-64.")
def test_the_fuzzer_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--minutes", "0.05", "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "0 findings" in done.stdout, done.stderr[-2000:]
