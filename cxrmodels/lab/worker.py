"""The process that trains one run: `python -m cxrmodels.lab.worker RUN`, RUN being the run's folder.

With `--wait NUMBER` it imports Keras first, makes films and network ready for the settings that it is told of, and gets
its run by a socket; see `process.warm_up`.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from cxrmodels.datasets.manifest import ManifestError
from cxrmodels.files import Lock
from cxrmodels.lab.config import ConfigError, PhantomData, RunConfig
from cxrmodels.lab.control import Mailbox
from cxrmodels.lab.data import UnwantedError, dismiss, hire, load
from cxrmodels.lab.events import DISK_FULL, EventWriter, Failed, Obeyed, Queued, Started, Stopped
from cxrmodels.lab.history import History
from cxrmodels.lab.imports import DataError
from cxrmodels.lab.line import Listener, Order
from cxrmodels.lab.process import WAIT
from cxrmodels.lab.store import HEARTBEAT_FILE, LOCK_FILE, Run
from cxrmodels.lab.turns import Device, Ending
from cxrmodels.processes import AWAY, weigh

if TYPE_CHECKING:
    from cxrmodels.lab.loop import Ready

_HEARTBEAT = 1.0
_PATIENCE = 600.0
"""Seconds that a worker without a run waits to hear of one: it holds half a gigabyte."""
_A_WHILE = 0.4
_SETTLED = 0.3
"""Seconds without newer settings after which those at hand are made ready."""
_MOST_AHEAD = 2**26
"""Bytes of films that are made before anybody asked for them."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: list[str] | None = None) -> int:
    """Train a run until it ends.

    Args:
        arguments: the run's folder; then, if the launcher took the run's lock, the number of its open file.

    Returns:
        0 when the run finished or was stopped, or nobody had one, 1 when it failed, 2 when it has a worker already.
    """
    folder, *descriptor = sys.argv[1:] if arguments is None else arguments
    ready = None
    if folder == WAIT:
        order, ready = _wait(int(descriptor[0]))
        if order is None:
            return 0
        _take_over(order)
        folder, descriptor = order.folder, [str(order.lock)]
    run = Run(Path(folder).absolute())
    lock = Lock(int(descriptor[0])) if descriptor else Lock.take(run.folder / LOCK_FILE)
    if lock is None:
        print(f"A worker is at run {run.id} already.", file=sys.stderr)
        return 2
    # The processes that make films must not keep it.
    os.set_inheritable(lock.descriptor, False)
    os.ftruncate(lock.descriptor, 0)
    os.pwrite(lock.descriptor, str(os.getpid()).encode(), 0)
    ending = Ending()

    def end(*_: object) -> None:
        ending.reason = "the worker was told to end"

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    threading.Thread(target=_beat, args=(run.folder / HEARTBEAT_FILE,), daemon=True).start()
    with lock:
        return _work(run, ready, ending)


def _wait(descriptor: int) -> tuple[Order | None, Ready | None]:
    """A run, None when nobody came or those who might are gone; and what was made ready for it, if it was."""
    loop = _import_loop()
    loop.set_up()
    hire()
    with Listener(descriptor) as line:
        ready = _until_order(line, loop)
    return line.order, ready


def _until_order(line: Listener, loop: ModuleType) -> Ready | None:
    ready: Ready | None = None
    tried: RunConfig | None = None
    # What is made ready, nobody has asked for yet.
    weigh(os.getpid(), AWAY)
    while line.order is None and not line.over:
        if line.wanted == tried:
            if not line.look(_PATIENCE):
                break
        elif not line.look(_SETTLED):
            if ready is not None:
                ready = None
                loop.forget()
            tried = line.wanted
            try:
                ready = _made_ahead(tried, line, loop)
            except UnwantedError:
                tried = None
    if line.order is not None:
        weigh(os.getpid(), 0)
    return ready


def _made_ahead(config: RunConfig | None, line: Listener, loop: ModuleType) -> Ready | None:
    """None where that is not done: real films may change on the disk until somebody asks for them.

    Raises:
        UnwantedError: other settings, or a run with others, came meanwhile.
    """
    if config is None or not isinstance(config.data, PhantomData):
        return None
    if config.data.films * config.input_size**2 > _MOST_AHEAD:
        return None

    def unwanted() -> bool:
        if line.look(0) and line.order is not None:
            weigh(os.getpid(), 0)
        return line.over or line.wanted != config

    # What is wrong with the settings is told when somebody trains with them.
    with suppress(DataError):
        ready: Ready = loop.make_ready(config, load(config, unwanted))
        loop.rehearse(ready)
        return ready
    return None


def _take_over(order: Order) -> None:
    """Be as a worker that was launched for this run."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(order.log, stream.fileno())
    os.close(order.log)
    os.environ.clear()
    os.environ.update(order.environment)


def _import_loop() -> ModuleType:
    # The same steps give the same numbers, bit for bit. TensorFlow reads it when it is imported.
    os.environ["TF_DETERMINISTIC_OPS"] = "1"
    # Nor does it take all of a GPU's memory then: several workers may have it open, though one trains at a time.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    return import_module("cxrmodels.lab.loop")


def _let_pages_go_first() -> None:
    """A training takes all cores for minutes; whoever clicks meanwhile is to be answered at once."""
    os.nice(AWAY)
    # After the first step, which somebody waits for; and Linux takes no second change within a tenth of a second.
    threading.Timer(_A_WHILE, weigh, (os.getpid(), AWAY)).start()


def _beat(file: Path) -> None:
    while True:
        file.touch()
        time.sleep(_HEARTBEAT)


def _work(run: Run, ready: Ready | None, ending: Ending) -> int:
    history = History()
    writer = EventWriter(run.events)
    try:
        history.add(run.follow().read())
        writer.write(Queued())
        mailbox = Mailbox(run.folder, history.obeyed)
        device = Device(run)

        def told_to_end() -> bool:
            # Other commands wait until there is something to carry them out on.
            if any(command.action == "stop" for command in mailbox.peek()):
                ending.reason = "stopped by a viewer while it waited"
            return ending.reason is not None

        if device.enter(told_to_end):
            writer.write(Started())
            _train(run, ready, writer, mailbox, history, device, ending)
        else:
            for command in mailbox.take():
                writer.write(Obeyed(command.number, command.action, 0))
            writer.write(Stopped(ending.reason or "", 0, 0))
    except Exception as error:
        traceback.print_exc()
        writer.write(Failed(_message(error)))
        return 1
    return 0


def _train(
    run: Run,
    ready: Ready | None,
    writer: EventWriter,
    mailbox: Mailbox,
    history: History,
    device: Device,
    ending: Ending,
) -> None:
    config = run.config()
    with ThreadPoolExecutor(1) as beside:
        # Keras takes seconds to import, and so do films to be made, in other processes.
        importing = beside.submit(_import_loop)
        if ready is None or ready.config != config:
            data = load(config)
            ready = importing.result().make_ready(config, data)
        loop = importing.result()
    dismiss()
    training = loop.Training(run, ready, writer, mailbox, history.changes, device, ending)
    _let_pages_go_first()
    training.run()


def _message(error: Exception) -> str:
    """In one line. Errors that were foreseen say what to do; of others the kind matters."""
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, DataError | ConfigError | ManifestError):
        return first
    if isinstance(error, OSError) and error.errno in _FULL:
        return DISK_FULL
    return f"{type(error).__name__}: {first}"[:500]


if __name__ == "__main__":
    sys.exit(main())
