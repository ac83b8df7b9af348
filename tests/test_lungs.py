"""Outlines of lungs: what counts as a lung, how a film is cropped to them, and the network that finds them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.metrics import f1_score

from cxrmodels import lungs, zoo
from cxrmodels.datasets.manifest import COLUMNS, ManifestError, read_manifest
from cxrmodels.datasets.masks import BEHIND_HEART
from cxrmodels.engine import Engine
from cxrmodels.evaluation.outlines import DICE_FILE, Overlap, dice, read_overlaps, summarise_overlaps, write_overlaps
from cxrmodels.phantom import phantom
from cxrmodels.preprocessing import lung_box, prepare
from cxrmodels.radiograph import read_radiograph, to_png
from cxrmodels.training import lungs as training
from cxrmodels.training.recipes import FRESH
from cxrmodels.zoo import LUNGS


def two_lungs(size: int = 64) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[size // 4 : 3 * size // 4, size // 8 : 3 * size // 8] = True
    mask[size // 4 : 3 * size // 4, 5 * size // 8 : 7 * size // 8] = True
    return mask


# --- what counts as a lung --------------------------------------------------------------------------------------------
def test_specks_go_and_holes_are_filled() -> None:
    clean = two_lungs()
    spoilt = clean.copy()
    spoilt[2:5, 30:33] = True
    spoilt[30, 12] = False
    np.testing.assert_array_equal(lungs.tidy(spoilt), clean)


def test_one_lung_alone_stays_alone() -> None:
    mask = two_lungs()
    mask[:, 32:] = False
    mask[60:62, 60:62] = True
    assert lungs.tidy(mask)[:, 32:].sum() == 0
    assert not lungs.tidy(np.zeros((8, 8), bool)).any()


# --- outlines and where they come from --------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [64, 300])
def test_contours_go_around_each_lung_and_are_closed(size: int) -> None:
    mask = two_lungs(size)
    lines = lungs.contours(mask)
    assert len(lines) == 2
    for line in lines:
        np.testing.assert_array_equal(line[0], line[-1])
        assert 0 <= line.min() <= line.max() <= 1
    # Filled again they are the mask, but for what smoothing takes at corners.
    picture = Image.new("1", (8 * size, 8 * size))
    for line in lines:
        ImageDraw.Draw(picture).polygon([(8 * x * size, 8 * y * size) for x, y in line], fill=1)
    filled, mask = np.asarray(picture), np.kron(mask, np.ones((8, 8), bool))
    assert 2 * (filled & mask).sum() / (filled.sum() + mask.sum()) > 0.96
    edge = np.ones((40, 40), bool)
    (line,) = lungs.contours(edge)
    assert line.min() < 0.02
    assert line.max() > 0.98
    assert lungs.contours(np.zeros((40, 40), bool)) == ()


def test_lungs_are_the_drawn_ones_where_there_are_any_else_the_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = [phantom("normal", seed=3, index=index, size=128) for index in range(2)]
    lines = [",".join(COLUMNS)]
    for number, one in enumerate(films):
        data = to_png(one.pixels)
        (tmp_path / f"{number}.png").write_bytes(data)
        Image.fromarray(one.lung_mask).save(tmp_path / f"{number}-mask.png")
        cells = {"image_id": f"clinic/{number}", "path": f"{number}.png", "source": "clinic", "finding": "normal"}
        cells |= {"mask_path": "" if number else "0-mask.png", "split": "test", "patient_id": str(number)}
        cells |= {"group_id": str(number), "sha256": read_radiograph(data).sha256[:16]}
        lines.append(",".join(cells.get(column, "") for column in COLUMNS))
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    drawn, other = (read_radiograph(to_png(one.pixels)) for one in films)
    found = lungs.find(drawn, tmp_path)
    assert found is not None
    assert found.drawn
    np.testing.assert_array_equal(found.mask, films[0].lung_mask)
    for film, folder in ((other, tmp_path), (drawn, None), (drawn, tmp_path / "nowhere")):
        network = lungs.find(film, folder)
        assert network is not None
        assert not network.drawn
        np.testing.assert_array_equal(network.mask, lungs.mask_of(film))
    monkeypatch.setattr(lungs, "outline", lambda film: np.zeros((128, 128), bool))
    assert lungs.find(other, tmp_path) is None


# --- cropping ---------------------------------------------------------------------------------------------------------
def test_box_holds_the_lungs_with_a_margin() -> None:
    left, top, right, bottom = lung_box(two_lungs())
    assert (left, right) == pytest.approx((1 / 8 - 0.06 * 3 / 4, 7 / 8 + 0.06 * 3 / 4))
    assert (top, bottom) == pytest.approx((1 / 4 - 0.06 / 2, 3 / 4 + 0.06 / 2))


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_an_outline_too_small_to_be_lungs_crops_nothing(share: float) -> None:
    mask = np.zeros((100, 100), bool)
    mask[: int(100 * share)] = True
    assert lung_box(mask) == (0, 0, 1, 1)


def test_cropped_film_does_not_depend_on_exposure() -> None:
    """Whatever a look-up table does to the greys, while it keeps their order, the network sees the same."""
    film = phantom("covid19", seed=3, size=128, difficulty=0.3)
    seen = prepare(film.pixels, "lungs", 96, 1, film.lung_mask)
    assert seen.shape == (96, 96, 1)
    assert seen.min() >= 0
    assert seen.max() <= 1
    for table in (lambda grey: grey**2.2, lambda grey: 0.2 + 0.5 * grey, np.sqrt):
        changed = prepare(table(film.pixels).astype(np.float32), "lungs", 96, 1, film.lung_mask)
        # Not the very same: shrinking mixes greys before they are ranked.
        assert np.abs(changed - seen).mean() < 0.03


def test_greys_of_the_lungs_are_spread_evenly() -> None:
    film = phantom("normal", seed=3, size=128, difficulty=0.3)
    seen = prepare(film.pixels, "lungs", 128, 1, np.ones((4, 4), bool))[..., 0]
    np.testing.assert_allclose(np.quantile(seen, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.02)


def test_cropping_needs_an_outline() -> None:
    with pytest.raises(ValueError, match="needs their outline"):
        prepare(np.zeros((64, 64), np.float32), "lungs", 32, 1)


# --- how well ---------------------------------------------------------------------------------------------------------
def test_dice_is_f1() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.random((2, 40, 40)) > 0.6
    assert dice(one, two) == pytest.approx(f1_score(two.ravel(), one.ravel()))
    assert dice(np.zeros(3, bool), np.zeros(3, bool)) == 1


def overlaps() -> list[Overlap]:
    return [
        Overlap(f"film{i}", source, split, f"p{i // 2}", "adult", left_out, 0.9 + 0.001 * i)
        for i in range(20)
        for source, split, left_out in (("a", "test", ""), ("b", "external", ""), ("a", "train", "a"))
    ]


def test_overlaps_are_kept_and_summarised(tmp_path: Path) -> None:
    path = tmp_path / DICE_FILE
    write_overlaps(overlaps(), path)
    assert sorted(map(str, read_overlaps(path))) == sorted(map(str, overlaps()))
    told = {entry["name"]: entry for entry in summarise_overlaps(read_overlaps(path))}
    assert [(entry["seen"], entry["films"]) for entry in told.values()] == [(True, 20), (False, 20), (False, 20)]
    for entry in told.values():
        figure = entry["metrics"]["dice"]
        assert figure["value"] == pytest.approx(np.mean([0.9 + 0.001 * i for i in range(20)]), abs=1e-4)
        assert 0.9 < figure["low"] < figure["value"] < figure["high"] < 0.92


# --- training ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A data folder of synthetic films with masks: two sources that learn, one that never does."""
    folder = tmp_path / "data"
    (folder / "films").mkdir(parents=True)
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        for number in range(24):
            source, split = (
                ("kermany", "train"),
                ("kermany", "val"),
                ("shenzhen", "external"),
                ("montgomery", "external"),
            )[number % 4]
            film = phantom("normal", seed=1, index=number, size=128, difficulty=0.2)
            name = f"{source}{number}"
            (folder / "films" / f"{name}.png").write_bytes(film.png())
            Image.fromarray(film.lung_mask).save(folder / "films" / f"{name}-mask.png")
            row = dict.fromkeys(COLUMNS, "")
            row |= {"image_id": f"{source}/{name}", "path": f"films/{name}.png", "mask_path": f"films/{name}-mask.png"}
            row |= {"source": source, "finding": "normal", "group_id": name, "split": split, "age_group": "adult"}
            writer.writerow(row)
    return folder


def test_some_sources_are_never_learnt_from(drawn: Path) -> None:
    films = read_manifest(drawn)
    learnt, choosing = training.split(films)
    assert {film.source for film in [*learnt, *choosing]} == {"kermany", "shenzhen"}
    assert not set(learnt) & set(choosing)
    left, _ = training.split(films, ["kermany"])
    assert {film.source for film in left} == {"shenzhen"}


def test_network_is_trained_measured_and_used(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "EPOCHS", 2)
    monkeypatch.setattr(training, "FILMS_AN_EPOCH", 64)
    weights = tmp_path / "weights"
    told: list[int] = []
    card = training.train_lungs(
        data=drawn, weights=weights, work=tmp_path / "work", init=FRESH, report=lambda epoch, *_: told.append(epoch)
    )
    assert told == [1, 2]
    assert card.training_sources == ("kermany", "shenzhen")
    measured = {entry["name"]: entry for entry in card.metrics}
    assert not measured["montgomery"]["seen"]
    again = training.describe(
        read_overlaps(weights / LUNGS.key / DICE_FILE),
        {name: getattr(card, name) for name in training.FACTS},
    )
    assert again.to_json() == card.to_json()
    monkeypatch.setenv(zoo.WEIGHTS_VARIABLE, str(weights))
    lungs.forget()
    film = phantom("normal", seed=9, size=160, difficulty=0.2).radiograph()
    found = lungs.outline(film)
    assert found.shape == (LUNGS.input_size, LUNGS.input_size)
    assert lungs.outline(film) is found, "asked again, the same"
    np.testing.assert_array_equal(found, lungs.outline_batch(lungs.network_film(film.pixels)[None])[0])
    lungs.forget()


def test_a_mask_says_of_the_other_what_follows_from_it() -> None:
    """The lung beside the heart is a part of the lung: where there is no lung there is none of it either, and all of it
    is lung. What lies behind the heart is known of neither: it is between the lungs and down to where they end."""
    mask = np.zeros((64, 64), np.float32)
    mask[10:50, 8:24] = 1
    mask[10:50, 40:56] = 1
    mask[28:50, 40:48] = 0  # the heart
    whole, beside = np.moveaxis(training.targets(mask, 0), -1, 0)
    np.testing.assert_array_equal(whole, mask)
    assert (beside[mask == 0] == 0).all()
    assert (beside[mask == 1] < 0).all()
    whole, beside = np.moveaxis(training.targets(mask, 1), -1, 0)
    np.testing.assert_array_equal(beside, mask)
    assert (whole[mask == 1] == 1).all()
    assert (whole[30:50, 40:48] < 0).all(), "it may be lung behind the heart"
    for none in (whole[:6], whole[54:], whole[:, :4], whole[:, 60:], whole[:, 29:35]):
        assert (none == 0).all(), "above and below the lungs, at their sides and between them there is none"


@pytest.mark.parametrize("lungs_drawn", [0, 1, 3])
def test_any_number_of_parts_may_be_drawn(lungs_drawn: int) -> None:
    """A film that was moved may have lost a lung, or both; a mask may have specks."""
    mask = np.zeros((64, 64), np.float32)
    for part in range(lungs_drawn):
        mask[20:40, 8 + 20 * part : 18 + 20 * part] = 1
    mask[60, 60] = 1
    whole = training.targets(mask, 1)[..., 0]
    assert (whole[mask == 1] == 1).all()
    assert (whole[:14] == 0).all()


def test_what_is_not_known_costs_nothing() -> None:
    """Of the mask that a film's data set does not draw, only the places that follow from the other one count."""
    rng = np.random.default_rng(0)
    mask = (rng.random((8, 8)) > 0.5).astype(np.float32)
    truth = np.stack([training.targets(mask, which) for which in (0, 1)])
    answers = rng.normal(size=truth.shape).astype(np.float32)
    changed = np.where(truth < 0, -answers, answers)
    loss = training.OverlapLoss(reduction=None)
    np.testing.assert_allclose(loss(truth, answers), loss(truth, changed), rtol=1e-6)
    right = np.where(truth > 0.5, 20, -20).astype(np.float32)
    assert np.asarray(loss(truth, right)).max() < 1e-3
    assert np.asarray(loss(truth, -right)).min() > 10


def test_what_the_cards_say_the_sources_draw(data_dir: Path) -> None:
    """With the lung behind the heart, or without: the middle of the picture's lower half is lung in the ones alone."""
    share: dict[str, list[float]] = {}
    for film in read_manifest(data_dir):
        if film.mask_path is not None and len(share.setdefault(film.source, [])) < 60:
            with Image.open(film.mask_path) as picture:
                mask = np.asarray(picture.convert("L").resize((64, 64))) > 127
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            height, width = box.shape
            # Right of the middle, where the heart lies, from half-way down to five sixths.
            share[film.source].append(
                float(box[height // 2 : height * 5 // 6, width * 11 // 20 : width * 7 // 10].mean())
            )
    assert set(share) >= BEHIND_HEART
    with_heart = [np.mean(values) for source, values in share.items() if source in BEHIND_HEART]
    without = [np.mean(values) for source, values in share.items() if source not in BEHIND_HEART]
    assert min(with_heart) > max(without) + 0.1


def test_no_masks_no_training(drawn: Path, tmp_path: Path) -> None:
    films = [replace(film, mask_path=None) for film in read_manifest(drawn)]
    with pytest.raises(ValueError, match="0 films to learn from"):
        training.fit_lungs(*training.split(films), seed=0, folder=tmp_path / "work", report=lambda *_: None)
    with pytest.raises(ManifestError):
        training.train_lungs(data=tmp_path, weights=tmp_path, work=tmp_path / "work", report=lambda *_: None)


# --- what ships -------------------------------------------------------------------------------------------------------
def test_card_follows_from_stored_figures() -> None:
    card = zoo.read_card(LUNGS.key)
    stored = read_overlaps(zoo.weights_folder() / LUNGS.key / DICE_FILE)
    again = training.describe(stored, {name: getattr(card, name) for name in training.FACTS})
    assert again.to_json() == card.to_json()


def test_lungs_of_a_hospital_never_seen(data_dir: Path) -> None:
    """What is shipped outlines what was measured."""
    films = [film for film in read_manifest(data_dir) if film.source == "montgomery" and film.mask_path][:12]
    stored = {one.image_id: one.dice for one in read_overlaps(zoo.weights_folder() / LUNGS.key / DICE_FILE)}
    engine = Engine(zoo.load(LUNGS.key))
    for film in films:
        assert film.mask_path is not None
        prepared = lungs.network_film(read_radiograph(film.path.read_bytes(), film.path.name).pixels)
        both = engine.run(prepared[None]).logits[0]
        np.testing.assert_array_equal(lungs.outline_batch(prepared[None])[0], lungs.tidy(both[..., 0] > 0))
        found = lungs.tidy(both[..., training.drawn(film)] > 0)
        with Image.open(film.mask_path) as mask:
            truth = np.asarray(mask.convert("L").resize(found.shape, Image.Resampling.BILINEAR)) > 127
        assert dice(found, truth) == pytest.approx(stored[film.image_id], abs=0.03)
