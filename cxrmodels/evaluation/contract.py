"""A reader's own network, brought as a `.keras` file: opened safely, probed on films, then compared like any other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import expit, softmax

from cxrmodels.datasets.manifest import Film
from cxrmodels.evaluation.keras_file import ContractError, Plan, load_network, read_archive
from cxrmodels.evaluation.keras_file import plan as make_plan
from cxrmodels.evaluation.predictions import Evaluation, of_films
from cxrmodels.evaluation.submitted import logits_of
from cxrmodels.findings import TITLES, index_of
from cxrmodels.preprocessing import stretch
from cxrmodels.radiograph import read_radiograph, resize
from cxrmodels.zoo import file_sha256

if TYPE_CHECKING:
    from keras import Model

SYNTHETIC_FILMS = "synthetic films"
"""What `films_are` says of phantoms: no network learnt from them, so class order and scaling are then hints only."""

_FEW = 8  # films that the probes for chance and for neighbours look at
_CLEARLY = 0.15  # by how much, in balanced accuracy, another class order or scaling must beat the declared one
_STEADY = 1e-4  # scores closer than this, relative to those above one, are the same
_ENOUGH = 5  # films of a finding, below which class order and scaling are not judged by it


@dataclass(frozen=True, slots=True)
class Probe:
    """What was tried and what came of it. A probe that is not `needed` informs and bars nothing."""

    name: str
    passed: bool
    detail: str
    needed: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """A reader's network and what the probes found.

    Attributes:
        findings: its K findings in the order of its outputs. A single output is the second of two findings.
        input_size: (height, width) in pixels; films are squashed to it.
        channels: 1 or 3.
        scaling: which of `SCALINGS` it is fed.
        feature_layer: the layer heat maps can be made from, None when there is none.
        sha256: hex digest of the file.
    """

    findings: tuple[str, ...]
    input_size: tuple[int, int]
    channels: int
    scaling: str
    feature_layer: str | None
    parameters: int
    sha256: str
    probes: tuple[Probe, ...]
    _network: _Network = field(repr=False)
    _activated: bool = field(repr=False)

    @property
    def passed(self) -> bool:
        """Whether every needed probe passed."""
        return all(probe.passed for probe in self.probes if probe.needed)

    def predict(self, films: Iterable[np.ndarray]) -> np.ndarray:
        """Probabilities, float32 (N, K), of films, each float32 (H, W), 0-1, air dark, of any size.

        Raises:
            ContractError: a needed probe failed.
        """
        if not self.passed:
            failed = ", ".join(probe.name for probe in self.probes if probe.needed and not probe.passed)
            raise ContractError(f"The network failed on: {failed}; expected all probes passed. Mend it first.")
        return _probabilities(self._network.on_films(films, self.scaling), self._activated)


def check_model(
    path: Path,
    films: Sequence[tuple[np.ndarray, str]],
    *,
    findings: Sequence[str],
    films_are: str,
    scaling: str | None = None,
) -> Contract:
    """Open a `.keras` file without running code from it, and probe the network in it.

    A network that computes nonsense gives failed probes, not an error. When it gives rows of the wrong number or
    values that are not finite, the probes after that are left out.

    Args:
        path: the file.
        films: (pixels, label) pairs to probe on: float32 (H, W), 0-1, air dark; keys of `findings.TITLES`. Some tens.
        findings: what the outputs mean, in their order. For a single output: what low values mean, then high ones.
        films_are: what the films are, for a reader; `SYNTHETIC_FILMS` for phantoms.
        scaling: the one of `SCALINGS` that the network learnt with; None to take what fits best.

    Raises:
        ContractError: not a whole `.keras` file of Keras 3, too large, holds foreign code, or is no network with one
            fixed-size film as input and one score a finding as output; or unknown findings or scaling.
        ValueError: there are no films.
    """
    if not films:
        raise ValueError("There are no films; expected some to probe the network on. Give labelled films or phantoms.")
    _check_declared(findings, scaling)
    config, weights_bytes, versions = read_archive(path)
    plan = make_plan(config, weights_bytes, versions)
    outputs = max(plan.outputs, 2)
    if outputs != len(findings):
        raise ContractError(
            f"The network has {plan.outputs} output{'s' * (plan.outputs > 1)} and {len(findings)} findings were named; "
            f"expected {outputs}{' (what a low score means, then a high one)' if plan.outputs == 1 else ''}. Name the "
            "findings in the order of the outputs."
        )
    network = _Network(load_network(path, versions), plan)
    raw = {name: network.on_films((pixels for pixels, _ in films), name) for name in SCALINGS}
    finite = {name: values for name, values in raw.items() if np.isfinite(values).all()}
    chosen, activated = scaling or SCALINGS[0], False
    feature_layer: str | None = None
    probes = [_shape_probe(len(films), raw[chosen])]
    if probes[0].passed:
        probes.append(_finite_probe(scaling, finite))
    if all(probe.passed for probe in probes):
        activation, activated = _activation_probe(np.concatenate(list(finite.values())))
        answers = {name: _probabilities(values, activated).argmax(1) for name, values in finite.items()}
        truth = np.array([-1 if (at := index_of(label, findings)) is None else at for _, label in films])
        chosen, fits = _fit_probes(answers, truth, findings, scaling, films_are)
        few = [pixels for pixels, _ in films[: min(_FEW, plan.batch)]]
        batch = network.prepared(few, chosen)
        heat_maps, feature_layer = _heat_map_probe(network, batch)
        probes += [activation, *_steadiness_probes(network, batch), *fits, heat_maps, _speed_probe(network, batch)]
    return Contract(
        findings=tuple(findings),
        input_size=plan.size,
        channels=plan.channels,
        scaling=chosen,
        feature_layer=feature_layer,
        parameters=network.parameters,
        sha256=file_sha256(path),
        probes=tuple(probes),
        _network=network,
        _activated=activated,
    )


def to_evaluation(contract: Contract, films: Sequence[Film]) -> Evaluation:
    """The network's answers on a data folder's films, read as the rest of the program reads them.

    Raises:
        ContractError: the network did not pass.
        RadiographError: a film cannot be read.
        OSError: a film's file cannot be opened.
    """
    sizes: list[tuple[int, int]] = []
    exposures: list[float] = []

    def pixels() -> Iterator[np.ndarray]:
        for film in films:
            radiograph = read_radiograph(film.path.read_bytes(), film.path.name)
            sizes.append(radiograph.original_size)
            exposures.append(float(radiograph.pixels.mean()))
            yield radiograph.pixels

    logits = logits_of(contract.predict(pixels()))
    return of_films(films, contract.findings, logits, sizes, exposures)


# --- scalings -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scaling:
    """Greys 0-1, spread over that range first if so wanted -> (greys * factor - means) / deviations, channel by
    channel."""

    factor: float = 1
    means: tuple[float, float, float] = (0, 0, 0)
    deviations: tuple[float, float, float] = (1, 1, 1)
    stretched: bool = False


# The ImageNet figures are those of keras.applications.imagenet_utils: caffe style is BGR, torch style RGB.
_SCALINGS = {
    "0-1": _Scaling(),
    "0-255": _Scaling(255),
    "-1 to 1": _Scaling(2, (1, 1, 1)),
    "ImageNet, torch style": _Scaling(1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "ImageNet, caffe style": _Scaling(255, (103.939, 116.779, 123.68)),
    "stretch": _Scaling(stretched=True),
}
SCALINGS: tuple[str, ...] = tuple(_SCALINGS)
"""What networks are commonly fed. For one channel the ImageNet figures of the three are averaged."""


def _scale(pixels: np.ndarray, name: str, size: tuple[int, int], channels: int) -> np.ndarray:
    """float32 (H, W) -> float32 (*size, channels)."""
    scaling = _SCALINGS[name]
    height, width = size
    greys = resize(pixels, width, height)
    greys = (stretch(greys) if scaling.stretched else greys)[..., None]
    means, deviations = (
        np.array(three if channels == 3 else [np.mean(three)], np.float32)
        for three in (scaling.means, scaling.deviations)
    )
    return (greys * np.float32(scaling.factor) - means) / deviations


# --- what is declared --------------------------------------------------------------------------------------


def _check_declared(findings: Sequence[str], scaling: str | None) -> None:
    unknown = [finding for finding in findings if finding not in TITLES]
    if unknown or len(set(findings)) < len(findings):
        what = f"unknown findings {', '.join(unknown)[:60]}" if unknown else "a finding twice"
        raise ContractError(f"The declared findings hold {what}; expected each once, of {', '.join(TITLES)}.")
    if scaling is not None and scaling not in SCALINGS:
        raise ContractError(f"Unknown scaling {scaling[:40]!r}; expected one of {', '.join(SCALINGS)}.")


# --- running it ---------------------------------------------------------------------------------------------


class _Network:
    """A loaded network as one compiled function of films. Safe to call from several threads."""

    def __init__(self, model: Model, plan: Plan) -> None:
        import tensorflow as tf

        self.model, self.plan = model, plan
        self.parameters = int(model.count_params())
        self._lock = threading.Lock()
        # As model.predict does it; without it, Keras' own random flips and rotations would be on.
        self._forward = tf.function(
            lambda batch: model(batch, training=False),
            input_signature=[tf.TensorSpec((None, *plan.size, plan.channels), tf.float32)],
            autograph=False,
        )

    def run(self, batch: np.ndarray) -> np.ndarray:
        """float32 (N, H, W, C), scaled -> float32 (N, outputs), just as the network gives it.

        Raises:
            ContractError: TensorFlow cannot run it.
        """
        import tensorflow as tf

        try:
            with self._lock:
                return self._forward(tf.constant(batch)).numpy().astype(np.float32)
        except Exception as error:  # See `_plan_here`: layers fail in their own ways, TensorFlow in others.
            raise ContractError(
                f"The network cannot be run on films ({type(error).__name__}); expected scores. Try "
                "model(numpy.zeros((2, H, W, C))) where it was made."
            ) from None

    def prepared(self, films: Iterable[np.ndarray], scaling: str) -> np.ndarray:
        """Films, float32 (H, W) each -> float32 (N, H, W, C)."""
        return np.stack([_scale(pixels, scaling, self.plan.size, self.plan.channels) for pixels in films])

    def on_films(self, films: Iterable[np.ndarray], scaling: str) -> np.ndarray:
        """Films of any number and size -> float32 (N, outputs)."""
        remaining = iter(films)
        rows = [np.empty((0, self.plan.outputs), np.float32)]
        while batch := list(islice(remaining, self.plan.batch)):
            rows.append(self.run(self.prepared(batch, scaling)))
        return np.concatenate(rows)


def _probabilities(raw: np.ndarray, activated: bool) -> np.ndarray:
    """Probabilities float32 (N, K) from what the network gives, (N, K), or (N, 1) for the second of two findings."""
    if raw.shape[1] == 1:
        second = raw if activated else expit(raw)
        return np.hstack([1 - second, second])
    return raw if activated else softmax(raw, axis=1)


# --- probes -------------------------------------------------------------------------------------------------


def _shape_probe(films: int, raw: np.ndarray) -> Probe:
    fits = len(raw) == films
    detail = f"{films} films gave {len(raw)} rows of {raw.shape[1]} scores."
    if not fits:
        detail += " Expected a row a film: put pooling or Flatten before the last Dense."
    return Probe("output shape", fits, detail)


def _finite_probe(scaling: str | None, finite: dict[str, np.ndarray]) -> Probe:
    if scaling in finite or (scaling is None and finite):
        return Probe("finite", True, "All scores are finite numbers.")
    fed = f"films scaled as {scaling}" if scaling else "films of any scaling"
    return Probe("finite", False, f"On {fed} some scores are NaN or infinite. Look for NaN among the weights.")


def _activation_probe(raw: np.ndarray) -> tuple[Probe, bool]:
    """Whether the scores are probabilities already, told from their values, (N, outputs)."""
    name = "probabilities"
    bounded = bool((raw >= 0).all() and (raw <= 1 + 1e-3).all())
    if raw.shape[1] == 1:
        detail = "One score between 0 and 1: the probability of the second finding."
        return Probe(name, True, detail if bounded else "One score beyond 0 to 1: a sigmoid is applied."), bounded
    sums = raw.sum(1)
    if bounded and np.allclose(sums, 1, atol=1e-3, rtol=0):
        return Probe(name, True, "The scores are probabilities: they sum to one."), True
    if bounded:
        detail = (
            f"All scores lie between 0 and 1, but a film's sum to {sums.min():.3g} to {sums.max():.3g}: neither "
            "probabilities nor logits. Use softmax over the last axis, or no activation."
        )
        return Probe(name, False, detail), True
    return Probe(name, True, "The scores are logits: a softmax is applied."), False


def _steadiness_probes(network: _Network, batch: np.ndarray) -> tuple[Probe, Probe]:
    once, again = network.run(batch), network.run(batch)
    alone = np.concatenate([network.run(film[None]) for film in batch])

    def gap(other: np.ndarray) -> float:
        return float((np.abs(once - other) / np.maximum(1, np.abs(once))).max())

    chance, neighbours = gap(again), gap(alone)
    said = f"Two runs differ by {chance:.1g}."
    if left_on := network.plan.left_on:
        said += (
            f" The graph calls {', '.join(left_on)[:80]!a} with training=True: by chance or by the films beside it, "
            "model(x) answers otherwise than model.predict(x). Build it without."
        )
    among = f"Alone and among {len(batch)} films the scores differ by {neighbours:.1g}."
    if neighbours > _STEADY:
        among += " Something looks along the batch, for instance a softmax over the wrong axis."
    return (
        Probe("same film, same answer", chance <= _STEADY and not left_on, said),
        Probe("independent of other films", neighbours <= _STEADY, among),
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    """Balanced accuracy with the outputs as declared, and in the order that fits best: output of each finding."""

    declared: float
    best: float
    order: tuple[int, ...]


def _fit(answers: np.ndarray, truth: np.ndarray, classes: int) -> _Fit:
    present = np.unique(truth)
    share = np.zeros((classes, classes))
    np.add.at(share, (truth, answers), 1)
    share[present] /= share[present].sum(1, keepdims=True)
    # Of equal orders the declared one wins.
    _, order = linear_sum_assignment(share + 1e-6 * np.eye(classes), maximize=True)
    declared, best = (float(share[np.arange(classes), at].sum() / len(present)) for at in (np.arange(classes), order))
    return _Fit(declared, best, tuple(int(at) for at in order))


def _fit_probes(
    answers: dict[str, np.ndarray],
    truth: np.ndarray,
    findings: Sequence[str],
    scaling: str | None,
    films_are: str,
) -> tuple[str, tuple[Probe, Probe]]:
    """The scaling to use, and the probes of scaling and class order.

    Args:
        answers: scaling -> position of the highest score, int (N,).
        truth: position of each film's label among the findings, int (N,), -1 for none.
    """
    usable = truth >= 0
    counts = np.bincount(truth[usable], minlength=len(findings))
    these = f"{usable.sum()} {films_are}"
    if (counts > 0).sum() < 2:
        used = scaling or next(iter(answers))
        detail = f"Not judged: {these} show fewer than two of its findings."
        return used, (Probe("scaling", True, f"{detail} {used} is used."), Probe("class order", True, detail))
    fits = {name: _fit(positions[usable], truth[usable], len(findings)) for name, positions in answers.items()}
    best = max(fits, key=lambda name: (round(fits[name].best, 6), fits[name].declared))
    hint = ""
    if films_are == SYNTHETIC_FILMS:
        hint = " A hint only: the network learnt from other films."
    elif (counts >= _ENOUGH).sum() < 2:
        hint = f" A hint only: {_ENOUGH} films or more of two findings would tell."
    binding = not hint

    usual = next(iter(fits))
    used = scaling or (best if binding or fits[best].best - fits[usual].best > _CLEARLY else usual)
    misfit = fits[best].best - fits[used].best > _CLEARLY
    reached = f"{used} reaches balanced accuracy {fits[used].best:.2f} on {these}"
    if misfit:
        detail = f"{reached}, {best} {fits[best].best:.2f}. Declare {best}, or feed the network as it learnt."
    else:
        detail = f"{reached}; no other is {'clearly ' if used != best else ''}better."
    scaling_probe = Probe("scaling", not (misfit and binding), detail + hint)

    # With the wrong scaling, the order that fits best means little.
    judged = fits[best if misfit else used]
    swapped = judged.best - judged.declared > _CLEARLY
    detail = f"As declared: balanced accuracy {judged.declared:.2f} on {these}"
    if swapped:
        outputs = [findings[judged.order.index(at)] for at in range(len(findings))]
        detail += (
            f"; with the outputs read as {', '.join(outputs)} it is {judged.best:.2f}. Declare that order if it is "
            "what the network learnt; otherwise it fails on these films."
        )
    else:
        detail += "; no other order is clearly better."
    return used, (scaling_probe, Probe("class order", not (swapped and binding), detail + hint))


def _split(model: Model) -> tuple[str, Model] | None:
    """The layer nearest to the scores that gives a feature map (N, h, w, C) of more than one position, and the
    network with that map as a second output, before the scores."""
    import keras

    # Along the tensors: `layer.output` may be that of another use of the layer, which leads nowhere.
    waiting, met = [model.outputs[0]], set()
    while waiting:
        tensor = waiting.pop(0)
        operation, use, _ = tensor._keras_history
        if id(tensor) in met or isinstance(operation, keras.layers.InputLayer):
            continue
        met.add(id(tensor))
        if isinstance(operation, keras.Layer) and len(tensor.shape) == 4 and tensor.shape[1:3] != (1, 1):
            return operation.name, keras.Model(model.inputs, [tensor, model.outputs[0]], name="split")
        if not isinstance(operation, keras.Model):  # What lies before a whole network inside is hardly looked at.
            waiting += operation._inbound_nodes[use].input_tensors
    return None


def _heat_map_probe(network: _Network, batch: np.ndarray) -> tuple[Probe, str | None]:
    import tensorflow as tf

    name = "heat maps"
    found = _split(network.model)
    if found is None:
        detail = "No layer gives a feature map (height, width, channels) at the top level of the network: no heat maps."
        return Probe(name, False, detail, needed=False), None
    layer, split = found
    with tf.GradientTape() as tape:
        films = tf.constant(batch)
        tape.watch(films)
        features, scores = split(films, training=False)
        # Not reduce_max: its gradient is zero where two scores are equal.
        top = tf.reduce_sum(tf.gather(scores, tf.argmax(scores, axis=1), batch_dims=1))
    # None where something on the way, an argmax for instance, has no gradient.
    gradient = tape.gradient(top, features)
    values = np.zeros(1) if gradient is None else gradient.numpy()
    works = bool(np.isfinite(values).all() and values.any())
    detail = f"The gradient of the top score at layer {layer[:60]!a} is "
    detail += "finite and not zero." if works else "zero, missing or not finite: heat maps would be empty."
    return Probe(name, works, detail, needed=False), layer if works else None


def _speed_probe(network: _Network, batch: np.ndarray) -> Probe:
    def seconds(films: np.ndarray, runs: int) -> float:
        taken = []
        for _ in range(runs):
            start = time.perf_counter()
            network.run(films)
            taken.append(time.perf_counter() - start)
        return float(np.median(taken))

    many = np.resize(batch, (network.plan.batch, *batch.shape[1:]))
    one, all_of_them = seconds(batch[:1], 5), seconds(many, 3)
    detail = f"{1000 * one:.1f} ms for one film, {len(many) / all_of_them:.0f} films a second in batches of {len(many)}"
    return Probe("speed", True, f"{detail}, on this machine.", needed=False)
