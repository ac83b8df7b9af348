"""Asks a model about labelled films before and after every change of the shortcut lab."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cxrmodels.datasets.manifest import Film
from cxrmodels.datasets.masks import mask_finder
from cxrmodels.engine import Engine
from cxrmodels.evaluation.survival import UNCHANGED, Named
from cxrmodels.explain.changes import CHANGES, changed, possible
from cxrmodels.findings import index_of
from cxrmodels.inference import network_input, read_film
from cxrmodels.lungs import mask_of
from cxrmodels.radiograph import Radiograph

Lungs = Callable[[Radiograph], np.ndarray | None]
"""Finds the lungs of a film: bool (H, W) of both, or None where it finds none."""


def drawn(films: Sequence[Film], findings: Sequence[str], count: int, seed: int = 0) -> list[Film]:
    """At most `count` films that a model can answer, of every finding equally many where there are enough.

    Patients are drawn, not films: what one is drawn by, all their films of the finding come along, until there are
    enough. The same films and findings give the same draw.
    """
    rng = np.random.default_rng(seed)
    able: dict[int, dict[str, list[Film]]] = {}
    for film in films:
        place = index_of(film.finding, findings)
        if place is not None:
            able.setdefault(place, {}).setdefault(film.group_id, []).append(film)
    chosen: list[Film] = []
    for _, patients in sorted(able.items()):
        names = sorted(patients)
        of_finding = [film for number in rng.permutation(len(names)) for film in patients[names[number]]]
        chosen += of_finding[: max(1, count // len(able))]
    return chosen


def named(
    engine: Engine,
    films: Sequence[Film],
    lungs: Lungs,
    report: Callable[[int, int], object] = lambda done, total: None,
    batch: int = 32,
) -> Named:
    """What a model names on films, as they are and after every change.

    Args:
        films: at least one, all such that the model has an answer for their finding.
        lungs: finds the lungs of a film.
        report: called with the number of films that are done, and that of all.

    Raises:
        RadiographError: a film cannot be read.
        OSError: a film is not there.
    """
    model = engine.loaded.spec
    answers = {key: np.full(len(films), "", dtype="U32") for key in (UNCHANGED, *CHANGES)}
    waiting: list[tuple[int, str, np.ndarray]] = []
    report(0, len(films))

    def ask() -> None:
        logits = engine.run(np.stack([shown for _, _, shown in waiting])).logits
        for (place, key, _), top in zip(waiting, logits.argmax(1), strict=True):
            answers[key][place] = model.findings[top]
        waiting.clear()

    for place, film in enumerate(films):
        radiograph = read_film(film)
        mask = lungs(radiograph)
        waiting.append((place, UNCHANGED, network_input(radiograph, model)))
        waiting += [(place, key, network_input(changed(radiograph, key, mask), model)) for key in possible(mask)]
        if len(waiting) >= batch or place + 1 == len(films):
            ask()
        report(place + 1, len(films))

    def column(texts: Sequence[str]) -> np.ndarray:
        return np.array(texts, dtype=np.str_)

    right = [index_of(film.finding, model.findings) for film in films]
    return Named(
        engine.loaded.card.weights_sha256,
        column([film.image_id for film in films]),
        column([film.group_id for film in films]),
        column([model.findings[place] for place in right if place is not None]),
        answers,
    )


def lungs_of(films: Sequence[Film]) -> Lungs:
    """Finds the lungs of a data folder's films: as the folder has them drawn, else as the lung network outlines."""
    by_hand = mask_finder(films)

    def found(radiograph: Radiograph) -> np.ndarray | None:
        mask = by_hand(radiograph)
        return mask_of(radiograph) if mask is None else mask

    return found
