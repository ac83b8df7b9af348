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
from PIL import Image

from cxrmodels.datasets.manifest import NEVER, Film, data_hash, read_manifest
from cxrmodels.evaluation.outlines import DICE_FILE, Overlap, dice, read_overlaps, summarise_overlaps, write_overlaps
from cxrmodels.lungs import tidy
from cxrmodels.networks import build
from cxrmodels.preprocessing import prepare
from cxrmodels.radiograph import read_radiograph
from cxrmodels.training.augment import augment_with_mask
from cxrmodels.training.fit import Checkpoint, WarmCosine
from cxrmodels.training.machine import device, versions
from cxrmodels.zoo import CARD_FILE, LUNGS, WEIGHTS_FILE, ModelCard, save_weights

EPOCHS = 16
FILMS_AN_EPOCH = 2000
_BATCH, _PEAK, _STRENGTH = 16, 2e-3, 0.8


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


class _Batches(keras.utils.PyDataset):
    """One epoch: every source equally often, each film and mask moved alike; as epoch and seed alone decide."""

    def __init__(self, data: MaskedFilms, seed: int, epoch: int, **options: Any) -> None:
        super().__init__(**options)
        self._data, self._seed, self._epoch = data, seed, epoch
        rng = np.random.default_rng((seed, epoch))
        sources = np.array([film.source for film in data.films])
        names = np.unique(sources)
        share = FILMS_AN_EPOCH // len(names)
        drawn = [np.resize(rng.permutation(np.flatnonzero(sources == name)), share) for name in names]
        self._order = rng.permutation(np.concatenate(drawn))

    def __len__(self) -> int:
        return len(self._order) // _BATCH

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self._seed, self._epoch, index))
        chosen = self._order[index * _BATCH : (index + 1) * _BATCH]
        pairs = [augment_with_mask(self._data.images[i], self._data.masks[i], _STRENGTH, rng) for i in chosen]
        images, masks = (np.stack(part).astype(np.float32)[..., None] / 255 for part in zip(*pairs, strict=True))
        return images, masks


@keras.saving.register_keras_serializable("cxrmodels")
class OverlapLoss(keras.losses.Loss):
    """Cross-entropy plus one minus the soft Dice coefficient (Milletari et al. 2016, arXiv 1606.04797)."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        ops = keras.ops
        entropy = ops.mean(ops.binary_crossentropy(y_true, y_pred, from_logits=True), axis=(1, 2))
        lung = ops.sigmoid(y_pred)
        both = ops.sum(y_true * lung, axis=(1, 2, 3))
        total = ops.sum(y_true, axis=(1, 2, 3)) + ops.sum(lung, axis=(1, 2, 3))
        return entropy + 1 - (2 * both + 1) / (total + 1)


def fit_lungs(
    training: Sequence[Film],
    validation: Sequence[Film],
    *,
    seed: int,
    folder: Path,
    report: Callable[[int, float, float, float], None],
) -> tuple[keras.Model, float]:
    """Train the lung network; the epoch with the best mean Dice on `validation` is returned.

    After every epoch the state goes to `folder`; called again after a kill it goes on from there.

    Args:
        report: called after each epoch with its number, training loss, validation Dice and seconds.

    Returns:
        The network, and the seconds all epochs took.

    Raises:
        ValueError: there is no film to learn from, or none to choose by; or the folder holds another training.
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
    identity = f"{LUNGS.network} {EPOCHS} {seed} {data_hash([*training, *validation])}"
    state = checkpoint.read() or {"identity": identity, "stage": 0, "epoch": 0, "best": math.inf, "seconds": 0.0}
    if state["identity"] != identity:
        raise ValueError(f"{folder} holds an unfinished training of other films or another seed. Remove it.")
    if state["epoch"]:
        network = checkpoint.network(state)
    else:
        network = build(LUNGS.network, size, LUNGS.channels, 1)
        steps = EPOCHS * (FILMS_AN_EPOCH // _BATCH)
        network.compile(keras.optimizers.AdamW(WarmCosine(_PEAK, steps), weight_decay=1e-3), loss=OverlapLoss())
    for epoch in range(state["epoch"], EPOCHS):
        started = time.monotonic()
        batches = _Batches(learnt, seed, epoch, workers=2, max_queue_size=8)
        history = network.fit(batches, epochs=epoch + 1, initial_epoch=epoch, verbose=0, shuffle=False).history
        images = held_out.images[..., None].astype(np.float32) / 255
        found = np.concatenate([network.predict_on_batch(images[i : i + 32]) for i in range(0, len(images), 32)]) > 0
        reached = float(np.mean([dice(a[..., 0], b > 127) for a, b in zip(found, held_out.masks, strict=True)]))
        seconds = time.monotonic() - started
        better = 1 - reached < state["best"]
        state |= {
            "epoch": epoch + 1,
            "best": min(1 - reached, state["best"]),
            "seconds": state["seconds"] + seconds,
        }
        checkpoint.write(network, state, best=better)
        report(epoch + 1, history["loss"][0], reached, seconds)
    final = build(LUNGS.network, size, LUNGS.channels, 1)
    final.load_weights(checkpoint.best)
    return final, float(state["seconds"])


def _measure(network: keras.Model, films: Sequence[Film], *, left_out: str) -> list[Overlap]:
    """Dice of each film that has a mask, at the mask's own size, the outline tidied as it is when it is used."""
    size, found = LUNGS.input_size, []
    data = load_masked(films, size)
    for start in range(0, len(data.films), 32):
        images = data.images[start : start + 32, ..., None].astype(np.float32) / 255
        for film, logits in zip(
            data.films[start : start + 32], np.asarray(network.predict_on_batch(images))[..., 0], strict=True
        ):
            assert film.mask_path is not None
            with Image.open(film.mask_path) as mask:
                truth = np.asarray(mask.convert("L")) > 127
            kept = np.where(tidy(logits > 0), logits, np.minimum(logits, -1))
            grown = Image.fromarray(kept).resize(truth.shape[::-1], Image.Resampling.BILINEAR)
            value = dice(np.asarray(grown) > 0, truth)
            found.append(
                Overlap(film.image_id, film.source, film.split, film.group_id, film.age_group, left_out, value)
            )
    return found


def train_lungs(
    *,
    data: Path,
    weights: Path,
    work: Path,
    seed: int = 0,
    without: str = "",
    report: Callable[[int, float, float, float], None],
) -> ModelCard:
    """Train the lung network and write `lungs/` under `weights`: weights, card, and the Dice of every film with a mask
    that it has not learnt from.

    Args:
        data: folder with `manifest.csv`.
        work: folder for the unfinished training.
        without: a source to leave out. The network is then not kept: its Dice on that source is added to what the
            shipped one's card says, as what to expect on a hospital of that kind that was never seen.
        report: see `fit_lungs`.

    Raises:
        ManifestError: the data folder is not as it should be.
        ValueError: see `fit_lungs`; or there is no shipped network whose card could take the figures.
    """
    films = read_manifest(data)
    training, validation = split(films, [without] if without else [])
    network, seconds = fit_lungs(training, validation, seed=seed, folder=work, report=report)
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
        shipped = build(LUNGS.network, LUNGS.input_size, LUNGS.channels, 1)
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
                "films_an_epoch": FILMS_AN_EPOCH,
                "batch_size": _BATCH,
                "learning_rate": _PEAK,
            },
            "versions": versions(),
            "device": device(),
            "data_sha256": data_hash([*training, *validation]),
            "wall_time_s": round(seconds, 1),
        }
    write_overlaps(overlaps, folder / DICE_FILE)
    card = describe(overlaps, facts)
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
    return ModelCard(
        key=LUNGS.key,
        title=LUNGS.title,
        findings=LUNGS.findings,
        input_size=LUNGS.input_size,
        temperature=1.0,
        decision_threshold=0.5,
        operating_points={},
        metrics=summarise_overlaps(overlaps),
        calibration={},
        paper=LUNGS.paper,
        paper_figures=LUNGS.paper_figures,
        departures=LUNGS.departures,
        intended_use="To crop films to the lungs, and to measure how much of a heat map lies in them. Never for "
        "diagnosis.",
        limits="Its masks leave out what lies behind the heart and the diaphragm. Lungs that are white all over may be "
        "missed, and pictures that are no frontal chest radiographs outlined anyhow.",
        licence="Weights CC BY-NC 4.0, for the terms of the training data; code as the repository says.",
        **facts,
    )
