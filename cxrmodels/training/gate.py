"""Builds the gate from a data folder's films and what is made of them, and measures it on all others."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path

import numpy as np

from cxrmodels import lungs
from cxrmodels.datasets.manifest import SAME_COVID_FILMS, Film, data_hash, read_manifest
from cxrmodels.evaluation.gatekeeping import FILMS_FILE, FRONTAL, Judged, as_facts, rates, write_judged
from cxrmodels.gate import CARD_FILE, CLASSES, KEY, NUMBERS_FILE, Numbers, Rate, unfit
from cxrmodels.layout import describe_aligned
from cxrmodels.quality import measure
from cxrmodels.radiograph import RadiographError, read_radiograph, resize
from cxrmodels.training.augment import augment_looks
from cxrmodels.training.bedside import bedside
from cxrmodels.training.negatives import BUILT_WITH, HELD_OUT
from cxrmodels.zoo import file_sha256

LEARNT_FROM = ("kermany", "radiography", "ieee8023")
"""Sources whose train films it learns from, and whose val films set its threshold: children, adults, adults in bed."""

FILMS = 500
"""Train films of each source, at most; of val films two thirds as many."""

_SHARES = (128, 176)
"""Of 256 patients of a source without splits, the first so many are learnt from, and those up to the second are val."""

_KINDS_A_FILM, _SIDE, _WAYS, _NETWORKS, _HIDDEN, _PARTS = 6, 160, 80, 6, 64, 4
_STRENGTH, _BEDSIDE_STRENGTH = 0.8, 0.5
"""How much the looks of frontal films change, and of those that were moved and put under wires before."""
_PASSING = 0.985
"""Share of each source's changed val films that the threshold lets pass: a little more than is asked for of each."""
_UNUSUAL = 0.01
_MEASURED, _DRAWN, _CHANGED, _BATCH = 300, 50, 50, 16
"""Films of each source, pictures of each drawn kind, and test films of each kind of change, that measure it."""
_REAL_KINDS = {"photo": "negatives/photo", "ct": "negatives/ct", "lateral": "negatives/lateral", "body": "dicom"}
_FRONTAL_DICOM = "RG1_J2KI.dcm"


@dataclass(frozen=True, slots=True)
class _Described:
    """`numbers` float32 (N, F); of each its kind, its source and role, and whether it is as it came."""

    numbers: np.ndarray
    kinds: np.ndarray
    sources: np.ndarray
    roles: np.ndarray
    untouched: np.ndarray


def _picture(film: Film) -> np.ndarray:
    """A film's greys as they came, uint8 (160, 160)."""
    pixels = read_radiograph(film.path.read_bytes(), film.path.name).pixels
    return np.rint(255 * resize(pixels, _SIDE, _SIDE)).astype(np.uint8)


def _look(films: Sequence[np.ndarray]) -> np.ndarray:
    """Greys of N films, float32 (H, W), 0-1 -> float32 (N, F), through the same steps as a film that is judged."""

    def look(film: np.ndarray) -> np.ndarray:
        prepared = lungs.network_film(film)
        return describe_aligned(prepared[..., 0], lungs.outline_batch(prepared[None])[0])

    with ThreadPoolExecutor(2) as pool:
        return np.stack(list(pool.map(look, films)))


def _greys(picture: np.ndarray) -> np.ndarray:
    """uint8 -> float32, 0-1."""
    return np.ascontiguousarray(picture, np.float32) / 255


def _role(film: Film) -> str:
    """`train`, `val` or `test`. Patients of a source without splits are dealt by a hash of their name."""
    if film.source not in LEARNT_FROM:
        return "test"
    if film.split != "external":
        return film.split
    return "train" if film.lot < _SHARES[0] else "val" if film.lot < _SHARES[1] else "test"


def _measures(film: Film) -> bool:
    """Whether a film may measure the gate: neither it nor a copy of it was learnt from."""
    copied = film.source in SAME_COVID_FILMS and film.source not in LEARNT_FROM and film.finding == "covid19"
    return film.split in ("test", "external", "benchmark") and _role(film) == "test" and not copied


def _drawn_from(films: Sequence[Film], count: int, seed: int) -> list[Film]:
    order = np.random.default_rng(seed).permutation(len(films))[:count]
    return [films[place] for place in np.sort(order)]


def _rng(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng((seed, zlib.crc32(name.encode())))


def _variants(film: Film, seed: int) -> list[tuple[str, np.ndarray]]:
    """A film as it came, twice as it could have come from elsewhere, and as some kinds that are no frontal film."""
    rng, picture = _rng(seed, film.image_id), _picture(film)
    found = [
        (FRONTAL, picture),
        (FRONTAL, augment_looks(picture, _STRENGTH, rng)),
        (FRONTAL, augment_looks(bedside(picture, rng), _BEDSIDE_STRENGTH, rng)),
    ]
    for kind in rng.choice(list(BUILT_WITH), _KINDS_A_FILM, replace=False):
        base = augment_looks(picture, _STRENGTH, rng) if rng.random() < 0.6 else picture
        found.append((str(kind), BUILT_WITH[str(kind)](base, rng)))
    described = _look([_greys(changed) for _, changed in found])
    return [(kind, numbers) for (kind, _), numbers in zip(found, described, strict=True)]


def _describe_films(films: Sequence[Film], seed: int, report: Callable[[int, int], object]) -> _Described:
    rows: list[tuple[str, np.ndarray]] = []
    owners: list[Film] = []
    untouched: list[bool] = []
    with ThreadPoolExecutor(4) as pool:
        for done, (film, found) in enumerate(
            zip(films, pool.map(lambda film: _variants(film, seed), films), strict=True), start=1
        ):
            rows += found
            owners += [film] * len(found)
            untouched += [place == 0 for place in range(len(found))]
            report(done, len(films))
    return _Described(
        np.stack([numbers for _, numbers in rows]),
        np.array([kind for kind, _ in rows]),
        np.array([film.source for film in owners]),
        np.array([_role(film) for film in owners]),
        np.array(untouched),
    )


def _fit(data: _Described) -> Numbers:
    """Small networks and a logistic regression among the classes, and how frontal films spread, from the train films;
    how these count together, from the val films.

    They are weighed twice: by what networks say that know all kinds, and by what networks say of kinds that they do not
    know. Of what they know networks are so sure that distances hardly count; but those are what tells a kind that
    nobody thought of.
    """
    val = data.roles == "val"
    numbers = _learn(data, data.roles == "train")
    known = [(numbers.evidence(data.numbers[val])[1], data.kinds[val] == FRONTAL)]
    unknown = []
    others = [kind for kind in BUILT_WITH if kind not in CLASSES]
    for part in range(_PARTS):
        left_out = np.isin(data.kinds, others[part::_PARTS])
        judges = _learn(data, (data.roles == "train") & ~left_out)
        asked = val & (left_out | (data.kinds == FRONTAL))
        unknown.append((judges.evidence(data.numbers[asked])[1], ~left_out[asked]))
    numbers.scale[:] = [_weighed(numbers, data, parts) for parts in (known, unknown)]
    return numbers


def _weighed(numbers: Numbers, data: _Described, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Weights of the kinds of evidence and a constant, (5,), for pairs of evidence and whether it is a frontal film's.
    By the constant both ways of weighing refuse as many frontal films from elsewhere."""
    from sklearn.linear_model import LogisticRegression

    evidence, frontal = (np.concatenate(one) for one in zip(*parts, strict=True))
    weights = LogisticRegression(class_weight="balanced").fit(evidence, frontal).coef_[0]
    films, sources = _elsewhere(data)
    scores = numbers.evidence(films)[1] @ weights
    return np.append(weights, -_least(scores, sources))


def _elsewhere(data: _Described) -> tuple[np.ndarray, np.ndarray]:
    """Val films that look as if they had come from elsewhere, and their sources."""
    chosen = (data.roles == "val") & (data.kinds == FRONTAL) & ~data.untouched
    return data.numbers[chosen], data.sources[chosen]


def _least(scores: np.ndarray, sources: np.ndarray) -> float:
    """The score that as many of each source's films reach as are to pass."""
    return min(float(np.quantile(scores[sources == source], 1 - _PASSING)) for source in LEARNT_FROM)


def _learn(data: _Described, train: np.ndarray) -> Numbers:
    """All but how the kinds of evidence count together; `train` bool (N,), what to learn from."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    classes = np.array([CLASSES.index(kind) if kind in CLASSES else CLASSES.index("other") for kind in data.kinds])
    x = data.numbers[train].astype(np.float64)
    mean, spread = x.mean(0), x.std(0) + 1e-3
    near = np.clip((x - mean) / spread, -6, 6)
    # Whitened, so that the penalty weighs every direction alike.
    basis = PCA(min(200, len(near) - 1), whiten=True, random_state=0).fit(near)
    turned, labels = basis.transform(near), classes[train]
    linear = LogisticRegression(C=0.05, max_iter=500).fit(turned, labels)
    # They begin differently, and what none of them has seen they judge differently: their mean is the safer.
    networks = [
        MLPClassifier(
            _HIDDEN, alpha=1.0, early_stopping=True, max_iter=60, n_iter_no_change=6, random_state=number
        ).fit(turned, labels)
        for number in range(_NETWORKS)
    ]
    assert list(linear.classes_) == list(range(len(CLASSES))), "every class is among the train films"
    turn = basis.components_.T / np.sqrt(basis.explained_variance_)
    centre = basis.mean_ @ turn
    frontal = x[classes[train] == 0]
    middle, width = frontal.mean(0), frontal.std(0) + 0.02
    away = (frontal - middle) / width
    spreads = PCA(min(_WAYS, len(away) - 1), random_state=0).fit(away)
    along = away @ spreads.components_.T
    return Numbers(
        mean=mean.astype(np.float32),
        spread=spread.astype(np.float32),
        linear=(turn @ linear.coef_.T).astype(np.float32),
        constant=(linear.intercept_ - centre @ linear.coef_.T).astype(np.float32),
        inner=np.stack([turn @ one.coefs_[0] for one in networks]).astype(np.float32),
        shift=np.stack([one.intercepts_[0] - centre @ one.coefs_[0] for one in networks])[:, None].astype(np.float32),
        weights=np.stack([one.coefs_[1] for one in networks]).astype(np.float32),
        bias=np.stack([one.intercepts_[1] for one in networks])[:, None].astype(np.float32),
        middle=middle.astype(np.float32),
        width=width.astype(np.float32),
        ways=(spreads.components_.T / np.sqrt(spreads.explained_variance_)).astype(np.float32),
        # No less: of fewer films than there are ways nothing is left but rounding.
        leftover=np.array(max(((away**2).sum(1) - (along**2).sum(1)).mean(), 1e-3), np.float32),
        scale=np.zeros((2, 5), np.float32),
    )


def _threshold(numbers: Numbers, data: _Described) -> float:
    """The score that as many of each source's val films reach as are to pass, when they look as if they had come from
    elsewhere."""
    films, sources = _elsewhere(data)
    return _least(numbers.score(numbers.evidence(films)[1]), sources)


def _usual(films: Sequence[Film], report: Callable[[int, int], object]) -> dict[str, tuple[float, float]]:
    """Range of each measure of quality that 98 % of films keep to."""
    values: dict[str, list[float]] = {}
    for done, film in enumerate(films, start=1):
        radiograph = read_radiograph(film.path.read_bytes(), film.path.name)
        for name, value in measure(radiograph.pixels, lungs.outline(radiograph)).items():
            values.setdefault(name, []).append(value)
        report(done, len(films))
    shares = (_UNUSUAL, 1 - _UNUSUAL)
    return {name: tuple(round(float(x), 4) for x in np.quantile(found, shares)) for name, found in values.items()}  # type: ignore[misc]


class _Judge:
    """The gate as it will be shipped, on many pictures."""

    def __init__(self, numbers: Numbers, threshold: float) -> None:
        self._numbers, self._threshold = numbers, threshold

    def __call__(self, films: Sequence[np.ndarray]) -> list[tuple[str, bool]]:
        """Greys, float32 (H, W), 0-1 -> of each its score as text, and whether it passes."""
        _, evidence = self._numbers.evidence(_look(films))
        scores = self._numbers.score(evidence)
        return [
            ("", False) if unfit(film) else (f"{score:.3f}", bool(score >= self._threshold))
            for film, score in zip(films, scores, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Case:
    """A picture that measures the gate; all but its greys is as in `Judged`."""

    picture: str
    kind: str
    source: str
    split: str
    held_out: bool
    greys: np.ndarray


def _judged(judge: _Judge, cases: Iterable[_Case]) -> Iterator[Judged]:
    remaining = iter(cases)
    while batch := list(islice(remaining, _BATCH)):
        for case, said in zip(batch, judge([case.greys for case in batch]), strict=True):
            yield Judged(case.picture, case.kind, case.source, case.split, case.held_out, *said)


def _films(films: Sequence[Film], report: Callable[[int, int], object]) -> Iterator[_Case]:
    for done, film in enumerate(films, start=1):
        greys = read_radiograph(film.path.read_bytes(), film.path.name).pixels
        yield _Case(film.image_id, FRONTAL, film.source, film.split, film.source not in LEARNT_FROM, greys)
        report(done, len(films))


def _others(data: Path, tested: Sequence[Film], seed: int) -> Iterator[_Case]:
    """Changed test films, drawn pictures, and the data folder's real pictures that are no frontal films."""
    for film in tested:
        picture = _picture(film)
        for kind, change in BUILT_WITH.items():
            changed = _greys(change(picture, _rng(seed, f"{kind} {film.image_id}")))
            yield _Case(film.image_id, kind, film.source, film.split, False, changed)
    blank = np.zeros((256, 256), np.uint8)
    for kind, draw in HELD_OUT.items():
        for number in range(_DRAWN):
            yield _Case(f"{kind}/{number}", kind, "", "", True, _greys(draw(blank, _rng(seed, f"{kind} {number}"))))
    for kind, folder in _REAL_KINDS.items():
        for path in sorted((data / folder).glob("*")):
            if path.name == _FRONTAL_DICOM:
                continue
            try:
                greys = read_radiograph(path.read_bytes(), path.name).pixels
            except RadiographError:  # Blank or broken: refused before the gate sees it.
                continue
            yield _Case(f"{folder}/{path.name}", kind, "", "", True, greys)


def train_gate(
    *, data: Path, weights: Path, seed: int = 0, films: int = FILMS, report: Callable[[str, int, int], object]
) -> tuple[Rate, ...]:
    """Build the gate and write `gate/` under `weights`: its numbers, its card, and its verdict on every picture that
    measures it.

    Args:
        data: folder with `manifest.csv`; beside it `negatives/` and `dicom/`, where there are any.
        films: train films of each source, at most.
        report: called with what is being done, and how much of how much.

    Returns:
        The rates that were measured.

    Raises:
        ManifestError: the data folder is not as it should be.
        ModelError: the lung network is missing or altered.
        ValueError: there are no train or no val films of a source to learn from.
    """
    listed = read_manifest(data)
    chosen: list[Film] = []
    for source in LEARNT_FROM:
        for role, count in (("train", films), ("val", max(1, films * 2 // 3))):
            here = [film for film in listed if film.source == source and _role(film) == role]
            if not here:
                raise ValueError(f"The data folder has no {role} films of {source}; the gate is built from them.")
            chosen += _drawn_from(here, count, seed)
    described = _describe_films(chosen, seed, lambda done, total: report("films described", done, total))
    numbers = _fit(described)
    threshold = _threshold(numbers, described)
    val = [film for film in chosen if _role(film) == "val"]
    usual = _usual(val[::2], lambda done, total: report("films measured", done, total))
    judge = _Judge(numbers, threshold)
    unlearnt = [film for film in listed if _measures(film)]
    sources = sorted({film.source for film in unlearnt})
    measured = [
        film for one in sources for film in _drawn_from([f for f in unlearnt if f.source == one], _MEASURED, seed)
    ]
    tested = _drawn_from([film for film in listed if film.split == "test"], _CHANGED, seed)
    known = _films(measured, lambda done, total: report("films judged", done, total))
    judged = list(_judged(judge, chain(known, _others(data, tested, seed))))

    folder = weights / KEY
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NUMBERS_FILE).open("wb") as stream:
        np.savez_compressed(stream, **{name: getattr(numbers, name) for name in Numbers.__slots__})
    write_judged(judged, folder / FILMS_FILE)
    found = rates(judged)
    card = {
        "sha256": file_sha256(folder / NUMBERS_FILE),
        "threshold": threshold,
        "usual": usual,
        "training_sources": list(LEARNT_FROM),
        "training_films": len(chosen) - len(val),
        "kinds": list(BUILT_WITH),
        "seed": seed,
        "data_sha256": data_hash(chosen),
        "versions": {name: version(name) for name in ("numpy", "pillow", "scikit-learn")},
        "rates": as_facts(found),
    }
    (folder / CARD_FILE).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return found
