"""How much accuracy survives hidden lungs and pasted markers: counted, drawn, kept, and on the card."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from cxrmodels import zoo
from cxrmodels.cli import SURVIVAL_COLUMNS, main
from cxrmodels.datasets.manifest import COLUMNS, Film, read_manifest
from cxrmodels.engine import Engine
from cxrmodels.evaluation.cards import recompute
from cxrmodels.evaluation.survival import (
    SHORTCUTS_FILE,
    UNCHANGED,
    Named,
    SurvivalError,
    read_named,
    shortcuts_of,
    survivals,
    write_named,
)
from cxrmodels.explain.changes import CHANGES, changed, possible
from cxrmodels.explain.survival import drawn, lungs_of, named
from cxrmodels.inference import network_input, read_film
from cxrmodels.lungs import mask_of
from cxrmodels.phantom import phantom
from cxrmodels.radiograph import read_radiograph, to_png
from cxrmodels.zoo import load

KEY = "two_conv_cnn"


@cache
def engine() -> Engine:
    return Engine(load(KEY))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of eight phantoms, four of them with their lungs drawn."""
    path = tmp_path_factory.mktemp("data")
    lines = [",".join(COLUMNS)]
    for number in range(8):
        one = phantom(("normal", "covid19")[number % 2], seed=9, index=number, size=96)
        data = to_png(one.pixels)
        (path / f"{number}.png").write_bytes(data)
        Image.fromarray(one.lung_mask).save(path / f"{number}-mask.png")
        cells = {"image_id": f"clinic/{number}", "path": f"{number}.png", "source": "clinic", "finding": one.finding}
        cells |= {"mask_path": f"{number}-mask.png" if number < 4 else "", "split": "test" if number else "train"}
        group = f"{number // 4}{one.finding}" if number else "learnt from"
        cells |= {"patient_id": group, "group_id": group, "sha256": read_radiograph(data).sha256[:16]}
        lines.append(",".join(cells.get(column, "") for column in COLUMNS))
    (path / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_what_is_named_is_what_the_network_says_of_each_changed_film(folder: Path) -> None:
    films = read_manifest(folder)
    # For half of the films no lungs are found.
    masks = {film.sha256: lungs_of([film])(read_film(film)) for film in films[:4]}
    done: list[tuple[int, int]] = []
    found = named(engine(), films, lambda film: masks.get(film.sha256[:16]), lambda *told: done.append(told), batch=16)
    assert done == [(number, 8) for number in range(9)]
    assert list(found.answers) == [UNCHANGED, *CHANGES]
    assert found.labels.tolist() == [film.finding for film in films]
    assert found.groups.tolist() == [film.group_id for film in films]
    assert found.weights_sha256 == engine().loaded.card.weights_sha256
    model = engine().loaded.spec
    for place, film in enumerate(films):
        radiograph, mask = read_film(film), masks.get(film.sha256)
        for key, answers in found.answers.items():
            if key != UNCHANGED and key not in possible(mask):
                assert answers[place] == ""
                continue
            shown = radiograph if key == UNCHANGED else changed(radiograph, key, mask)
            logits = engine().run(network_input(shown, model)[None]).logits[0]
            assert answers[place] == model.findings[logits.argmax()]


def test_lungs_are_the_drawn_ones_where_there_are_any(folder: Path) -> None:
    films = read_manifest(folder)
    find = lungs_of(films)
    drawing = phantom("normal", seed=9, index=0, size=96).lung_mask
    np.testing.assert_array_equal(find(read_film(films[0])), drawing)
    outlined = mask_of(read_film(films[5]))
    assert outlined is not None
    np.testing.assert_array_equal(find(read_film(films[5])), outlined)


def a_film(number: int, finding: str, group: str) -> Film:
    return Film(str(number), Path(), None, "clinic", finding, group, "adult", "PA", "test", "", "", "")


def test_patients_are_drawn_equally_of_every_finding() -> None:
    films = [
        a_film(number, ("normal", "covid19", "viral_pneumonia", "bacterial_pneumonia")[number % 4], f"p{number // 12}")
        for number in range(240)
    ]
    chosen = drawn(films, ("normal", "covid19", "pneumonia"), 30)
    counts = {finding: sum(film.finding == finding for film in chosen) for finding in ("normal", "covid19")}
    assert counts == {"normal": 10, "covid19": 10}
    assert len(chosen) == 30
    assert drawn(films, ("normal", "covid19", "pneumonia"), 30) == chosen
    assert drawn(films, ("normal", "covid19", "pneumonia"), 30, seed=1) != chosen
    # A patient's three films of a finding stay together, but for the one at whom there were enough.
    normal = [film.group_id for film in chosen if film.finding == "normal"]
    assert sorted(normal.count(group) for group in set(normal)) == [1, 3, 3, 3]
    assert drawn(films, ("tuberculosis",), 4) == []


def answers(before: str, after: str, labels: str = "aabb", groups: str = "1234") -> Named:
    """Findings named by one letter; a dash where the change could not be made."""

    def column(text: str) -> np.ndarray:
        return np.array(["" if letter == "-" else letter for letter in text], dtype=np.str_)

    ids = np.array([str(number) for number in range(len(labels))])
    return Named("w", ids, column(groups), column(labels), {UNCHANGED: column(before), "marker": column(after)})


@pytest.mark.parametrize(
    ("before", "after", "survives"),
    [
        ("aabb", "aabb", 1.0),
        ("aabb", "aaaa", 0.0),
        ("aabb", "bbbb", 0.0),
        ("aabb", "bbaa", -1.0),
        ("aaaa", "aabb", 0.0),
    ],
)
def test_what_survives_is_measured_from_chance(before: str, after: str, survives: float) -> None:
    (one,) = survivals(answers(before, after))
    assert (one.change, one.films, one.chance) == ("marker", 4, 0.5)
    assert one.survives.value == pytest.approx(survives)


def test_accuracy_is_balanced_and_of_the_films_on_which_the_change_could_be_made() -> None:
    labels, before, after = "aaaaaabbbc", "aaaabbbbbc", "aab-abbb-a"
    (one,) = survivals(answers(before, after, labels, "0011223345"))
    able = [place for place, letter in enumerate(after) if letter != "-"]
    right = [labels[place] for place in able]
    assert one.films == 8
    assert one.chance == pytest.approx(1 / 3)
    for value, given in ((one.before.value, before), (one.after.value, after)):
        assert value == pytest.approx(balanced_accuracy_score(right, [given[place] for place in able]))
    assert one.survives.low <= one.survives.value <= one.survives.high
    assert one.before.low <= one.before.value <= one.before.high
    assert survivals(answers("aabb", "----")) == ()


def test_intervals_resample_patients() -> None:
    labels, before, after = "ab" * 40, "ab" * 40, "ab" * 20 + "aa" * 20
    apart = answers(before, after, labels)
    (narrow,) = survivals(replace(apart, groups=np.arange(80).astype(str)))
    (wide,) = survivals(replace(apart, groups=np.repeat(np.arange(8), 10).astype(str)))
    assert wide.survives.high - wide.survives.low > 1.5 * (narrow.survives.high - narrow.survives.low)


def test_a_file_gives_back_what_was_named(tmp_path: Path) -> None:
    path, given = tmp_path / SHORTCUTS_FILE, answers("aabb", "a-bb")
    write_named(given, path)
    first = path.read_bytes()
    write_named(given, path)
    assert path.read_bytes() == first
    back = read_named(path)
    assert survivals(back) == survivals(given)
    assert back.image_ids.tolist() == given.image_ids.tolist()
    assert len(shortcuts_of(tmp_path, "w")) == 1
    assert shortcuts_of(tmp_path, "other weights") == ()
    assert shortcuts_of(tmp_path / "nowhere", "w") == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "cannot be read"),
        (gzip.compress(b""), "no"),
        (gzip.compress(b"image_id,unchanged\n1,normal\n"), "has the columns image_id, unchanged"),
        (gzip.compress(b"weights_sha256,image_id,group_id,finding,unchanged\n"), "0 rows"),
        (gzip.compress(b"weights_sha256,image_id,group_id,finding,unchanged\nw,1,1,a,a\nw,2,2,a\n"), "row 3: 4 cells"),
        (gzip.compress(b"weights_sha256,image_id,group_id,finding,unchanged\nw,1,1,a,a\nv,2,2,a,a\n"), "2 networks"),
    ],
    ids=["no gzip", "empty", "columns", "rows", "cells", "networks"],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / SHORTCUTS_FILE
    path.write_bytes(content)
    with pytest.raises(SurvivalError, match=message):
        read_named(path)


# --- on the command line, and on the card -----------------------------------------------------------------------------


def test_the_command_counts_over_held_out_films_and_keeps_the_figures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(zoo.weights_folder() / KEY, weights / KEY, ignore=shutil.ignore_patterns(SHORTCUTS_FILE))
    shutil.copytree(zoo.weights_folder() / "lungs", weights / "lungs")
    monkeypatch.setenv(zoo.WEIGHTS_VARIABLE, str(weights))
    there = tmp_path / "survival.csv"
    command = ["shortcuts", "--models", KEY, "--data", str(folder)]
    assert main([*command, "--output", str(there), "--write"]) == 0
    rows = list(csv.DictReader(there.read_text(encoding="utf-8").splitlines()))
    assert tuple(rows[0]) == SURVIVAL_COLUMNS
    assert [row["change"] for row in rows] == list(CHANGES)
    assert {row["films"] for row in rows} == {"7"}
    kept = zoo.read_card(KEY).shortcuts
    assert [f"{one['survives']['value']:.3f}" for one in kept] == [row["survives"] for row in rows]
    assert json.loads(recompute(KEY).to_json())["shortcuts"] == json.loads(zoo.read_card(KEY).to_json())["shortcuts"]
    capsys.readouterr()
    assert main([*command, "--split", "external"]) == 1
    assert "no films of the split external" in capsys.readouterr().err
    assert main([*command, "--split", "train", "--write"]) == 2
    assert "does not go with another --split" in capsys.readouterr().err


MEASURED = [key for key in zoo.shipped() if zoo.read_card(key).shortcuts]


def test_cards_say_what_survives() -> None:
    assert MEASURED


@pytest.mark.parametrize("key", MEASURED)
def test_shipped_figures_are_of_these_weights_and_of_every_finding(key: str) -> None:
    card, kept = zoo.read_card(key), read_named(zoo.weights_folder() / key / SHORTCUTS_FILE)
    assert kept.weights_sha256 == card.weights_sha256
    findings, counts = np.unique(kept.labels, return_counts=True)
    assert set(findings) == set(card.findings)
    assert counts.min() >= 30
    assert [one["change"] for one in card.shortcuts] == list(CHANGES)
