"""What an ImageNet network sees of a film at every depth, and a support vector machine that learns from that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
from scipy.special import softmax
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cxrmodels.datasets.manifest import Film
from cxrmodels.evaluation.calibration import fit_temperature
from cxrmodels.inference import read_films
from cxrmodels.networks import build
from cxrmodels.training.initial import first_weights
from cxrmodels.training.machine import Made, device, versions
from cxrmodels.training.papers import Report, Trial
from cxrmodels.training.plan import Plan
from cxrmodels.training.recipes import IMAGENET
from cxrmodels.zoo import ModelSpec


@dataclass(frozen=True, kw_only=True)
class FeaturePlan(Plan):
    """Deep features and a support vector machine (Sethy and Behera 2020, doi 10.33889/IJMEMS.2020.5.4.052).

    Nothing of the network learns. Of each of its blocks it gives the mean of every channel over the film and over its
    mirror image. A mirror image is learnt from as one more film, and of a film that is asked about both answers are
    averaged.

    Attributes:
        network: one of `initial.BODIES`.
        blocks: its layers whose means are taken.
        film_size: side of the film in pixels.
        penalties: what C is chosen from.
        gammas: what the Gaussian kernel's gamma is chosen from, in units of one over the number of features.
    """

    blocks: tuple[str, ...]
    film_size: int
    penalties: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0, 30.0)
    gammas: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)

    @property
    def size(self) -> int:
        """See `Plan`."""
        return self.film_size

    @property
    def method(self) -> str:
        """See `Plan`."""
        return (
            f"channel means of {len(self.blocks)} blocks of an ImageNet {self.network}, none of which learns, at "
            f"{self.film_size} px, of films and their mirror images; on them a support vector machine whose penalty C "
            "and width gamma (in units of one over the features) are those with the least log loss in a "
            "cross-validation over the other four folds"
        )

    def learn(
        self, spec: ModelSpec, films: Sequence[Film], *, seed: int, work: Path, report: Report
    ) -> Iterator[tuple[Trial, str]]:
        """See `Plan`. `seed` and `work` go unused: nothing is left to chance, and it takes minutes."""
        began, rests_on = time.monotonic(), {**versions(), "scikit-learn": version("scikit-learn")}
        report(f"{len(films):,} films are looked at, {spec.input_size} px a side")
        looked = read_films(_both_sides(channel_means(spec, self.blocks)), spec, films)
        seen = looked.logits.reshape(len(films), 2, -1)
        labels, folds = looked.y_true(), np.array([film.fold for film in films])
        for fold in np.unique(folds):
            test = folds == fold
            machine = fit_machine(
                seen[~test], labels[~test], folds[~test], penalties=self.penalties, gammas=self.gammas
            )
            answered = replace(looked.where(test), logits=machine.logits(seen[test]))
            yield Trial(answered, (), Made(time.monotonic() - began, rests_on, device())), machine.chosen
            began = time.monotonic()

    def forget(self, work: Path) -> None:
        """See `Plan`. It keeps nothing there."""


def channel_means(spec: ModelSpec, blocks: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """What an ImageNet network's layers `blocks` give, float (n, size, size, channels) -> float32 (n, features).

    Raises:
        ModelError: the ImageNet weights cannot be had.
    """
    network = build(spec.network, spec.input_size, spec.channels, len(spec.findings))
    fill = first_weights(spec, IMAGENET)
    assert fill is not None, "ImageNet's are never fresh"
    fill(network)
    means = [
        keras.layers.GlobalAveragePooling2D(name=f"{block}_mean")(network.get_layer(block).output) for block in blocks
    ]
    seen = keras.Model(network.input, keras.layers.Concatenate(name="means")(means))
    return lambda batch: np.asarray(seen.predict_on_batch(batch))


def _both_sides(see: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """A film's features, and its mirror image's after them."""
    return lambda batch: np.concatenate([see(batch), see(batch[:, :, ::-1])], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Machine:
    """A support vector machine with a Gaussian kernel, and the films it stands on.

    Attributes:
        chosen: its penalty and width, for readers.
    """

    chosen: str
    _scaler: StandardScaler
    _films: np.ndarray
    _gamma: float
    _svc: SVC
    _temperature: float

    def logits(self, seen: np.ndarray) -> np.ndarray:
        """Calibrated, float32 (N, K), from the features of films and of their mirror images, (N, 2, features)."""
        asked = self._scaler.transform(seen.reshape(-1, seen.shape[-1]))
        decisions = self._svc.decision_function(_kernel(asked, self._films, self._gamma))
        return (_margins(decisions) / self._temperature).astype(np.float32)


def fit_machine(
    seen: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    *,
    penalties: Sequence[float],
    gammas: Sequence[float],
) -> Machine:
    """Choose penalty and width by cross-validation over the folds at hand, and fit on all of them.

    The best has the least log loss, once a temperature has made logits of its margins.

    Args:
        seen: float (N, 2, features), a film's and its mirror image's.
        labels: int (N,), 0 to K - 1.
        folds: str (N,), two different ones or more; a patient stands in one.
        penalties, gammas: see `FeaturePlan`.
    """
    films = seen.reshape(-1, seen.shape[-1])  # Each film beside its mirror image.
    twice, dealt = np.repeat(labels, 2), PredefinedSplit(np.unique(np.repeat(folds, 2), return_inverse=True)[1])
    scaler = StandardScaler().fit(films)
    films = scaler.transform(films)
    tried = []
    for gamma in gammas:
        kernel = _kernel(films, films, gamma)
        for penalty in penalties:
            svc = SVC(C=penalty, kernel="precomputed")
            margins = _margins(cross_val_predict(svc, kernel, twice, cv=dealt, method="decision_function"))
            temperature = fit_temperature(margins, labels)
            tried.append((log_loss(labels, softmax(margins / temperature, axis=1)), penalty, gamma, temperature))
    _, penalty, gamma, temperature = min(tried)
    svc = SVC(C=penalty, kernel="precomputed").fit(_kernel(films, films, gamma), twice)
    return Machine(f"C {penalty:g}, gamma {gamma:g}", scaler, films, gamma, svc, temperature)


def _kernel(one: np.ndarray, other: np.ndarray, gamma: float) -> np.ndarray:
    """Gaussian, float (N, M), of standardised features (N, features) and (M, features)."""
    near: np.ndarray = np.exp(-gamma / one.shape[1] * euclidean_distances(one, other, squared=True))
    return near


def _margins(decisions: np.ndarray) -> np.ndarray:
    """A number a class, float (N, K), from scikit-learn's for films and their mirror images in turn: (2N, K), or (2N,)
    where there are two classes."""
    each = decisions if decisions.ndim == 2 else np.stack([-decisions, decisions], axis=1) / 2
    both: np.ndarray = each.reshape(len(each) // 2, 2, -1).mean(axis=1)
    return both
