"""What a server says to the worker it keeps warm: settings that it may be asked for, and at last a run.

A line of JSON each, through a socket. The run's line comes with two open files: the run's lock and its log.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cxrmodels.lab.config import ConfigError, RunConfig, from_query
from cxrmodels.lab.store import Run

_MOST = 2**16


def say_likely(line: socket.socket, config: RunConfig) -> None:
    """Tell of settings that a run may be started with.

    Raises:
        OSError: the worker is gone, or takes nothing in.
    """
    line.sendall(_line({"likely": config.to_query()}))


def say_run(line: socket.socket, folder: Path, environment: dict[str, str], lock: int, log: int) -> None:
    """Hand over a run, with its lock and log by the numbers of their open files here.

    Raises:
        OSError: the worker is gone, or takes nothing in.
    """
    message = _line({"folder": str(folder), "environment": environment})
    sent = socket.send_fds(line, [message], [lock, log])
    line.sendall(message[sent:])


def _line(plain: dict[str, object]) -> bytes:
    return json.dumps(plain).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Order:
    """A run to train: its folder, the server's environment, its lock and log as numbers of open files."""

    folder: str
    environment: dict[str, str]
    lock: int
    log: int


class Listener:
    """The worker's end.

    Attributes:
        wanted: the settings that were named last; once there is an order, those of its run; None where there are none.
        order: the run, when it has come.
        over: whether nobody is at the other end any more.
    """

    def __init__(self, descriptor: int) -> None:
        self.wanted: RunConfig | None = None
        self.order: Order | None = None
        self.over = False
        self._socket = socket.socket(fileno=descriptor)
        self._rest = b""
        self._files: list[int] = []

    def look(self, patience: float) -> bool:
        """Take in what was said, waiting at most so many seconds for it; whether there was something.

        Nothing comes after an order.
        """
        if self.order is not None:
            return False
        self._socket.settimeout(patience)
        try:
            part, files, *_ = socket.recv_fds(self._socket, _MOST, 2)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError:
            part, files = b"", []
        self.over = not part
        self._files += files
        *lines, self._rest = (self._rest + part).split(b"\n")
        for one in lines:
            self._take(json.loads(one))
        return True

    def _take(self, plain: dict[str, object]) -> None:
        self.wanted = None
        if "folder" in plain:
            folder, environment = plain["folder"], plain["environment"]
            assert isinstance(folder, str)
            assert isinstance(environment, dict)
            lock, log = self._files
            self.order = Order(folder, environment, lock, log)
            # What is wrong with a run's settings is told when it is to be trained.
            with suppress(ConfigError, OSError):
                self.wanted = Run(Path(folder)).config()
        else:
            # Another version of the program may be at the other end.
            with suppress(ConfigError):
                self.wanted = from_query(str(plain["likely"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
