"""The fitting loop: staged, seeded, resumable after a kill, on whatever Keras backend there is."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import keras
import numpy as np
from scipy.special import log_softmax

from cxrmodels.datasets.manifest import Film, data_hash
from cxrmodels.networks import build, folded
from cxrmodels.training.films import TrainingBatches, load_films, predict_logits
from cxrmodels.training.initial import carry_weights, first_weights
from cxrmodels.training.machine import Made, devices, versions
from cxrmodels.training.recipes import FRESH, Recipe, Stage
from cxrmodels.zoo import ModelSpec


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one epoch gave. Losses are cross-entropies in nats, accuracies 0-1, validation classes weighing alike."""

    stage: int
    epoch: int
    epochs: int
    training_loss: float
    training_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@keras.saving.register_keras_serializable("cxrmodels")
class WarmCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate: up in a straight line over the first twentieth of `steps`, then a half cosine down to 1 %."""

    def __init__(self, peak: float, steps: int) -> None:
        self.peak, self.steps = peak, steps

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        warm = max(1.0, self.steps / 20)
        done = keras.ops.clip((step - warm) / max(1.0, self.steps - warm), 0.0, 1.0)
        falling = self.peak * (0.01 + 0.99 * 0.5 * (1 + keras.ops.cos(math.pi * done)))
        return keras.ops.where(step < warm, self.peak * (step + 1) / warm, falling)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "steps": self.steps}


def _optimizer(recipe: Recipe, stage: Stage, steps: int) -> keras.optimizers.Optimizer:
    rate = WarmCosine(stage.learning_rate, steps)
    if recipe.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _reseed(network: keras.Model, *numbers: int) -> None:
    """Set what dropout draws from. Keras does not save that state: without this, a training that was killed
    would go on with other draws than it would have seen."""
    seeds = np.random.SeedSequence(numbers).generate_state(len(network.layers)) % 2**31
    for layer, seed in zip(network.layers, seeds, strict=True):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(keras.ops.convert_to_tensor([int(seed), 0], generator.state.dtype))


def validate(network: keras.Model, images: np.ndarray, labels: np.ndarray, channels: int) -> tuple[float, float]:
    """Cross-entropy and accuracy, each class weighing alike: what balanced training aims at."""
    logits = predict_logits(network, images, channels)
    losses = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    hits = logits.argmax(1) == labels
    classes = [labels == label for label in np.unique(labels)]
    return (
        float(np.mean([losses[members].mean() for members in classes])),
        float(np.mean([hits[members].mean() for members in classes])),
    )


class Checkpoint:
    """The state of a fit in one folder: network with optimiser, best weights, how far it got."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self.best = folder, folder / "best.weights.h5"
        self._state = folder / "state.json"

    def _model(self, state: dict[str, Any]) -> Path:
        return self._folder / f"stage{state['stage']}-epoch{state['epoch']}.keras"

    def read(self) -> dict[str, Any] | None:
        """The last state written, None when there is none."""
        if not self._state.is_file():
            return None
        state: dict[str, Any] = json.loads(self._state.read_text())
        return state if self._model(state).is_file() else None

    def network(self, state: dict[str, Any]) -> keras.Model:
        return keras.models.load_model(self._model(state), safe_mode=True)

    def write(self, network: keras.Model, state: dict[str, Any], *, best: bool) -> None:
        """The network's file bears its epoch in its name and the state, which comes last, decides which one
        counts: killed anywhere in between, the two belong together."""
        if best:
            partial = self.best.with_name("partial.weights.h5")
            network.save_weights(partial)
            os.replace(partial, self.best)
        network.save(self._model(state))
        partial = self._state.with_name("partial.json")
        partial.write_text(json.dumps(state))
        os.replace(partial, self._state)
        for old in self._folder.glob("stage*.keras"):
            if old != self._model(state):
                old.unlink()


def read_history(folder: Path) -> tuple[EpochReport, ...]:
    """Every epoch of the training kept in `folder`, those before a kill included; none where there is no training."""
    state = Checkpoint(folder).read() or {}
    # A training begun before epochs were kept with the state has none of its first ones.
    return tuple(EpochReport(**epoch) for epoch in state.get("history", []))


def forget(folder: Path) -> None:
    """Delete what `fit` keeps in `folder`, and the folder with it unless it holds other files."""
    for pattern in ("stage*-epoch*.keras", "best.weights.h5", "state.json", "partial.*"):
        for path in folder.glob(pattern):
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _identity(spec: ModelSpec, recipe: Recipe, seed: int, films: Sequence[Film]) -> str:
    """Names one training: only the same one may go on from its checkpoint. Its stages are compared one by one, see
    `_same_so_far`."""
    # Only what differs from the usual: trainings begun before there was such a choice may go on. What is done when all
    # is learnt makes no other training.
    usual = {item.name: item.default for item in fields(Recipe)}
    chosen = {
        name: value
        for name, value in asdict(recipe).items()
        if name not in ("stages", "offsets") and value != usual[name]
    }
    text = f"{spec.key} {spec.network} {spec.findings} {spec.preprocessing} {chosen} {seed} {data_hash(films)}"
    return hashlib.sha256(text.encode()).hexdigest()


def _same_so_far(state: dict[str, Any], recipe: Recipe) -> bool:
    """Whether what a checkpoint has done is how `recipe` begins. A stage knows nothing of those after it, so that a
    recipe which got another one at its end goes on from where the shorter one stopped."""
    done = recipe.stages[: state["stage"] + 1]
    return bool(state["stages"] == [asdict(stage) for stage in done])


def _normalised(recipe: Recipe) -> bool:
    return recipe.normalised and recipe.init == FRESH


@contextmanager
def built_in(precision: str) -> Iterator[None]:
    """What is built within has this precision. Keras keeps that setting by thread: it goes back at once."""
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(usual)


def _learnt(spec: ModelSpec, recipe: Recipe, weights: Path) -> keras.Model:
    """The model's network, in single precision, with what was learnt."""
    size, channels, outputs = spec.input_size, spec.channels, len(spec.findings)
    learnt = build(spec.network, size, channels, outputs, normalised=_normalised(recipe))
    learnt.load_weights(weights)
    return folded(learnt, build(spec.network, size, channels, outputs)) if _normalised(recipe) else learnt


def fit(
    spec: ModelSpec,
    recipe: Recipe,
    training: Sequence[Film],
    validation: Sequence[Film],
    *,
    seed: int,
    folder: Path,
    report: Callable[[EpochReport], None],
) -> tuple[keras.Model, Made]:
    """Train a model's network by its recipe.

    After every epoch the state goes to `folder`; called again with the same folder after a kill, it goes on
    after the last whole epoch. The weights with the least validation loss of the last stage are returned.

    Args:
        spec: the model.
        recipe: how to train it; the last stage's size must be the spec's.
        training: films to learn from; those it cannot answer are left out.
        validation: films that choose the epoch.
        seed: of initial weights, order and augmentation.
        folder: where the state goes.
        report: called after each epoch.

    Returns:
        The network, and where and how long it learnt.

    Raises:
        ValueError: the recipe ends at another size than the model's, a class has no film, there is no validation
            film, the films do not fill one batch, or the folder holds another training.
        ModelError: the weights it is to start from cannot be had.
        RadiographError: a film cannot be read.
    """
    if recipe.stages[-1].size != spec.input_size:
        raise ValueError(
            f"The recipe of {spec.key} ends at {recipe.stages[-1].size} px, the model takes {spec.input_size} px."
        )
    keras.utils.set_random_seed(seed)
    checkpoint = Checkpoint(folder)
    identity = _identity(spec, recipe, seed, [*training, *validation])
    start: dict[str, Any] = {"identity": identity, "stage": 0, "epoch": 0, "best": math.inf, "seconds": 0.0}
    start["stages"] = [asdict(recipe.stages[0])]
    state = checkpoint.read() or start
    if state["identity"] != identity or not _same_so_far(state, recipe):
        raise ValueError(
            f"{folder} holds an unfinished training of another recipe, seed or data. Remove it to start afresh."
        )
    outputs = len(spec.findings)
    network = checkpoint.network(state) if state["epoch"] or state["stage"] else None
    # Before the films are read: what cannot be had is told at once.
    start_from = first_weights(spec, recipe.init) if network is None else None
    for number in range(state["stage"], len(recipe.stages)):
        stage = recipe.stages[number]
        if state["stage"] == number and state["epoch"] == stage.epochs:
            continue
        films = load_films(training, spec, stage.size)
        held_out = load_films(validation, spec, stage.size)
        missing = [name for i, name in enumerate(spec.findings) if not (films.labels == i).any()]
        if missing:
            raise ValueError(
                f"No training film shows {', '.join(missing)}; {spec.key} needs films of each of its findings."
            )
        if not len(held_out.labels):
            raise ValueError(f"No validation film that {spec.key} can answer; it needs some to choose the epoch by.")
        if len(films.labels) < recipe.batch_size:
            raise ValueError(
                f"{len(films.labels)} training films do not fill one batch of {recipe.batch_size}. Give more films, or "
                "a smaller batch."
            )
        if state["stage"] != number or network is None:
            state = {**state, "stage": number, "epoch": 0, "best": math.inf}
            with built_in(recipe.precision):
                fresh = build(spec.network, stage.size, spec.channels, outputs, normalised=_normalised(recipe))
            if network is not None:
                carry_weights(network, fresh)
            elif start_from is not None:
                start_from(fresh)
            network = fresh
            steps = stage.epochs * (len(films.labels) // recipe.batch_size)
            network.compile(
                optimizer=_optimizer(recipe, stage, steps),
                loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
                metrics=["accuracy"],
            )
        for epoch in range(state["epoch"], stage.epochs):
            started = time.monotonic()
            batches = TrainingBatches(
                films,
                outputs=outputs,
                channels=spec.channels,
                batch_size=recipe.batch_size,
                strength=stage.augmentation,
                augmentation=recipe.augmentation,
                even_sources=recipe.even_sources,
                seed=seed + 1000 * number,
                epoch=epoch,
                workers=2,
                max_queue_size=8,
            )
            _reseed(network, seed, number, epoch)
            history = network.fit(batches, epochs=epoch + 1, initial_epoch=epoch, verbose=0, shuffle=False).history
            loss, accuracy = validate(network, held_out.images, held_out.labels, spec.channels)
            seconds = time.monotonic() - started
            this = EpochReport(
                number,
                epoch + 1,
                stage.epochs,
                history["loss"][0],
                history["accuracy"][0],
                loss,
                accuracy,
                seconds,
            )
            better = loss < state["best"]
            state = {
                "identity": identity,
                "stages": [asdict(stage) for stage in recipe.stages[: number + 1]],
                "stage": number,
                "epoch": epoch + 1,
                "best": min(loss, state["best"]),
                "seconds": state["seconds"] + seconds,
                "history": [*state.get("history", []), asdict(this)],
                "versions": versions(),
                "device": devices(state.get("device", "")),
            }
            checkpoint.write(network, state, best=better)
            report(this)
    return _learnt(spec, recipe, checkpoint.best), Made.of(state)
