"""Read by schemathesis: what a film is cannot be said in a schema."""

import schemathesis
from hypothesis import strategies

from cxrmodels.phantom import phantom

FILM = strategies.just(phantom("covid19", seed=3, size=96).png())
schemathesis.openapi.format("binary", FILM)
for kind in ("image/png", "image/jpeg", "application/dicom", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, FILM)
