"""Other programs over HTTP: `serve`."""

from __future__ import annotations

import argparse

from cxrmodels import NOTICE
from cxrmodels.cli.common import OK, Command, UsageError, say


def _serve(arguments: argparse.Namespace) -> int:
    from cxrmodels.api.access import AccessError
    from cxrmodels.api.server import serve

    say(f"http://{arguments.host}:{arguments.port}/api/v1/openapi.json says what can be asked. {NOTICE}")
    try:
        serve(arguments.host, arguments.port, arguments.rate)
    except AccessError as error:
        raise UsageError(str(error)) from None
    return OK


def add(command: Command) -> None:
    """The command `serve`."""
    serve = command("serve", _serve, "Answer other programs over HTTP, without pages. See docs/api.md.")
    serve.add_argument("--host", default="127.0.0.1", help="address to bind to (default: this machine alone)")
    serve.add_argument("--port", type=int, default=8502)
    serve.add_argument("--rate", type=int, metavar="N", help="requests a minute from one address")
