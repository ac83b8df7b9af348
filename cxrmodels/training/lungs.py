"""Trains the network that outlines lungs, on the films of a data folder that have a mask, and measures it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image, ImageDraw

from cxrmodels.datasets.manifest import NEVER, Film, data_hash, read_manifest
from cxrmodels.datasets.masks import BEHIND_HEART
from cxrmodels.evaluation.aims import outcomes
from cxrmodels.evaluation.outlines import DICE_FILE, Overlap, dice, read_overlaps, summarise_overlaps, write_overlaps
from cxrmodels.lungs import tidy, two_largest
from cxrmodels.networks import build
from cxrmodels.preprocessing import prepare
from cxrmodels.radiograph import read_radiograph
from cxrmodels.training.augment import augment_with_mask
from cxrmodels.training.fit import Checkpoint, WarmCosine, built_in
from cxrmodels.training.initial import first_weights
from cxrmodels.training.machine import Made, devices, versions
from cxrmodels.training.recipes import IMAGENET
from cxrmodels.zoo import CARD_FILE, LUNGS, WEIGHTS_FILE, ModelCard, save_weights

EPOCHS = 14
FILMS_AN_EPOCH = 2000
_BATCH, _PEAK, _STRENGTH, _PRECISION = 16, 1e-3, 1.0, "mixed_bfloat16"
_DECAY, _UNKNOWN = 1e-2, -1.0
_SPECK, _MARGIN = 20, 3
"""Pixels: what is no lung by its size, and how far a lung may reach beyond where it must."""


@dataclass(frozen=True, slots=True)
class MaskedFilms:
    """`images` and `masks` uint8 (N, size, size), masks 0 or 255; `films` as the manifest has them."""

    films: tuple[Film, ...]
    images: np.ndarray
    masks: np.ndarray


def load_masked(films: Sequence[Film], size: int) -> MaskedFilms:
    """Read films that have a mask, squashed to squares.

    Raises:
        RadiographError: a film cannot be read.
        OSError: a mask cannot.
    """
    kept = [film for film in films if film.mask_path is not None]
    images, masks = np.empty((2, len(kept), size, size), np.uint8)

    def read(position: int) -> None:
        film = kept[position]
        assert film.mask_path is not None
        pixels = read_radiograph(film.path.read_bytes(), film.path.name).pixels
        images[position] = np.rint(255 * prepare(pixels, LUNGS.preprocessing, size, 1)[..., 0])
        with Image.open(film.mask_path) as mask:
            masks[position] = np.asarray(mask.convert("L").resize((size, size), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(read, range(len(kept))))
    return MaskedFilms(tuple(kept), images, masks)


def split(films: Sequence[Film], without: Sequence[str] = ()) -> tuple[list[Film], list[Film]]:
    """Films to learn from and films that choose the epoch. Of sources that have no split a tenth of the patients, by a
    hash of their name, chooses."""
    usable = [film for film in films if film.mask_path and film.source not in (*NEVER, *without)]

    def chooses(film: Film) -> bool:
        if film.split == "external":
            return film.lot < 26
        return film.split == "val"

    return (
        [film for film in usable if film.split in ("train", "external") and not chooses(film)],
        [film for film in usable if chooses(film)],
    )


def films_an_epoch(films: int) -> int:
    """As many as there are, at most `FILMS_AN_EPOCH`: few films seen often are learnt by heart. At least a batch."""
    return max(_BATCH, min(films, FILMS_AN_EPOCH))


def drawn(film: Film) -> int:
    """Which of the network's masks, by its position, the film's data set draws."""
    return 0 if film.source in BEHIND_HEART else 1


def targets(mask: np.ndarray, which: int) -> np.ndarray:
    """What one drawn mask says of both: the lung beside the heart is a part of the lung, and what lies behind the heart
    is between it and the spine.

    Args:
        mask: float32 (H, W), 0-1.
        which: the one that is drawn.

    Returns:
        float32 (H, W, 2), negative where the other is not known.
    """
    if which == 0:
        return np.stack([mask, np.where(mask < 0.5, 0, _UNKNOWN)], axis=-1).astype(np.float32)
    whole = np.where(mask > 0.5, 1, np.where(_reach(mask > 0.5), _UNKNOWN, 0))
    return np.stack([whole, mask], axis=-1).astype(np.float32)


def _reach(beside_heart: np.ndarray) -> np.ndarray:
    """How far lung with what lies behind the heart may reach: around each lung drawn without, the convex hull of it and
    of the lower corner towards the other lung, a little wider.

    Args:
        beside_heart: bool (H, W).
    """
    from scipy.ndimage import binary_dilation
    from scipy.spatial import ConvexHull

    # Fewer points have no hull.
    lungs = [points for spot in two_largest(beside_heart) if len(points := np.argwhere(spot)) > _SPECK]
    drawing = Image.new("1", beside_heart.shape[::-1])
    for lung in lungs:
        (_, left), (bottom, right) = lung.min(axis=0), lung.max(axis=0)
        middle = lung[:, 1].mean()
        others = [other[:, 1].mean() for other in lungs if other is not lung]
        corners = [
            side for side, towards in ((right, 1), (left, -1)) if all(towards * (o - middle) > 0 for o in others)
        ]
        points = np.concatenate([lung, [(bottom, side) for side in corners]])
        hull = points[ConvexHull(points).vertices]
        ImageDraw.Draw(drawing).polygon([(int(x), int(y)) for y, x in hull], fill=1)
    wider: np.ndarray = binary_dilation(np.asarray(drawing), iterations=_MARGIN)
    return wider | beside_heart


class _Batches(keras.utils.PyDataset):
    """One epoch: every source equally often, each film and mask moved alike; as epoch and seed alone decide."""

    def __init__(self, data: MaskedFilms, seed: int, epoch: int, **options: Any) -> None:
        super().__init__(**options)
        self._data, self._seed, self._epoch = data, seed, epoch
        rng = np.random.default_rng((seed, epoch))
        sources = np.array([film.source for film in data.films])
        names = np.unique(sources)
        share = films_an_epoch(len(data.films)) // len(names)
        drawn = [np.resize(rng.permutation(np.flatnonzero(sources == name)), share) for name in names]
        self._order = rng.permutation(np.concatenate(drawn))

    def __len__(self) -> int:
        return len(self._order) // _BATCH

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self._seed, self._epoch, index))
        chosen = self._order[index * _BATCH : (index + 1) * _BATCH]
        pairs = [augment_with_mask(self._data.images[i], self._data.masks[i], _STRENGTH, rng) for i in chosen]
        images, masks = (np.stack(part).astype(np.float32) / 255 for part in zip(*pairs, strict=True))
        told = [targets(mask, drawn(self._data.films[i])) for mask, i in zip(masks, chosen, strict=True)]
        return images[..., None], np.stack(told)


@keras.saving.register_keras_serializable("cxrmodels")
class OverlapLoss(keras.losses.Loss):
    """Cross-entropy where a mask is known plus, of masks known all over, one minus the soft Dice coefficient (Milletari
    et al. 2016, arXiv 1606.04797)."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        ops = keras.ops
        known = ops.cast(y_true >= 0, y_pred.dtype)
        truth = ops.maximum(y_true, 0)
        places = ops.maximum(ops.sum(known, axis=(1, 2)), 1)
        entropy = ops.sum(known * ops.binary_crossentropy(truth, y_pred, from_logits=True), axis=(1, 2)) / places
        lung = ops.sigmoid(y_pred)
        both = ops.sum(truth * lung, axis=(1, 2))
        total = ops.sum(truth, axis=(1, 2)) + ops.sum(lung, axis=(1, 2))
        return ops.mean(entropy + ops.min(known, axis=(1, 2)) * (1 - (2 * both + 1) / (total + 1)), axis=-1)


def fit_lungs(
    training: Sequence[Film],
    validation: Sequence[Film],
    *,
    seed: int,
    folder: Path,
    init: str = IMAGENET,
    report: Callable[[int, float, float, float], None],
) -> tuple[keras.Model, Made]:
    """Train the lung network; the epoch with the best mean Dice on `validation` is returned.

    After every epoch the state goes to `folder`; called again after a kill it goes on from there.

    Args:
        init: what its way down starts from: see `initial.first_weights`.
        report: called after each epoch with its number, training loss, validation Dice and seconds.

    Returns:
        The network, and where and how long it learnt.

    Raises:
        ValueError: there is no film to learn from, or none to choose by; or the folder holds another training.
        ModelError: the weights it is to start from cannot be had.
    """
    if not training or not validation:
        raise ValueError(
            f"{len(training)} films to learn from and {len(validation)} to choose by; the lung network needs both, "
            "with masks. Give a data folder whose manifest names masks."
        )
    keras.utils.set_random_seed(seed)
    size = LUNGS.input_size
    learnt, held_out = load_masked(training, size), load_masked(validation, size)
    checkpoint = Checkpoint(folder)
    identity = f"{LUNGS.network} {init} {EPOCHS} {FILMS_AN_EPOCH} {seed} {data_hash([*training, *validation])}"
    state = checkpoint.read() or {"identity": identity, "stage": 0, "epoch": 0, "best": math.inf, "seconds": 0.0}
    if state["identity"] != identity:
        raise ValueError(f"{folder} holds an unfinished training of other films or another seed. Remove it.")
    if state["epoch"]:
        network = checkpoint.network(state)
    else:
        with built_in(_PRECISION):
            network = _build()
        start_from = first_weights(LUNGS, init)
        if start_from is not None:
            start_from(network)
        steps = EPOCHS * (films_an_epoch(len(learnt.films)) // _BATCH)
        network.compile(keras.optimizers.AdamW(WarmCosine(_PEAK, steps), weight_decay=_DECAY), loss=OverlapLoss())
    for epoch in range(state["epoch"], EPOCHS):
        started = time.monotonic()
        batches = _Batches(learnt, seed, epoch, workers=2, max_queue_size=8)
        history = network.fit(batches, epochs=epoch + 1, initial_epoch=epoch, verbose=0, shuffle=False).history
        found = _logits(network, held_out)
        reached = float(np.mean([dice(a > 0, b > 127) for a, b in zip(found, held_out.masks, strict=True)]))
        seconds = time.monotonic() - started
        better = 1 - reached < state["best"]
        state |= {
            "epoch": epoch + 1,
            "best": min(1 - reached, state["best"]),
            "seconds": state["seconds"] + seconds,
            "versions": versions(),
            "device": devices(state.get("device", "")),
        }
        checkpoint.write(network, state, best=better)
        report(epoch + 1, history["loss"][0], reached, seconds)
    final = _build()
    final.load_weights(checkpoint.best)
    return final, Made.of(state)


def _build() -> keras.Model:
    return build(LUNGS.network, LUNGS.input_size, LUNGS.channels, len(LUNGS.findings))


def _logits(network: keras.Model, data: MaskedFilms) -> list[np.ndarray]:
    """Of each film those of the mask that its data set draws, float32 (size, size)."""
    found: list[np.ndarray] = []
    for start in range(0, len(data.films), 32):
        images = data.images[start : start + 32, ..., None].astype(np.float32) / 255
        answers = np.asarray(network.predict_on_batch(images))
        found += [
            logits[..., drawn(film)] for film, logits in zip(data.films[start : start + 32], answers, strict=True)
        ]
    return found


def _measure(network: keras.Model, films: Sequence[Film], *, left_out: str) -> list[Overlap]:
    """Dice of each film that has a mask, at the mask's own size, the outline tidied as it is when it is used."""
    found = []
    data = load_masked(films, LUNGS.input_size)
    for film, logits in zip(data.films, _logits(network, data), strict=True):
        assert film.mask_path is not None
        with Image.open(film.mask_path) as mask:
            truth = np.asarray(mask.convert("L")) > 127
        kept = np.where(tidy(logits > 0), logits, np.minimum(logits, -1))
        grown = Image.fromarray(kept).resize(truth.shape[::-1], Image.Resampling.BILINEAR)
        value = dice(np.asarray(grown) > 0, truth)
        found.append(Overlap(film.image_id, film.source, film.split, film.group_id, film.age_group, left_out, value))
    return found


def train_lungs(
    *,
    data: Path,
    weights: Path,
    work: Path,
    seed: int = 0,
    init: str = IMAGENET,
    without: str = "",
    report: Callable[[int, float, float, float], None],
) -> ModelCard:
    """Train the lung network and write `lungs/` under `weights`: weights, card, and the Dice of every film with a mask
    that it has not learnt from.

    Args:
        data: folder with `manifest.csv`.
        work: folder for the unfinished training.
        init: what its way down starts from: see `initial.first_weights`.
        without: a source to leave out. The network is then not kept: its Dice on that source is added to what the
            shipped one's card says, as what to expect on a hospital of that kind that was never seen.
        report: see `fit_lungs`.

    Raises:
        ManifestError: the data folder is not as it should be.
        ModelError: the weights to start from cannot be had.
        ValueError: see `fit_lungs`; or there is no shipped network whose card could take the figures.
    """
    films = read_manifest(data)
    training, validation = split(films, [without] if without else [])
    network, made = fit_lungs(training, validation, seed=seed, folder=work, init=init, report=report)
    folder = weights / LUNGS.key
    known = read_overlaps(folder / DICE_FILE) if (folder / DICE_FILE).is_file() else []
    if without:
        card = ModelCard.from_json((folder / CARD_FILE).read_text(encoding="utf-8"))
        here = [film for film in films if film.source == without]
        overlaps = [one for one in known if one.left_out != without] + _measure(network, here, left_out=without)
        facts = {name: getattr(card, name) for name in FACTS}
    else:
        folder.mkdir(parents=True, exist_ok=True)
        digest = save_weights(network, folder / WEIGHTS_FILE)
        shipped = _build()
        shipped.load_weights(folder / WEIGHTS_FILE)
        unseen = [film for film in films if film.source in NEVER or film.split in ("val", "test")]
        overlaps = [one for one in known if one.left_out] + _measure(shipped, unseen, left_out="")
        facts = {
            "parameters": shipped.count_params(),
            "weights_sha256": digest,
            "training_sources": tuple(sorted({film.source for film in training})),
            "training_films": {"lung": len(training)},
            "seed": seed,
            "recipe": {
                "epochs": EPOCHS,
                "films_an_epoch": films_an_epoch(len(training)),
                "batch_size": _BATCH,
                "learning_rate": _PEAK,
                "weight_decay": _DECAY,
                "augmentation": _STRENGTH,
                "precision": _PRECISION,
                "init": init,
            },
            "versions": made.versions,
            "device": made.device,
            "data_sha256": data_hash([*training, *validation]),
            "wall_time_s": round(made.seconds, 1),
        }
    write_overlaps(overlaps, folder / DICE_FILE)
    # From the file, whose figures are rounded, so that anyone can compute the card again.
    card = describe(read_overlaps(folder / DICE_FILE), facts)
    (folder / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
    return card


FACTS = (
    "parameters",
    "weights_sha256",
    "training_sources",
    "training_films",
    "seed",
    "recipe",
    "versions",
    "device",
    "data_sha256",
    "wall_time_s",
)
"""Fields of the card that the stored figures cannot give."""


def describe(overlaps: Sequence[Overlap], facts: dict[str, Any]) -> ModelCard:
    """The lung network's card, its figures computed from the stored Dice coefficients."""
    metrics = summarise_overlaps(overlaps)
    return ModelCard(
        key=LUNGS.key,
        title=LUNGS.title,
        findings=LUNGS.findings,
        input_size=LUNGS.input_size,
        temperature=1.0,
        decision_threshold=0.5,
        operating_points={},
        metrics=metrics,
        aims=outcomes(LUNGS.key, metrics),
        calibration={},
        paper=LUNGS.paper,
        paper_figures=LUNGS.paper_figures,
        departures=LUNGS.departures,
        intended_use="To crop films to the lungs, and to measure how much of a heat map lies in them. Never for "
        "diagnosis.",
        limits="It outlines the lungs with what lies behind the heart, but not behind the diaphragm, and a second time "
        "without; each film measures the mask that its data set draws. Lungs that are white all over may be missed, "
        "and pictures that are no frontal chest radiographs outlined anyhow.",
        licence="Weights CC BY-NC 4.0, for the terms of the training data; code as the repository says.",
        **facts,
    )
