"""What viewers ask of a running training: numbered commands in the run's `control.json`, replaced as a whole.

`{"commands": [{"number": 1, "action": "pause", "value": null}, ...]}`, all that were ever sent. The worker looks
between steps, carries each out once, in order, and says so by an `Obeyed` event with the command's number.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cxrmodels.files import Lock, replace_file
from cxrmodels.lab.config import ConfigError, check_learning_rate

CONTROL_FILE = "control.json"

ACTIONS = {
    "pause": "Stop learning after this step, keep everything.",
    "resume": "Go on.",
    "one_step": "Learn one step, then pause.",
    "one_epoch": "Learn until the end of an epoch, then pause.",
    "learning_rate": "Set the learning rate; the schedule goes on from it.",
    "stop": "End here and write the report.",
}
"""Action -> what it does."""


@dataclass(frozen=True, slots=True)
class Command:
    """`number` counts from 1 within a run; `value` is the learning rate where `action` is `learning_rate`."""

    number: int
    action: str
    value: float | None = None


def send(folder: Path, action: str, value: float | None = None) -> int:
    """Ask a run's worker for something. Any process may, also several at once.

    Args:
        folder: the run's.
        action: a key of `ACTIONS`.
        value: the learning rate, where that is the action; else None.

    Returns:
        The command's number, which `Obeyed.command` will repeat.

    Raises:
        ConfigError: unknown action, or no possible value.
    """
    if action not in ACTIONS:
        raise ConfigError(f"The action is {action!r}; expected one of {', '.join(ACTIONS)}.")
    if action == "learning_rate":
        value = check_learning_rate(value)
    elif value is not None:
        raise ConfigError(f"{action} takes no value; got {value!r}.")
    lock = Lock.take(folder / f"{CONTROL_FILE}.lock", wait=True)
    assert lock is not None
    with lock:
        commands = read_commands(folder)
        command = Command(len(commands) + 1, action, value)
        plain = {"commands": [asdict(one) for one in (*commands, command)]}
        replace_file(folder / CONTROL_FILE, json.dumps(plain).encode())
    return command.number


def read_commands(folder: Path) -> tuple[Command, ...]:
    """All commands that were ever sent to a run."""
    try:
        text = (folder / CONTROL_FILE).read_bytes()
    except FileNotFoundError:
        return ()
    return tuple(Command(**one) for one in json.loads(text)["commands"])


class Mailbox:
    """The worker's side: commands that are not obeyed yet. Looking costs a microsecond while none came."""

    def __init__(self, folder: Path, obeyed: int) -> None:
        """`obeyed`: number of the last command that an earlier worker carried out."""
        self._folder, self._file = folder, folder / CONTROL_FILE
        self._obeyed = obeyed
        self._seen: tuple[int, int] | None = None
        self._waiting: list[Command] = []

    def peek(self) -> tuple[Command, ...]:
        """The commands that wait."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return ()
        # A replaced file is another file; its length tells apart what came within one tick of the clock.
        version = found.st_mtime_ns, found.st_size
        if version != self._seen:
            self._seen = version
            self._waiting = [command for command in read_commands(self._folder) if command.number > self._obeyed]
        return tuple(self._waiting)

    def take(self) -> tuple[Command, ...]:
        """The commands that wait; they are the caller's to carry out."""
        taken = self.peek()
        if taken:
            self._obeyed, self._waiting = taken[-1].number, []
        return taken
