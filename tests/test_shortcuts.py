"""The shortcut lab: what each change does to a film, and what is made of the answers."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrmodels.cli import SURVIVAL_COLUMNS, main
from cxrmodels.datasets.manifest import COLUMNS, read_manifest
from cxrmodels.engine import Engine
from cxrmodels.explain.changes import CHANGES, changed, possible, with_marker
from cxrmodels.explain.shortcuts import Survival, Trial, signs, survival, trials
from cxrmodels.explain.shortcuts import drawn as drawn_films
from cxrmodels.explain.steps import finish
from cxrmodels.inference import network_input, predict
from cxrmodels.phantom import Phantom, phantom
from cxrmodels.radiograph import read_radiograph, to_png
from cxrmodels.zoo import load

SIDE = 128


@cache
def drawn(finding: str = "covid19") -> Phantom:
    return phantom(finding, seed=5, size=SIDE)


@cache
def engine() -> Engine:
    return Engine(load("two_conv_cnn"))


def after(change: str) -> np.ndarray:
    return changed(drawn().radiograph(), change, drawn().lung_mask).pixels


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_makes_another_film_and_leaves_the_first(change: str) -> None:
    film = drawn().radiograph()
    before = film.pixels.copy()
    one = changed(film, change, drawn().lung_mask)
    np.testing.assert_array_equal(film.pixels, before)
    assert one.sha256 != film.sha256
    assert one.sha256 == changed(film, change, drawn().lung_mask).sha256
    assert len({changed(film, key, drawn().lung_mask).sha256 for key in CHANGES}) == len(CHANGES)
    assert one.pixels.dtype == np.float32
    assert not one.pixels.flags.writeable
    assert 0 <= one.pixels.min() <= one.pixels.max() <= 1
    assert min(one.pixels.shape) > 0.8 * SIDE
    assert one.notes[-1] == CHANGES[change].title.lower()
    assert not np.array_equal(one.pixels, before)


def test_lungs_are_what_is_painted_or_kept() -> None:
    film, lungs = drawn().pixels, drawn().lung_mask
    np.testing.assert_array_equal(after("no_lungs")[~lungs], film[~lungs])
    assert not after("no_lungs")[lungs].any()
    np.testing.assert_array_equal(after("lungs_only")[lungs], film[lungs])
    assert not after("lungs_only")[~lungs].any()


@pytest.mark.parametrize("change", ["no_corners", "marker", "text"])
def test_marks_leave_the_middle_of_the_film_alone(change: str) -> None:
    differs = after(change) != drawn().pixels
    quarter = slice(SIDE // 4, -SIDE // 4)
    assert differs.any()
    assert not differs[quarter, quarter].any()


def test_the_marker_stands_where_the_patients_right_is() -> None:
    rows, columns = np.nonzero(after("marker") != drawn().pixels)
    assert rows.max() < SIDE / 3
    assert columns.max() < SIDE / 3
    assert with_marker(np.zeros((70, 70), np.uint8), np.uint8(255)).max() == 255


def test_the_border_is_a_frame() -> None:
    kept = after("border_only") == drawn().pixels
    assert kept[0].all()
    assert kept[:, -1].all()
    assert not after("border_only")[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4].any()


def test_changes_of_shape() -> None:
    assert not after("squashed")[:, 0].any()
    assert after("squashed").shape == (SIDE, SIDE)
    np.testing.assert_array_equal(after("cropped"), drawn().pixels[10:-10, 10:-10])
    np.testing.assert_allclose(after("inverted"), 1 - drawn().pixels)


def test_without_a_mask_some_cannot_be_made() -> None:
    assert set(possible(None)) == set(CHANGES) - {"no_lungs", "lungs_only"}
    assert possible(drawn().lung_mask) == tuple(CHANGES)
    for mask in (None, drawn().lung_mask[:-1], drawn().lung_mask.astype(np.uint8)):
        with pytest.raises(ValueError, match="mask of the lungs"):
            changed(drawn().radiograph(), "no_lungs", mask)
    with pytest.raises(KeyError, match=r"mirrored.*no_lungs"):
        changed(drawn().radiograph(), "mirrored")


@pytest.mark.parametrize("masked", [True, False])
def test_trials_are_what_the_model_says_of_the_changed_films(masked: bool) -> None:
    film, lungs = drawn().radiograph(), drawn().lung_mask if masked else None
    prediction, _ = predict(engine(), film)
    shares: list[float] = []
    found = finish(trials(engine(), film, prediction, "covid19", lungs), shares.append)
    assert [trial.change for trial in found] == list(possible(lungs))
    assert len(shares) == len(found)
    for trial in found:
        expected, _ = predict(engine(), changed(film, trial.change, lungs))
        assert trial.after == expected.probability("covid19")
        assert trial.before == prediction.probability("covid19")
        assert trial.decision == expected.decision


@pytest.mark.parametrize(
    ("change", "before", "after", "finding", "found"),
    [
        ("marker", 0.1, 0.9, "covid19", "R pasted in"),
        ("marker", 0.9, 0.8, "covid19", ""),
        ("no_corners", 0.9, 0.3, "normal", "Hiding the corners"),
        ("text", 0.5, 0.8, "covid19", "PORTABLE"),
        ("no_lungs", 0.9, 0.8, "covid19", "lungs painted black"),
        ("no_lungs", 0.9, 0.2, "covid19", ""),
        ("no_lungs", 0.9, 0.9, "normal", ""),
        ("no_lungs", 0.1, 0.9, "covid19", ""),
        ("border_only", 0.9, 0.7, "covid19", "border alone"),
        ("inverted", 0.9, 0.1, "covid19", ""),
        ("cropped", 0.9, 0.1, "covid19", ""),
    ],
)
def test_signs(change: str, before: float, after: float, finding: str, found: str) -> None:
    said = signs([Trial(change, before, after, "not sure")], finding)
    assert len(said) == bool(found)
    assert found in "".join(said)


def test_survival_counts_what_survives() -> None:
    model = engine().loaded.spec
    drawings = [phantom(finding, seed=5, index=i, size=96) for i in range(4) for finding in model.findings]
    films = [(one.radiograph(), model.findings.index(one.finding)) for one in drawings]
    # For half of the films no lungs are found.
    masks = {film.sha256: one.lung_mask for one, (film, _) in zip(drawings, films, strict=True) if one.index % 2}
    done: list[int] = []
    found = {one.change: one for one in survival(engine(), films, lambda film: masks.get(film.sha256), done.append, 16)}
    assert list(found) == list(CHANGES)
    assert done == list(range(1, 9))
    for key, one in found.items():
        able = [(film, label) for film, label in films if not CHANGES[key].needs_lungs or film.sha256 in masks]
        assert one.films == len(able)
        assert one.chance == 0.5
        for value, version in (
            (one.before, [film for film, _ in able]),
            (one.after, [changed(film, key, masks.get(film.sha256)) for film, _ in able]),
        ):
            logits = engine().run(np.stack([network_input(film, model) for film in version])).logits
            assert value == pytest.approx(np.mean(logits.argmax(1) == [label for _, label in able]))


def test_no_lungs_at_all_leave_their_changes_out() -> None:
    films = [(drawn().radiograph(), 1)]
    assert {one.change for one in survival(engine(), films, lambda film: None)} == set(possible(None))


# --- on the command line ----------------------------------------------------------------------------------------------


def _folder(path: Path) -> Path:
    """A data folder of six phantoms, four with their lungs outlined; the network outlines those of the others."""
    path.mkdir()
    lines = [",".join(COLUMNS)]
    for number in range(6):
        one = phantom(("normal", "covid19")[number % 2], seed=9, index=number, size=96)
        data = to_png(one.pixels)
        (path / f"{number}.png").write_bytes(data)
        Image.fromarray(one.lung_mask).save(path / f"{number}-mask.png")
        cells = {"image_id": f"clinic/{number}", "path": f"{number}.png", "source": "clinic", "finding": one.finding}
        cells |= {"mask_path": f"{number}-mask.png" if number < 4 else "", "split": "test" if number else "train"}
        cells |= {"patient_id": str(number), "group_id": str(number), "sha256": read_radiograph(data).sha256[:16]}
        lines.append(",".join(cells.get(column, "") for column in COLUMNS))
    (path / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_command_counts_over_held_out_films(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path / "data")
    there = tmp_path / "survival.csv"
    done = main(["shortcuts", "--models", "two_conv_cnn", "--data", str(folder), "--output", str(there)])
    assert done == 0
    rows = list(csv.DictReader(there.read_text(encoding="utf-8").splitlines()))
    assert tuple(rows[0]) == SURVIVAL_COLUMNS
    assert [row["change"] for row in rows] == list(CHANGES)
    assert {row["films"] for row in rows} == {"5"}
    assert all(0 <= float(row["before"]) <= 1 for row in rows)
    capsys.readouterr()
    assert main(["shortcuts", "--data", str(folder), "--split", "external"]) == 1
    assert "no films of the split external" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after", "survives"), [(0.9, 0.9, 1.0), (0.9, 0.5, 0.0), (0.9, 0.3, -0.5), (0.5, 0.5, 0.0)]
)
def test_what_survives_is_measured_from_chance(before: float, after: float, survives: float) -> None:
    assert Survival("m", "marker", 10, before, after, 0.5).survives == pytest.approx(survives)


def test_films_are_drawn_equally_of_every_finding_those_with_masks_first(tmp_path: Path) -> None:
    films = read_manifest(_folder(tmp_path / "data"))
    chosen = drawn_films(films, ("normal", "covid19"), 4)
    assert [place for _, place in chosen] == [0, 0, 1, 1]
    assert all(film.mask_path for film, _ in chosen)
    assert chosen == drawn_films(films, ("normal", "covid19"), 4)
    assert drawn_films(films, ("tuberculosis",), 4) == []
