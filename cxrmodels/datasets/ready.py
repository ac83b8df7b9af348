"""Films that are ready to look at: phantoms always, real ones where there is a data folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cxrmodels.datasets.manifest import Film, read_manifest
from cxrmodels.phantom import PATTERNS, phantom
from cxrmodels.radiograph import Radiograph, read_radiograph

_PHANTOM_SIZE, _PHANTOM_SMALL = 512, 128
_PHANTOM_SEED = 2020
_PHANTOM_TITLES = {
    "normal": "Synthetic, clear",
    "covid19": "Synthetic, ground glass",
    "bacterial_pneumonia": "Synthetic, consolidation",
    "viral_pneumonia": "Synthetic, interstitial",
}
_SHOWN_FINDINGS = ("covid19", "normal", "bacterial_pneumonia", "viral_pneumonia", "tuberculosis")


@dataclass(frozen=True, slots=True)
class ReadyFilm:
    """A film to click on. Its title does not give away the finding that a data set states; `finding` does.

    `source` and `finding` are None for a phantom. `open` reads or draws the film, `small` the same at whatever
    size a thumbnail can be made of: a phantom is drawn small rather than drawn large and shrunk.
    """

    key: str
    title: str
    detail: str
    source: str | None
    finding: str | None
    open: Callable[[], Radiograph]
    small: Callable[[], Radiograph]


def phantom_films() -> tuple[ReadyFilm, ...]:
    """One synthetic film a finding, always the same ones."""

    def opener(finding: str, size: int) -> Callable[[], Radiograph]:
        # Difficulty 0.2: a first look should show what is drawn.
        return lambda: phantom(finding, seed=_PHANTOM_SEED, size=size, difficulty=0.2).radiograph()

    return tuple(
        ReadyFilm(
            f"phantom/{key}",
            title,
            f"Drawn by this program: {PATTERNS[key]}",
            None,
            None,
            opener(key, _PHANTOM_SIZE),
            opener(key, _PHANTOM_SMALL),
        )
        for key, title in _PHANTOM_TITLES.items()
    )


def real_films(folder: Path, count: int = 8) -> tuple[ReadyFilm, ...]:
    """Held-out films of a data folder, each of another source and finding, always the same ones.

    Films no shipped model has learnt from come first within a finding: that is where it gets interesting.
    """
    held_out: dict[tuple[str, str], Film] = {}
    for film in sorted(_films(folder), key=lambda film: film.sha256):
        if film.split in ("test", "external"):
            held_out.setdefault((film.finding, film.source), film)
    rounds = [
        sorted((film for (finding, _), film in held_out.items() if finding == wanted), key=lambda film: film.split)
        for wanted in _SHOWN_FINDINGS
    ]
    chosen: list[Film] = []
    for turn in range(max(map(len, rounds), default=0)):
        chosen += [films[turn] for films in rounds if turn < len(films)]
    return tuple(
        _ready(film, f"Real film {number} ({film.source})") for number, film in enumerate(chosen[:count], start=1)
    )


def _ready(film: Film, title: str) -> ReadyFilm:
    def opened() -> Radiograph:
        return read_radiograph(film.path.read_bytes(), film.path.name)

    about = "What its data set calls it is told with the answers"
    return ReadyFilm(film.image_id, title, about, film.source, film.finding, opened, opened)


def listed_as(folder: Path | None, image_id: str) -> ReadyFilm | None:
    """The film of a data folder that has this id, if there is one."""
    film = _by_id(folder).get(image_id) if folder else None
    return _ready(film, film.image_id) if film else None


@lru_cache(maxsize=2)
def _by_id(folder: Path) -> dict[str, Film]:
    return {film.image_id: film for film in _films(folder)}


@lru_cache(maxsize=2)
def _films(folder: Path) -> Sequence[Film]:
    return read_manifest(folder)


def listed(folder: Path | None, sha256: str) -> Film | None:
    """The film of a data folder that has this content, if one has.

    Args:
        sha256: hex digest of the file's bytes.
    """
    if folder is None:
        return None
    return next((film for film in _films(folder) if sha256.startswith(film.sha256)), None)
