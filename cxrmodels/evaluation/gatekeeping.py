"""How often the gate is right: its verdict on every picture, stored, and the rates that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from cxrmodels.evaluation.packed import csv_text, read_rows, write_packed
from cxrmodels.gate import KEY, Rate, judge
from cxrmodels.radiograph import Radiograph
from cxrmodels.zoo import weights_folder

FILMS_FILE = "films.csv.gz"
FRONTAL = "frontal"
"""Kind of the pictures that are to pass."""
ALL_HELD_OUT = "all kinds held out"
"""Title of the rate over all pictures of kinds that the gate was built without."""

TITLES = {
    "upside_down": "films upside down",
    "turned_left": "films turned by 90 degrees against the clock",
    "turned_right": "films turned by 90 degrees with the clock",
    "inverted": "inverted films",
    "slanted": "films turned by 40 to 140 degrees",
    "part": "small parts of films",
    "half": "halves of films",
    "overlaid": "films with both sides on top of each other",
    "shuffled": "films cut up and shuffled",
    "several": "several films on one picture, or one far too small",
    "bent": "films bent out of shape",
    "flattened": "stencils of films",
    "leaves": "piles of discs and boxes",
    "noise_of_nature": "noise",
    "shades": "all but blank pictures",
    "cross_section": "drawn cross sections of bodies",
    "side_view": "drawn films from the side",
    "text_page": "text",
    "drawing": "drawings",
    "chart": "charts",
    "hand": "drawn films of hands",
    "board": "test pictures",
    "photo": "photographs",
    "ct": "CT slices",
    "lateral": "lateral films",
    "body": "other body parts and devices (DICOM)",
}
"""Kind of picture -> its name for a reader."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate said of one picture.

    Attributes:
        picture: its id.
        kind: `frontal`, or a key of `TITLES`.
        source: where the film comes from; empty for pictures that come from none.
        split: the manifest's, of the film.
        held_out: whether the gate was built without this source, or without this kind.
        score: how much like a frontal film it is; empty where shape or greys alone decided.
        passed: the verdict.
    """

    picture: str
    kind: str
    source: str
    split: str
    held_out: bool
    score: str
    passed: bool


def write_judged(judged: Sequence[Judged], path: Path) -> None:
    """Write them as compressed CSV; equal ones give equal bytes."""
    rows = (
        [int(cell) if isinstance(cell, bool) else cell for cell in astuple(one)]
        for one in sorted(judged, key=lambda one: (one.kind, one.source, one.picture))
    )
    write_packed(csv_text([one.name for one in fields(Judged)], rows), path)


def read_judged(path: Path) -> list[Judged]:
    """Read what `write_judged` wrote.

    Raises:
        OSError: it cannot be read, or is damaged.
        ValueError: it is not such a file.
    """
    rows = read_rows(path, [one.name for one in fields(Judged)], "the gate's verdicts")
    return [
        Judged(**{**row, "held_out": row["held_out"] == "1", "passed": row["passed"] == "1"})  # type: ignore[arg-type]
        for row in rows
    ]


def rates(judged: Sequence[Judged]) -> tuple[Rate, ...]:
    """A rate for each source of frontal films and each kind of other pictures, those held out first, and one for all
    pictures of the kinds that were held out."""
    groups: dict[tuple[bool, bool, str], list[bool]] = {}
    for one in judged:
        passes = one.kind == FRONTAL
        title = one.source if passes else TITLES[one.kind]
        right = one.passed == passes
        groups.setdefault((passes, one.held_out, title), []).append(right)
        if one.held_out and not passes:
            groups.setdefault((passes, one.held_out, ALL_HELD_OUT), []).append(right)
    ordered = sorted(groups, key=lambda group: (not group[0], not group[1], group[2] != ALL_HELD_OUT, group[2]))
    return tuple(_rate(title, passes, held_out, groups[passes, held_out, title]) for passes, held_out, title in ordered)


def _rate(title: str, passes: bool, held_out: bool, right: Sequence[bool]) -> Rate:
    """With Wilson's interval, which holds where nearly all are right (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(sum(right), len(right)).proportion_ci(method="wilson")
    value = sum(right) / len(right)
    return Rate(
        title, passes, held_out, len(right), *(round(float(x), 4) for x in (value, interval.low, interval.high))
    )


def stored_rates() -> tuple[Rate, ...]:
    """The rates, computed anew from the stored verdicts.

    Raises:
        OSError, ValueError: they are missing or damaged.
    """
    return rates(read_judged(weights_folder() / KEY / FILMS_FILE))


def as_facts(found: Sequence[Rate]) -> list[dict[str, object]]:
    """Rates as a card holds them."""
    return [asdict(rate) for rate in found]


def lines(found: Sequence[Rate]) -> list[str]:
    """Rates for a terminal, a line each."""
    return [
        f"{rate.title:<52}{rate.count:>6,}  {rate.value:6.1%} ({rate.low:.1%} to {rate.high:.1%})  "
        f"{'passed' if rate.passes else 'refused'}, {'held out' if rate.held_out else 'learnt from such'}"
        for rate in found
    ]


def verdicts(films: Sequence[Radiograph]) -> list[str]:
    """What the gate says of films, a line each: name, verdict, notes."""
    judged = [(film.name, judge(film)) for film in films]
    return [f"{name}: {' '.join([gate.cell, *gate.notes])}" for name, gate in judged]
