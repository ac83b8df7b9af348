"""Pictures as pages show them: each address holds the picture itself.

Streamlit would keep them as files at addresses of its own, and delete, whenever any viewer's script ends, those that no
script has named lately; another viewer's, whose script has just begun anew, are among them. With ten viewers at once
browsers asked for pictures that were gone. And nobody can ask for what has no address.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from cxrmodels.plots import greys

_QUALITY = 90


def address(file: bytes) -> str:
    """A PNG or JPEG file as a data URL (RFC 2397)."""
    kind = "png" if file.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode('ascii')}"


def photo(picture: np.ndarray) -> str:
    """Greys or colours, uint8 (H, W) or (H, W, 3), as the address of a JPEG: a film is a quarter as large so as a PNG.

    Colours keep their full resolution, or thin lines would fade.
    """
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return address(stream.getvalue())


def film_photo(pixels: np.ndarray) -> str:
    """The same of a film, float (H, W), 0-1."""
    return photo(greys(pixels))
