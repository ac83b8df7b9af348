"""Who may ask, and how often: a token, or nobody but this machine; and so many requests a minute."""

from __future__ import annotations

import hmac
import ipaddress
import math
import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request

from cxrmodels.api.problems import ProblemError

TOKEN_VARIABLE, RATE_VARIABLE = "CXRMODELS_API_TOKEN", "CXRMODELS_API_RATE"
LEAST_TOKEN = 16
"""Characters a token has at least."""
PER_MINUTE = 600
"""Requests a minute from one address, unless `CXRMODELS_API_RATE` says otherwise."""

_CLIENTS = 4096


class AccessError(ValueError):
    """The settings of access make no sense; the message says what would."""


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone. An empty one stands for all there are."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Attributes:
        token: what a request has to bring; empty where none is needed.
        local: whether the server is bound to a loopback address. Without token, it then answers; elsewhere it is off.
        per_minute: requests from one address.
    """

    token: str
    local: bool
    per_minute: int = PER_MINUTE

    @property
    def off(self) -> bool:
        """Whether nothing is answered at all."""
        return not self.token and not self.local


def access_for(host: str, per_minute: int | None = None) -> Access:
    """Access to a server that is bound to an address, by the environment's settings.

    Args:
        host: the address; empty for all.
        per_minute: in place of what the environment says.

    Raises:
        AccessError: a setting is of no use.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if token and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise AccessError(
            f"{TOKEN_VARIABLE} has {len(token)} characters; expected at least {LEAST_TOKEN}, printable ASCII without "
            "spaces. Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    if per_minute is None:
        text = os.environ.get(RATE_VARIABLE, "").strip() or str(PER_MINUTE)
        if not text.isdecimal() or not int(text):
            raise AccessError(
                f"{RATE_VARIABLE} is {text!r}; expected a whole number of requests a minute, at least one."
            )
        per_minute = int(text)
    elif per_minute < 1:
        raise AccessError(f"The rate is {per_minute}; expected at least one request a minute.")
    return Access(token, is_loopback(host), per_minute)


class Guard:
    """Lets requests in, or not. Used by one event loop."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (requests left, when)

    def check(self, request: Request) -> None:
        """Raises `ProblemError` where a request is not to be answered."""
        self._known(request)
        self._not_too_often(client(request))

    def _known(self, request: Request) -> None:
        access = self.access
        if access.off:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "The API is off: this server can be reached from other machines, and no token is set. Set "
                f"{TOKEN_VARIABLE} and start it again, or bind it to 127.0.0.1.",
            )
        if access.token:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            # Compared as bytes: a header may hold anything.
            if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), access.token.encode()):
                raise ProblemError(
                    HTTPStatus.UNAUTHORIZED,
                    f"A token is needed. Send the header 'Authorization: Bearer TOKEN' with what {TOKEN_VARIABLE} is "
                    "on the server.",
                    {"WWW-Authenticate": "Bearer"},
                )
        elif not is_loopback(_host(request)):
            # A web page elsewhere may have had its own name changed to this machine's address (DNS rebinding).
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "Without a token this server answers under the names localhost and 127.0.0.1 only; it was asked under "
                f"another. Use one of those, or set {TOKEN_VARIABLE}.",
            )

    def _not_too_often(self, who: str) -> None:
        per_second, now = self.access.per_minute / 60, time.monotonic()
        left, then = self._left.pop(who, (float(self.access.per_minute), now))
        left = min(float(self.access.per_minute), left + (now - then) * per_second)
        self._left[who] = (max(0.0, left - 1) if left >= 1 else left, now)
        while len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        if left < 1:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"More than {self.access.per_minute} requests in a minute came from your address. Ask more slowly, or "
                f"have {RATE_VARIABLE} raised on the server.",
                {"Retry-After": str(math.ceil((1 - left) / per_second))},
            )


def client(request: Request) -> str:
    """The address that asks. What headers say of it is not believed: anybody can write them."""
    return request.client.host if request.client else "unknown"


def _host(request: Request) -> str:
    """The name under which the server was asked, without its port."""
    name = request.headers.get("Host", "")
    return name.partition("]")[0] if name.startswith("[") else name.rpartition(":")[0] or name
