"""Python imports this at its start where its folder stands in PYTHONPATH: it notes every file that is written and every
connection that is made, one JSON list a line, in the file that `CXRMODELS_WATCHED` names."""

import json
import os
import sys
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SAID = os.open(os.environ["CXRMODELS_WATCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, int) or not (flags & _WRITING or set(mode or "") & set("wax+")):
            return
        said = [event, _absolute(path)]
    elif event in ("os.mkdir", "os.link", "os.symlink"):
        said = [event, _absolute(arguments[0])]
    elif event == "os.rename":
        said = [event, _absolute(arguments[1])]
    elif event in ("socket.connect", "socket.sendto"):
        said = [event, str(arguments[1])]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        said = [event, str(arguments[0])]
    else:
        return
    os.write(_SAID, json.dumps(said).encode() + b"\n")


def _absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))


sys.addaudithook(_note)
