"""The training itself: step by step, told of as it happens, steered between steps, and the same after any kill.

What a step does depends on the configuration, the films, its number, the learning rates set until then, and what the
steps before it left behind: weights, optimiser, the dropout's generators, sums of the epoch so far. The last are in the
checkpoint and the changes of the learning rate in the events; so a worker that goes on from a checkpoint does the very
steps that would have come.
"""

from __future__ import annotations

import gc
import io
import json
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from scipy.special import log_softmax, softmax

from cxrmodels.files import replace_file
from cxrmodels.lab.config import RunConfig, rate_factor
from cxrmodels.lab.control import Command, Mailbox
from cxrmodels.lab.data import LabData
from cxrmodels.lab.events import (
    Changed,
    Checkpoint,
    EpochEnd,
    EventWriter,
    Filters,
    Finished,
    Mistakes,
    Obeyed,
    Paused,
    PinnedFilms,
    Prepared,
    Queued,
    Resumed,
    Stopped,
)
from cxrmodels.lab.imports import DataError
from cxrmodels.lab.network import CHANNELS, as_batch, build_network, feature_layer
from cxrmodels.lab.pictures import VALIDATION_FILE, read_arrays, write_arrays
from cxrmodels.lab.report import confusion_of, rates, write_report
from cxrmodels.lab.saliency import Probe
from cxrmodels.lab.store import CHECKPOINT_FILE, MODEL_FILE, Run
from cxrmodels.lab.turns import Device, Ending
from cxrmodels.training.augment import augment
from cxrmodels.training.films import predict_logits

_PINNED = 6
_MISTAKES_A_CELL = 20
_LOOK = 0.05
"""Seconds between two looks at the commands of a paused run."""
_ORDER, _AUGMENTATION = 101, 102
"""Streams of random numbers beside those of `data`."""


def learning_rate(config: RunConfig, changes: list[Changed], step: int, steps: int) -> float:
    """The learning rate of the step after `step`. A rate that was set holds at once; the schedule goes on from it."""
    value, since = config.learning_rate, 0
    for change in changes:
        if change.step <= step:
            value, since = change.value, change.step
    return value * rate_factor(config.schedule, step, steps) / rate_factor(config.schedule, since, steps)


def epoch_order(config: RunConfig, films: int, epoch: int) -> np.ndarray:
    """Positions among the training films in the order of an epoch (from 0), int (films,)."""
    return np.random.default_rng((config.seed, _ORDER, epoch)).permutation(films)


def _compiled(config: RunConfig) -> keras.Model:
    # The worker is a process of its own: these settings are nobody else's.
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy("mixed_bfloat16" if config.mixed_precision else "float32")
    network = build_network(config)
    rate = config.learning_rate
    optimizers: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
        "adam": lambda: keras.optimizers.Adam(rate),
        "sgd": lambda: keras.optimizers.SGD(rate, momentum=0.9),
        "rmsprop": lambda: keras.optimizers.RMSprop(rate),
        "adamw": lambda: keras.optimizers.AdamW(rate),
    }
    network.compile(
        optimizer=optimizers[config.optimizer](),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # Weights of the classes change what is minimised, not what is shown: both curves are plain cross-entropy.
        metrics=[
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy"),
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        ],
    )
    network.optimizer.build(network.trainable_variables)
    return network


def _variables(network: keras.Model) -> list[Any]:
    """All that steps change: weights, averages, the dropout's generators, the optimiser."""
    layers = [variable for layer in network.layers for variable in layer.variables]
    return [*layers, *network.optimizer.variables]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """`films` float32 (n, size, size, 1), `labels` int (n,), `weights` float32 (n,) or None."""

    films: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None


class Lessons:
    """What each step of a run learns from.

    Attributes:
        films: of the training side.
        batch_size: films a step.
        steps_per_epoch, steps: the latter of the whole run.
    """

    def __init__(self, config: RunConfig, data: LabData) -> None:
        self._config, self._data = config, data
        self._training = np.flatnonzero(~data.validation)
        self.films = len(self._training)
        self.batch_size = min(config.batch_size, self.films)
        self.steps_per_epoch = self.films // self.batch_size
        self.steps = self.steps_per_epoch * config.epochs
        self._weights = self._class_weights()

    def batch(self, step: int) -> Batch:
        """What step `step` + 1 learns from."""
        epoch, number = divmod(step, self.steps_per_epoch)
        order = self._training[epoch_order(self._config, self.films, epoch)]
        chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
        films = self._data.films[chosen]
        if self._config.augmentation:
            rng = np.random.default_rng((self._config.seed, _AUGMENTATION, step))
            films = np.stack([augment(film, self._config.augmentation, rng) for film in films])
        labels = self._data.labels[chosen]
        return Batch(as_batch(films), labels, None if self._weights is None else self._weights[labels])

    def _class_weights(self) -> np.ndarray | None:
        """Weight of each class such that all classes weigh alike, with mean 1 over the films; None where not asked."""
        if not self._config.class_weights:
            return None
        counts = np.bincount(self._data.labels[self._training], minlength=len(self._data.classes))
        return (counts.sum() / np.maximum(counts, 1) / np.count_nonzero(counts)).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """All that a run has before its first step. It hangs on the configuration (and the films on disk) alone.

    Attributes:
        digest: of the films.
        pinned: positions of the films that are followed, among those held out.
        probe: makes their heat maps.
    """

    config: RunConfig
    data: LabData
    digest: str
    lessons: Lessons
    network: keras.Model
    pinned: np.ndarray
    probe: Probe


def make_ready(config: RunConfig, data: LabData) -> Ready:
    """Put a run's network to its films, see `data.load`."""
    network = _compiled(config)
    films, labels = data.films[data.validation], data.labels[data.validation]
    pinned = _pins(labels)
    probe = Probe(network, feature_layer(config), films[pinned], labels[pinned])
    return Ready(config, data, data.digest(), Lessons(config, data), network, pinned, probe)


def _pins(labels: np.ndarray) -> np.ndarray:
    """Positions among the held-out films of those followed: the classes in turn."""
    turns = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turns[members] = np.arange(len(members))
    return np.lexsort((labels, turns))[:_PINNED]


def rehearse(ready: Ready) -> None:
    """Learn the first step and unlearn it: what is compiled once then is, and the network is bit for bit as it was.

    Only with the batch that comes first: for another shape something else might be compiled, and round differently.
    """
    kept = [(variable, np.array(keras.ops.convert_to_numpy(variable))) for variable in _variables(ready.network)]
    _learn(ready.network, ready.lessons.batch(0))
    for variable, value in kept:
        variable.assign(value)


def _learn(network: keras.Model, batch: Batch) -> dict[str, Any]:
    found: dict[str, Any] = network.train_on_batch(batch.films, batch.labels, batch.weights, return_dict=True)
    return found


def set_up() -> None:
    """Learn a step with a network that is thrown away: what a backend sets up once is then set up."""
    config = RunConfig()
    films = np.zeros((config.batch_size, config.input_size, config.input_size), np.uint8)
    _learn(_compiled(config), Batch(as_batch(films), np.zeros(config.batch_size, np.int64), None))
    forget()
    # What was imported stays: looking for garbage in it takes half a second each time.
    gc.freeze()


def forget() -> None:
    """Networks before this one leave no trace: names that Keras makes by counting begin at the same number again."""
    keras.backend.clear_session()


@dataclass(slots=True)
class _Sums:
    """What an epoch gave so far. `seconds` spent on its steps."""

    losses: list[float]
    accuracies: list[float]
    seconds: float


class Training:
    """One run, from its folder to its report."""

    def __init__(
        self,
        run: Run,
        ready: Ready,
        writer: EventWriter,
        mailbox: Mailbox,
        changes: Sequence[Changed],
        device: Device,
        ending: Ending,
    ) -> None:
        """
        Args:
            run: the run.
            ready: made of its configuration.
            writer: of its events.
            mailbox: of its commands.
            changes: those that earlier workers were told of, see `History.changes`.
            device: the turn on the device, which it is.
            ending: says when to stop; may be set at any moment.

        Raises:
            DataError: the films are not those of the checkpoint.
        """
        self._run, self._config, self._data = run, ready.config, ready.data
        self._lessons, self._network = ready.lessons, ready.network
        self._writer, self._mailbox, self._device, self._ending = writer, mailbox, device, ending
        self._changes = list(changes)
        held_out = self._data.validation
        self._films, self._labels = self._data.films[held_out], self._data.labels[held_out]
        self._ids = self._data.ids[held_out]
        self._steps_per_epoch, self._steps = self._lessons.steps_per_epoch, self._lessons.steps
        self._pinned, self._probe, self._digest = ready.pinned, ready.probe, ready.digest
        self._step = 0
        self._sums = _Sums([], [], 0.0)
        self._until: float = math.inf  # the step to pause after
        self._rate = self._config.learning_rate
        self._restore()

    # --- the run -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Learn until the last epoch or a stop; then write model and report."""
        self._prepared()
        with ThreadPoolExecutor(1) as ahead:
            following: Future[Batch] | None = None
            while self._step < self._steps and not self._told_to_end():
                if self._step >= self._until:
                    self._wait()
                    continue
                batch = (following or ahead.submit(self._lessons.batch, self._step)).result()
                following = ahead.submit(self._lessons.batch, self._step + 1) if self._step + 1 < self._steps else None
                self._learn(batch)
                if self._step % self._steps_per_epoch == 0:
                    self._end_epoch()
        self._finish()

    def _prepared(self) -> None:
        write_arrays(self._run.folder / VALIDATION_FILE, films=self._films, labels=self._labels, ids=self._ids)
        self._writer.write(
            Prepared(
                device=device_name(),
                backend=keras.backend.backend(),
                parameters=self._network.count_params(),
                training_films=self._lessons.films,
                validation_films=len(self._films),
                steps_per_epoch=self._steps_per_epoch,
                steps=self._steps,
                feature_layer=feature_layer(self._config),
                pinned=tuple(self._ids[self._pinned].tolist()),
            )
        )
        if self._writer.generation:
            self._writer.write(Resumed(self._epoch, self._step))

    @property
    def _epoch(self) -> int:
        """The epoch (from 1) that the last step belongs to."""
        return max(1, -(-self._step // self._steps_per_epoch))

    def _learn(self, batch: Batch) -> None:
        began = time.perf_counter()
        rate = learning_rate(self._config, self._changes, self._step, self._steps)
        if rate != self._rate:
            self._network.optimizer.learning_rate.assign(rate)
            self._rate = rate
        found = _learn(self._network, batch)
        self._step += 1
        loss, accuracy = float(found["cross_entropy"]), float(found["accuracy"])
        seconds = time.perf_counter() - began
        self._sums.losses.append(loss)
        self._sums.accuracies.append(accuracy)
        self._sums.seconds += seconds
        self._writer.batch(self._step, self._epoch, loss, accuracy, seconds, rate)

    # --- commands ------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        for command in self._mailbox.take():
            self._carry_out(command)
            self._writer.write(Obeyed(command.number, command.action, self._step))

    def _carry_out(self, command: Command) -> None:
        match command.action:
            case "pause":
                self._until = self._step
            case "resume":
                self._until = math.inf
            case "one_step":
                self._until = self._step + 1
            case "one_epoch":
                self._until = (self._step // self._steps_per_epoch + 1) * self._steps_per_epoch
            case "learning_rate":
                assert command.value is not None
                change = Changed("learning_rate", command.value, self._step)
                # As `History` does: what an earlier worker was told for later steps no longer holds.
                self._changes = [one for one in self._changes if one.step <= self._step] + [change]
                self._writer.write(change)
            case "stop":
                self._ending.reason = "stopped by a viewer"

    def _wait(self) -> None:
        """Pause until a command says otherwise. The device is free for others meanwhile."""
        self._save()
        self._writer.write(Paused(self._epoch, self._step))
        self._device.leave()
        while self._step >= self._until and not self._told_to_end():
            time.sleep(_LOOK)
        if self._ending.reason is None:
            self._writer.write(Queued())
            if self._device.enter(self._told_to_end):
                self._writer.write(Resumed(self._epoch, self._step))

    def _told_to_end(self) -> bool:
        self._obey()
        return self._ending.reason is not None

    # --- after an epoch ------------------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        began = time.perf_counter()
        sums, self._sums = self._sums, _Sums([], [], 0.0)
        self._writer.flush()
        logits = predict_logits(self._network, self._films, CHANNELS)
        losses = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(self._labels)), self._labels]
        called = logits.argmax(1)
        confusion = confusion_of(self._labels, called, len(self._data.classes))
        sensitivity, specificity = rates(confusion)
        self._writer.write(
            EpochEnd(
                epoch=self._epoch,
                step=self._step,
                training_loss=float(np.mean(sums.losses)),
                training_accuracy=float(np.mean(sums.accuracies)),
                validation_loss=float(losses.mean()),
                validation_accuracy=float((called == self._labels).mean()),
                confusion=_plain(confusion),
                sensitivity=tuple(sensitivity.tolist()),
                specificity=tuple(specificity.tolist()),
                films_per_s=round(len(sums.losses) * self._lessons.batch_size / sums.seconds, 1),
                seconds=round(sums.seconds + time.perf_counter() - began, 3),
                memory_mb=_memory_mb(),
            )
        )
        self._show_mistakes(logits, called)
        self._show_pinned()
        self._show_filters()
        self._save()

    def _show_mistakes(self, logits: np.ndarray, called: np.ndarray) -> None:
        sure = softmax(logits.astype(np.float64), axis=1).max(1)
        wrong = np.flatnonzero(called != self._labels)
        wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
        cells: dict[tuple[int, int], int] = {}
        kept = []
        for position in wrong:
            cell = int(self._labels[position]), int(called[position])
            cells[cell] = cells.get(cell, 0) + 1
            if cells[cell] <= _MISTAKES_A_CELL:
                kept.append(int(position))
        self._writer.write(
            Mistakes(
                self._epoch,
                tuple(self._ids[kept].tolist()),
                tuple(self._labels[kept].tolist()),
                tuple(called[kept].tolist()),
                tuple(sure[kept].round(4).tolist()),
            )
        )

    def _show_pinned(self) -> None:
        probabilities, heat = self._probe.look()
        file = f"pinned-{self._epoch}.npz"
        write_arrays(self._run.folder / file, heat=heat.astype(np.float16))
        self._writer.write(PinnedFilms(self._epoch, _plain(probabilities.astype(np.float64).round(4)), file))

    def _show_filters(self) -> None:
        kernels = keras.ops.convert_to_numpy(self._network.get_layer("conv1").kernel)
        file = f"filters-{self._epoch}.npz"
        # (height, width, 1, filters) as Keras keeps them.
        write_arrays(self._run.folder / file, kernels=kernels[:, :, 0].transpose(2, 0, 1).astype(np.float32))
        self._writer.write(Filters(self._epoch, file))

    # --- checkpoint ----------------------------------------------------------------------------------------------

    def _save(self) -> None:
        # Events first: a checkpoint must never be ahead of what was told.
        self._writer.sync()
        state = {"step": self._step, "digest": self._digest, "sums": asdict(self._sums)}
        variables = enumerate(_variables(self._network))
        arrays = {f"v{number:04d}": keras.ops.convert_to_numpy(variable) for number, variable in variables}
        stream = io.BytesIO()
        np.savez(stream, state=np.array(json.dumps(state)), **arrays)
        replace_file(self._run.folder / CHECKPOINT_FILE, stream.getvalue())
        self._writer.write(Checkpoint(self._epoch, self._step))

    def _restore(self) -> None:
        path = self._run.folder / CHECKPOINT_FILE
        if not path.is_file():
            return
        stored = read_arrays(path)
        state = json.loads(str(stored.pop("state")))
        if state["digest"] != self._digest:
            raise DataError(
                "The films are no longer those that this run began with, so it cannot go on. Start a new run with its "
                "configuration."
            )
        for variable, (_, value) in zip(_variables(self._network), sorted(stored.items()), strict=True):
            variable.assign(value)
        self._step, self._sums = state["step"], _Sums(**state["sums"])
        self._rate = math.nan  # whatever the optimiser has, it is set before the next step

    # --- the end -------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        if self._step % self._steps_per_epoch:
            self._save()
        # A copy without optimiser: what is kept is what is served.
        finished = keras.models.clone_model(self._network)
        finished.set_weights(self._network.get_weights())
        partial = self._run.folder / f".{MODEL_FILE}"
        finished.save(partial)
        os.replace(partial, self._run.folder / MODEL_FILE)
        self._writer.flush()
        write_report(
            self._run,
            self._data,
            predict_logits(self._network, self._films, CHANNELS),
            step=self._step,
            outcome=self._ending.reason or "finished",
            extra={
                "data_sha256": self._digest,
                "parameters": self._network.count_params(),
                "feature_layer": feature_layer(self._config),
                "device": device_name(),
                "backend": keras.backend.backend(),
            },
        )
        if self._ending.reason is None:
            self._writer.write(Finished(self._epoch, self._step))
        else:
            self._writer.write(Stopped(self._ending.reason, self._epoch, self._step))


def _plain(matrix: np.ndarray) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())


def _memory_mb() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes, but bytes on macOS.
    return round(most / (2**20 if sys.platform == "darwin" else 2**10), 1)


def device_name() -> str:
    """What Keras computes on, for a reader."""
    others = [name for name in keras.distribution.list_devices() if not name.lower().startswith("cpu")]
    return ", ".join(others) if others else f"CPU ({platform.machine()}, {os.cpu_count()} cores)"
