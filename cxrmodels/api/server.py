"""The API on a server of its own: `python -m cxrmodels serve`."""

from __future__ import annotations

from cxrmodels.api.access import TOKEN_VARIABLE, AccessError, access_for
from cxrmodels.api.routes import application


def serve(host: str, port: int, per_minute: int | None = None) -> None:
    """Serve until stopped.

    Args:
        host: address to bind to. Anything but a loopback address needs a token.
        port: to bind to.
        per_minute: requests a minute from one address; by default as the environment says.

    Raises:
        AccessError: no token is set for an address that others can reach, or a setting is of no use.
    """
    import uvicorn

    access = access_for(host, per_minute)
    if access.off:
        raise AccessError(
            f"{host} can be reached from other machines, and {TOKEN_VARIABLE} is not set: nobody would be answered. "
            f"Set {TOKEN_VARIABLE} to at least 16 random characters, or use --host 127.0.0.1."
        )
    uvicorn.run(application(access), host=host, port=port, log_level="warning", server_header=False)
