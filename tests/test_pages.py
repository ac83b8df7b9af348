"""The pages as a viewer uses them, without a browser: every state is designed, none is an exception."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

from cxrmodels import NOTICE, zoo
from cxrmodels.council import call
from cxrmodels.datasets.manifest import COLUMNS
from cxrmodels.evaluation.calibration import NOT_SURE
from cxrmodels.explain.changes import CHANGES
from cxrmodels.explain.saliency import METHODS
from cxrmodels.findings import TITLES
from cxrmodels.inference import predict
from cxrmodels.lab.config import PhantomData
from cxrmodels.lab.kept import keep
from cxrmodels.lungs import Lungs, contours, find, mask_of
from cxrmodels.markdown import plain
from cxrmodels.networks import build
from cxrmodels.phantom import PATTERNS, phantom
from cxrmodels.plots import COLOURS, OTHER_COLOUR, percent
from cxrmodels.radiograph import Radiograph, RadiographError, read_radiograph, to_png
from cxrmodels.service import Reading, Service
from cxrmodels.zoo import CARD_FILE, OWN, SPECS, WEIGHTS_FILE, ModelError, read_card, shipped, weights_folder
from tests.broken_inputs import PATIENT, broken_inputs
from tests.test_lab_kept import CONFIG, ended

APP = str(Path(__file__).resolve().parent.parent / "app.py")
READ, MODELS = "pages/read_a_film.py", "pages/models.py"
LOOKS = 600
"""How often a page is looked at again before its networks count as stuck."""

Make = Callable[[], AppTest]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """No cache, setting or worker of one test reaches the next; the loaded networks are shared on purpose."""
    monkeypatch.delenv("CXRMODELS_DATA", raising=False)
    # It would read the weights of whichever test comes next.
    monkeypatch.setattr("cxrmodels.ui.frame._look_ahead", lambda: None)
    st.cache_data.clear()
    st.cache_resource.clear()
    if "own_service" not in request.fixturenames:
        warm = request.getfixturevalue("warm")
        monkeypatch.setattr("cxrmodels.service.Service", lambda: warm)
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture(scope="module")
def warm() -> Iterator[Service]:
    """One service for all tests that use the shipped weights: loading TensorFlow once is enough."""
    service = Service()
    yield service
    service.close()


@pytest.fixture
def own_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For tests with weights of their own: the services that pages make end with the test."""
    made: list[Service] = []

    def new() -> Service:
        made.append(Service())
        return made[-1]

    monkeypatch.setattr("cxrmodels.service.Service", new)
    yield
    for service in made:
        service.close()


def check(at: AppTest) -> AppTest:
    assert not at.exception, [one.value for one in at.exception]
    return at


def started() -> AppTest:
    """A session in which the notice is accepted."""
    at = check(AppTest.from_file(APP, default_timeout=60).run())
    return check(at.button(key="accept_notice").click().run())


def answered(at: AppTest) -> AppTest:
    """Look again, as the page itself does, until nothing is waited for."""
    for _ in range(LOOKS):
        if not at.get("skeleton") and not at.get("progress"):
            return at
        time.sleep(0.1)
        check(at.run())
    raise AssertionError(f"still waiting after {LOOKS} looks: {words(at)[-500:]}")


def components(at: AppTest) -> list[dict[str, Any]]:
    """What the page's own components were given: AppTest renders them, but cannot click in them."""
    protos: list[Any] = [element.proto for element in at.get("bidi_component")]
    return [json.loads(proto.json) for proto in protos]


def viewers(at: AppTest) -> list[dict[str, Any]]:
    return [data for data in components(at) if "film" in data]


def strip(at: AppTest) -> dict[str, Any]:
    (gallery,) = (data for data in components(at) if "films" in data)
    return gallery


def ready_keys(at: AppTest) -> list[str]:
    return [film["key"] for film in strip(at)["films"]]


def pick(at: AppTest, key: str) -> AppTest:
    """Choose a ready film; that a click in the gallery does the same is tested in the browser."""
    assert key in ready_keys(at)
    at.session_state["chosen_film"] = key
    return check(at.run())


def opened(at: AppTest, key: str = "phantom/covid19") -> AppTest:
    return answered(pick(at, key))


def uploaded(at: AppTest, *files: tuple[str, bytes]) -> AppTest:
    check(at.file_uploader(key="uploads").set_value([(*file, "application/octet-stream") for file in files]).run())
    return answered(at)


def words(at: AppTest) -> str:
    """All text on the page."""
    kinds = (at.markdown, at.caption, at.info, at.warning, at.error, at.header, at.subheader)
    return "\n".join(str(one.value) for kind in kinds for one in kind)


def alts(at: AppTest, kind: str) -> list[str]:
    """Alternative texts of all pictures (`image`) or charts (`plotly_chart`), none of them missing."""
    found = []
    for element in at.get(kind):
        proto: Any = element.proto
        found += [one.alt for one in proto.imgs] if kind == "image" else [proto.alt]
        # The server may have deleted what has an address of its own before a slow browser asks for it.
        assert kind != "image" or all(one.url.startswith("data:image/") for one in proto.imgs)
    assert all(found)
    return found


def probabilities(at: AppTest) -> dict[str, list[dict[str, Any]]]:
    """The bars of each network, by its title."""
    return {data["label"].rpartition(":")[0]: data["bars"] for data in components(at) if "bars" in data}


def agreement(at: AppTest) -> dict[str, dict[str, Any]]:
    """The dot of each network on the common axis, by its title."""
    (dots,) = (data["dots"] for data in components(at) if "dots" in data)
    return {dot["name"]: dot for dot in dots}


def heat_maps(at: AppTest) -> list[str]:
    return [alt for alt in alts(at, "image") if ", layer " in alt]


def cards(at: AppTest) -> dict[str, str]:
    """Text of each network's card."""
    found = {}
    for key in shipped():
        card = at.get_by_key(f"card_{key}")
        kinds = (card.markdown, card.caption, card.error)
        found[key] = "\n".join(str(one.value) for kind in kinds for one in kind)
    return found


def look_anyway(at: AppTest) -> None:
    """Have the networks' claims of a film that the gate refuses."""
    for toggle in at.toggle:
        if str(toggle.key).startswith("look anyway"):
            answered(check(toggle.set_value(True).run()))


def shown_name(at: AppTest) -> str:
    """Name of the film that the viewer was given."""
    return str(viewers(at)[0]["name"])


def film(finding: str = "normal", seed: int = 0, synthetic: bool = False) -> bytes:
    """A drawn film as PNG; unless `synthetic`, it does not say so and passes for a real one."""
    drawn = phantom(finding, seed=seed, size=96)
    return drawn.png() if synthetic else to_png(drawn.pixels)


def write_data(folder: Path, source: str = "clinic") -> Path:
    """A small data folder with a manifest."""
    folder.mkdir()
    lines = [",".join(COLUMNS)]
    for number, finding in enumerate(PATTERNS):
        data = film(finding, seed=number)
        (folder / f"{finding}.png").write_bytes(data)
        cells = {"image_id": f"clinic/{number}", "path": f"{finding}.png", "source": source, "finding": finding}
        digest = read_radiograph(data).sha256[:16]
        cells |= {"patient_id": str(number), "group_id": str(number), "split": "external", "sha256": digest}
        lines.append(",".join(cells.get(column, "") for column in COLUMNS))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


# --- every page, whatever the data folder is --------------------------------------------------------------------------


@pytest.mark.parametrize("page", [READ, MODELS])
@pytest.mark.parametrize("data", [False, True], ids=["no data", "data"])
def test_every_page_stands(page: str, data: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if data:
        monkeypatch.setenv("CXRMODELS_DATA", str(write_data(tmp_path / "data")))
    at = check(started().switch_page(page).run())
    assert len(at.header) == 1
    assert not at.warning
    assert not at.error
    assert NOTICE in words(at)
    if page == READ:
        keys = ready_keys(at)
        assert {f"phantom/{finding}" for finding in PATTERNS} <= set(keys)
        assert ("clinic/0" in keys) == data


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def no_manifest(folder: Path) -> None:
    (folder / "manifest.csv").unlink()


def no_text(folder: Path) -> None:
    (folder / "manifest.csv").write_bytes(b"\xff\xfe\x00manifest" * 50)


def empty(folder: Path) -> None:
    (folder / "manifest.csv").write_text("")


def no_column(folder: Path) -> None:
    path = folder / "manifest.csv"
    path.write_text(path.read_text().replace("sha256", "checksum"))


def short_row(folder: Path) -> None:
    with (folder / "manifest.csv").open("a") as stream:
        stream.write("clinic/9,x.png\n")


def endless_cell(folder: Path) -> None:
    with (folder / "manifest.csv").open("a") as stream:
        stream.write("x" * 200_000 + "\n")


def unknown_finding(folder: Path) -> None:
    path = folder / "manifest.csv"
    path.write_text(path.read_text().replace(",covid19,", ",<b>gout</b>,"))


def film_outside(folder: Path) -> None:
    path = folder / "manifest.csv"
    path.write_text(path.read_text().replace(",normal.png,", ",../../normal.png,"))


def film_gone(folder: Path) -> None:
    (folder / "covid19.png").unlink()


def film_broken(folder: Path) -> None:
    (folder / "covid19.png").write_bytes(film()[:200])


def film_is_folder(folder: Path) -> None:
    (folder / "covid19.png").unlink()
    (folder / "covid19.png").mkdir()


@pytest.mark.parametrize(
    "harm",
    [
        no_folder,
        no_manifest,
        no_text,
        empty,
        no_column,
        short_row,
        endless_cell,
        unknown_finding,
        film_outside,
        film_gone,
        film_broken,
        film_is_folder,
    ],
)
def test_a_broken_data_folder_is_a_warning(
    harm: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_data(tmp_path / "data")
    harm(folder)
    monkeypatch.setenv("CXRMODELS_DATA", str(folder))
    at = started()
    assert at.warning or at.error
    opened(at)
    assert list(cards(at)) == list(shipped())
    assert len(heat_maps(at)) == len(shipped())
    check(at.switch_page(MODELS).run())


def test_a_film_lost_after_the_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_data(tmp_path / "data")
    monkeypatch.setenv("CXRMODELS_DATA", str(folder))
    at = started()
    (folder / "covid19.png").unlink()
    number = list(PATTERNS).index("covid19")
    pick(at, f"clinic/{number}")
    assert len(at.error) == 1
    opened(at)
    assert not at.error


# --- the notice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [READ, MODELS])
def test_the_notice_is_shown_once(first: str) -> None:
    at = check(AppTest.from_file(APP, default_timeout=60).run())
    check(at.switch_page(first).run())
    assert f"**{NOTICE}**" in words(at)
    check(at.run())
    assert f"**{NOTICE}**" in words(at)
    check(at.button(key="accept_notice").click().run())
    for page in (first, READ, MODELS, READ):
        check(at.switch_page(page).run())
        assert f"**{NOTICE}**" not in words(at)
        assert "accept_notice" not in [button.key for button in at.button]


# --- a film and its answers -------------------------------------------------------------------------------------------


def titles() -> list[str]:
    return [SPECS[key].title for key in shipped()]


@pytest.mark.parametrize("finding", PATTERNS)
def test_every_network_answers_a_ready_film(finding: str, warm: Service) -> None:
    at = opened(started(), f"phantom/{finding}")
    assert not at.error
    shown = cards(at)
    maps, bars, dots = heat_maps(at), probabilities(at), agreement(at)
    assert len(maps) == len(bars) == len(dots) == len(shipped())
    drawn = phantom(finding, seed=2020, size=512, difficulty=0.2).radiograph()
    for key in shipped():
        title = SPECS[key].title
        prediction, _ = predict(warm.engine(key).result(60), drawn)
        top = prediction.findings[prediction.top]
        value = percent(float(prediction.probabilities[prediction.top]))
        assert f"**{title}**" in shown[key]
        assert ("Not sure" in shown[key].splitlines()[1]) == (prediction.decision == NOT_SURE)
        assert f"{TITLES[top]}, {value}" in shown[key].splitlines()[1].replace("\N{NO-BREAK SPACE}", " ")
        assert "Track record" in shown[key]
        said = zip(prediction.findings, prediction.probabilities.tolist(), strict=True)
        assert [(bar["name"], bar["said"], bar["colour"]) for bar in bars[title]] == [
            (TITLES[name], percent(probability), COLOURS.get(name, OTHER_COLOUR)) for name, probability in said
        ]
        np.testing.assert_allclose([bar["value"] for bar in bars[title]], prediction.probabilities, atol=1e-4)
        (heat,) = [alt for alt in maps if f", {title}: " in alt]
        assert f"Grad-CAM for {TITLES[top]}, layer {SPECS[key].feature_layer}" in heat
        assert dots[title]["said"] == percent(prediction.probability("covid19") or 0)
        assert dots[title]["call"] == {NOT_SURE: "unsure"}.get(call(prediction), call(prediction))
        # Of an empty map there is no evidence to speak of.
        assert ("evidence lies inside the lungs" in shown[key]) != ("map is empty" in shown[key])
    assert NOTICE in words(at)
    assert "Where they look" in words(at)
    assert len([alt for alt in alts(at, "image") if alt.startswith(("Consensus of", "Disagreement of"))]) == 2
    (lungs,) = (mask for mask in [mask_of(drawn)] if mask is not None)
    assert len(viewers(at)[0]["outline"]) == len(contours(lungs))


def test_a_synthetic_film_is_marked() -> None:
    at = opened(started())
    assert any("synthetic" in info.value for info in at.info)


def test_an_uploaded_film_is_answered_like_a_ready_one() -> None:
    at = uploaded(started(), ("mine.png", film()))
    assert shown_name(at) == "mine.png"
    assert not any("synthetic" in info.value for info in at.info)
    assert all(f"**{title}**" in card for title, card in zip(titles(), cards(at).values(), strict=True))
    assert len(heat_maps(at)) == len(shipped())


def test_a_synthetic_film_stays_marked_as_a_file() -> None:
    at = uploaded(started(), ("said to be real.png", film(synthetic=True)))
    assert any("synthetic" in info.value for info in at.info)


def test_a_film_from_the_data_folder_says_where_it_is_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = read_card(shipped()[0]).training_sources[0]
    for source in ("clinic", known):
        st.cache_resource.clear()
        folder = write_data(tmp_path / source, source)
        monkeypatch.setenv("CXRMODELS_DATA", str(folder))
        at = started()
        for as_file in (False, True):
            # Uploaded under another name, it is told from its content.
            at = uploaded(at, ("renamed.png", film())) if as_file else opened(at, "clinic/0")
            assert f"From {source}" in words(at)
            for key, card in cards(at).items():
                seen = source in read_card(key).training_sources
                assert ("was in its training" in card) == seen
                assert ("was **not** in its training" in card) == (not seen)


def test_another_finding_method_and_opacity_make_another_map() -> None:
    at = opened(started())

    def pictures() -> list[str]:
        return [one.url for element in at.get("image") for one in element.proto.imgs if ", layer " in one.alt]

    before = pictures()
    answered(check(at.slider(key="opacity").set_value(90).run()))
    assert not set(pictures()) & set(before)
    for method in METHODS:
        answered(check(at.selectbox(key="method").set_value(method).run()))
        assert len(heat_maps(at)) == len(shipped())
        assert all(alt.startswith(METHODS[method].title + " for ") for alt in heat_maps(at))
    answered(check(at.slider(key="opacity").set_value(0).run()))
    assert len(heat_maps(at)) == len(shipped())


def check_findings(at: AppTest) -> set[bool]:
    """Choose every finding that is offered; each network shows its map or says that it has none."""
    seen = set()
    findings = dict.fromkeys(finding for key in shipped() for finding in SPECS[key].findings)
    assert at.selectbox(key="finding").options[1:] == [TITLES[finding] for finding in findings]
    for finding in findings:
        answered(check(at.selectbox(key="finding").set_value(finding).run()))
        for key, card in cards(at).items():
            able = finding in SPECS[key].findings
            seen.add(able)
            assert (f"does not answer {TITLES[finding]}" in card) == (not able)
            mine = [alt for alt in heat_maps(at) if f", {SPECS[key].title}: " in alt]
            assert len(mine) == able
            assert all(f" for {TITLES[finding]}, " in alt for alt in mine)
    return seen


def test_every_finding_can_be_asked_for() -> None:
    check_findings(opened(started()))


def test_the_chosen_film_outlives_a_visit_to_another_page() -> None:
    at = opened(started(), "phantom/viral_pneumonia")
    name = shown_name(at)
    check(at.switch_page(MODELS).run())
    answered(check(at.switch_page(READ).run()))
    assert shown_name(at) == name


def waits_for(at: AppTest) -> str:
    """What stands on the bar while networks have not answered."""
    bar: Any = at.get("progress")[0].proto
    return str(bar.text)


def test_the_place_in_line_is_shown_and_a_full_line_told(warm: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    at, go_on = started(), threading.Event()
    others = [phantom("normal", seed=seed, size=96).radiograph() for seed in range(50, 52)]
    warm._worker.submit(go_on.wait, 120)
    monkeypatch.setattr("cxrmodels.ui.results._PATIENCE_SECONDS", 0.5)
    try:
        asked = [warm.read(one, shipped()[0], f"another {number}") for number, one in enumerate(others)]
        assert "3rd in line. 2 films of other viewers come first." in waits_for(pick(at, "phantom/covid19"))
        monkeypatch.setattr(warm._line, "_most", 1)
        full = waits_for(pick(at, "phantom/normal"))
        assert full.startswith("The program is busy: ")
        assert full.endswith("This page does so by itself.")
    finally:
        go_on.set()
    for future in asked:
        future.result(120)
    # There is room again: the page, looking again, is answered.
    answered(at)


def test_one_film_after_the_other() -> None:
    at = started()
    for finding in [*PATTERNS, *reversed(PATTERNS)]:
        opened(at, f"phantom/{finding}")
        assert strip(at)["chosen"] == f"phantom/{finding}"


# --- uploads ----------------------------------------------------------------------------------------------------------


def test_of_several_files_the_broken_one_is_named() -> None:
    at = uploaded(started(), ("first.png", film(seed=1)), ("broken film.png", film()[:300]), ("last.png", film(seed=2)))
    (error,) = at.error
    assert "broken film.png" in error.value
    assert at.pills[0].options == ["first.png", "last.png"]
    assert shown_name(at) == "last.png"
    assert len(heat_maps(at)) == len(shipped())
    # The other one can be had, too, and a ready film after it.
    identity = at.pills[0].proto.options[0].content
    assert identity == "first.png"
    check(at.pills[0].set_value("first.png").run())
    answered(at)
    assert shown_name(at) == "first.png"
    opened(at)
    assert shown_name(at).startswith("phantom")
    assert len(at.error) == 1


def test_taking_the_files_away_again() -> None:
    at = uploaded(started(), ("mine.png", film()), ("bad.png", b"no"))
    check(at.file_uploader(key="uploads").set_value([]).run())
    assert not at.error
    assert not viewers(at)
    assert len(at.info) == 1


HOSTILE = (
    "<script>alert(1)</script>.png",
    "**loud**.png",
    "[a link](https://example.org).png",
    "![picture](https://example.org/x.png).png",
    "`code` $x^2$ :red[red] :material/home:.png",
    "# heading\n- list.png",
    "two\nlines.png",
    "\u202egnp.exe",
    "\x1b[31mred.png",
    "../../etc/passwd",
    "",
    "肺 🫁.png",
)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_is_shown_as_text(name: str) -> None:
    # In an error, Markdown's code is the one thing that shows a name as it is.
    at = uploaded(started(), (name, b"no picture"))
    (error,) = at.error
    assert error.value.startswith("`")
    told, _, rest = error.value[1:].partition("`")
    assert told.isprintable()
    assert "<" not in rest
    assert len(told) <= 80
    # The viewer gets it as data, and nobody else may put it on the page as Markdown.
    at = uploaded(started(), (name, film()))
    assert shown_name(at).isprintable()
    for dangerous in ("<script>", "**loud**", "](https:", "$x^2$", ":red["):
        assert dangerous not in words(at)


def test_every_broken_input_gives_an_answer_or_a_message() -> None:
    inputs = broken_inputs()
    at = started()
    for first in range(0, len(inputs), 12):
        batch = inputs[first : first + 12]
        refused = 0
        for name, data in batch:
            try:
                read_radiograph(data, name)
            except RadiographError:
                refused += 1
        uploaded(at, *batch)
        broken = [error for error in at.error if error.icon == ":material/broken_image:"]
        assert len(broken) == refused
        look_anyway(at)
        assert PATIENT.split("^")[0] not in words(at)
        if refused < len(batch):
            assert len(heat_maps(at)) == len(shipped())
        # A page must not carry megabytes of somebody's file name.
        assert max(len(error.value) for error in at.error) < 1000 if refused else True
        assert all(len(option) <= 100 for pills in at.pills for option in pills.options)


def test_real_files_of_every_kind(data_dir: Path) -> None:
    paths = sorted(
        path
        for folder in ("negatives", "dicom", "originals")
        for path in (data_dir / folder).rglob("*")
        if path.is_file()
    )
    at = started()
    for first in range(0, len(paths), 8):
        batch = [(path.name, path.read_bytes()) for path in paths[first : first + 8]]
        uploaded(at, *batch)
        for name, data in batch:
            try:
                read_radiograph(data, name)
            except RadiographError as error:
                problem = str(error)
            else:
                problem = ""
            told = [one.value for one in at.error if f"`{name}`" in one.value]
            assert len(told) == bool(problem)
            assert all(problem in one for one in told)
        look_anyway(at)
        assert len(heat_maps(at)) == len(shipped())


def test_the_real_data_folder_stands(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRMODELS_DATA", str(data_dir))
    at = started()
    assert not at.warning
    real = [key for key in ready_keys(at) if not key.startswith("phantom/")]
    assert real
    for key in real:
        opened(at, key)
        assert not any("synthetic" in info.value for info in at.info)
        assert "From " in words(at)
        assert len(heat_maps(at)) == len(shipped())


# --- weights that are missing, altered, or of several models ----------------------------------------------------------


def test_missing_weights_are_said(own_service: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(tmp_path))
    at = started()
    pick(at, "phantom/normal")
    answered(at)
    assert any("No network is shipped" in error.value for error in at.error)
    assert not at.get("download_button")
    check(at.switch_page(MODELS).run())
    assert all(SPECS[key].title in words(at) for key in SPECS)


class Shelf(NamedTuple):
    """A weights folder of two models, and the key of the second."""

    folder: Path
    added: str


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """What is shipped, and beside it one untrained four-finding network: tests need two models that differ."""
    folder = tmp_path_factory.mktemp("weights") / "weights"
    shutil.copytree(weights_folder(), folder)
    added = "multi_lung_cnn"
    if not (folder / added / WEIGHTS_FILE).is_file():
        spec = SPECS[added]
        network = build(spec.network, spec.input_size, spec.channels, len(spec.findings))
        (folder / added).mkdir(exist_ok=True)
        with warnings.catch_warnings():
            # Keras reads its variables in a way that NumPy has deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            digest = zoo.save_weights(network, folder / added / WEIGHTS_FILE)
        card = dataclasses.replace(
            read_card(shipped()[0]), key=added, title=spec.title, findings=spec.findings, weights_sha256=digest
        )
        (folder / added / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
    return Shelf(folder, added)


def test_two_models_side_by_side(own_service: None, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(shelf.folder))
    assert len(shipped()) >= 2
    at = opened(started())
    assert list(cards(at)) == list(shipped())
    assert len(heat_maps(at)) == len(shipped())
    # Here some network cannot answer, whatever is shipped.
    assert check_findings(at) == {True, False}


# Keras warns about weights that do not fit before it refuses them; in the program that is no error by itself.
@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
@pytest.mark.parametrize("harm", ["weights", "card", "other network"])
def test_an_altered_model_says_so_and_the_others_go_on(
    own_service: None, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(shelf.folder, folder)
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(folder))
    bad = shipped()[0]
    weights = folder / bad / WEIGHTS_FILE
    if harm == "weights":
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    elif harm == "card":
        (folder / bad / CARD_FILE).write_text('{"key": ')
    else:
        shutil.copy(folder / shelf.added / WEIGHTS_FILE, weights)
        card = dataclasses.replace(read_card(bad), weights_sha256=zoo.file_sha256(weights))
        (folder / bad / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
    at = opened(started())
    assert len(at.error) == 1
    for key, card_text in cards(at).items():
        assert ("Restore weights/" in card_text) == (key == bad)
    assert len(heat_maps(at)) == len(shipped()) - 1
    check(at.switch_page(MODELS).run())


def test_a_model_that_fails_slowly_says_so_too(
    own_service: None, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Large networks take seconds until they fail. The page must not ask anew, and for ever, each time it looks.
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(shelf.folder))
    bad, real = shipped()[0], zoo.load
    tried = 0

    def slowly(key: str) -> zoo.LoadedModel:
        nonlocal tried
        if key == bad:
            tried += 1
            time.sleep(1)
            raise ModelError("The weights do not fit.")
        return real(key)

    monkeypatch.setattr("cxrmodels.service.load", slowly)
    monkeypatch.setitem(globals(), "LOOKS", 60)
    at = opened(started())
    assert "do not fit" in cards(at)[bad]
    assert tried < 10


def test_a_heat_map_that_fails_spares_the_answers(monkeypatch: pytest.MonkeyPatch, own_service: None) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret path")

    monkeypatch.setattr("cxrmodels.service.saliency", broken)
    at = opened(started())
    assert len(at.error) == len(shipped())
    assert "secret" not in words(at)
    # What the networks say is known and must still be shown; there are no maps to compare.
    assert len(probabilities(at)) == len(agreement(at)) == len(shipped())
    assert "Where they look" not in words(at)
    assert at.get("download_button")


def test_a_network_that_was_kept_answers_beside_the_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRMODELS_RUNS", str(tmp_path))
    names = ("**Loud** network", "Pneumonia or not")
    asks = (("normal", "covid19"), ("normal", "bacterial_pneumonia"))
    for name, findings in zip(names, asks, strict=True):
        keep(ended(dataclasses.replace(CONFIG, name=name, data=PhantomData(films=40, findings=findings))))
    at = opened(started())
    said = words(at)
    assert r"\*\*Loud\*\* network (yours)" in said
    assert said.count("Trained by you") == 2
    assert len(heat_maps(at)) == len(shipped()) + 2
    # Who does not know COVID-19 has no part in the agreement on it.
    assert "**Loud** network (yours)" in agreement(at)
    assert "Pneumonia or not" not in str(agreement(at))


def test_cards_are_filled_as_answers_come(warm: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one run of the page, without anybody asking for another."""
    at = opened(started())
    real_read = warm.read
    late: dict[str, Future[Reading]] = {key: Future() for key in shipped()[1:]}
    seen: list[int] = []

    def read(radiograph: Radiograph, key: str, viewer: str = "") -> Future[Reading]:
        return late.get(key) or real_read(radiograph, key, viewer)

    def wait_for(futures: Collection[Future[Any]], _: float) -> None:
        """Let what is asked for come, then one network more at each look."""
        wait([future for future in futures if future not in late.values()])
        for key, future in late.items():
            if not future.done():
                seen.append(sum(one.done() for one in late.values()))
                future.set_result(real_read(drawn, key).result())
                return

    drawn = phantom("normal", seed=2020, size=512, difficulty=0.2).radiograph()
    monkeypatch.setattr(warm, "read", read)
    monkeypatch.setattr("cxrmodels.ui.results.wait", wait_for)
    pick(at, "phantom/normal")
    assert seen == list(range(len(late)))
    assert not at.get("progress")
    assert not at.get("skeleton")
    assert len(heat_maps(at)) == len(shipped())


def test_what_takes_long_is_looked_for_again(warm: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    at, go_on = opened(started()), threading.Event()
    monkeypatch.setattr("cxrmodels.ui.results._PATIENCE_SECONDS", 0.2)
    warm._worker.submit(go_on.wait, 120)
    try:
        pick(at, "phantom/viral_pneumonia")
        assert at.get("progress")
        assert not heat_maps(at)
    finally:
        go_on.set()
    answered(at)
    assert len(heat_maps(at)) == len(shipped())


@pytest.mark.parametrize("passes", [True, False], ids=["a film", "no film"])
def test_lungs_that_come_late_keep_no_film_waiting(
    passes: bool, warm: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: Future[Lungs | None] = Future()
    monkeypatch.setattr(warm, "lungs", lambda *_: late)
    monkeypatch.setattr("cxrmodels.ui.results._FILM_SECONDS", 0.01)
    monkeypatch.setattr("cxrmodels.ui.results._PATIENCE_SECONDS", 2.0)
    noise = to_png(np.random.default_rng(0).random((128, 128), np.float32))
    at = started()
    check(at.file_uploader(key="uploads").set_value([("x.png", film() if passes else noise, "image/png")]).run())
    (shown,) = viewers(at)
    assert not shown["outline"]
    assert bool(heat_maps(at)) == passes
    assert bool(at.error) == (not passes)
    late.set_result(find(read_radiograph(film()), None))
    check(at.run())
    (shown,) = viewers(at)
    assert shown["outline"]


def test_what_networks_have_in_common_is_told_one_by_one_on_demand() -> None:
    at = opened(started())
    assert not at.get("plotly_chart")
    at.session_state["council_details"] = True
    check(at.run())
    (chart,) = alts(at, "plotly_chart")
    assert "hottest fifths" in chart
    (table,) = at.dataframe
    # Those that answer the finding, in the order of their cards.
    told = list(table.value["Network"])
    assert len(told) > 1
    assert told == [title for title in titles() if title in told]


# --- the Models page --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", shipped())
def test_every_shipped_model_has_a_card_of_its_own_address(key: str) -> None:
    card = read_card(key)
    at = started().switch_page(MODELS)
    at.query_params["model"] = card.title
    check(at.run())
    assert [one.value for one in at.subheader] == [card.title]
    points, frame, *others = (element.value for element in at.dataframe)
    for aim in card.aims:
        (told,) = (line for line in words(at).splitlines() if f"{plain(aim['what'])}: {aim['value']:.2f} (" in line)
        assert ("not reached" in told) == (not aim["reached"])
        assert aim["reached"] or plain(aim["tried"]) in told, "what was tried, where it was not enough"
    left_out, changed = others[: bool(card.left_out)], others[bool(card.left_out) :]
    for table in left_out:
        assert list(table["Films"]) == [summary["name"] for summary in card.left_out]
        assert set(table["Source"]) == {"unseen"}
    assert list(points["Threshold"]) == [f"{point['threshold']:.2f}" for point in card.operating_points.values()]
    assert list(frame["Films"]) == [summary["name"] for summary in card.metrics]
    assert set(frame["Source"]) <= {"seen", "unseen"}
    assert frame["Accuracy"].iloc[0].startswith(f"{card.metrics[0]['metrics']['accuracy']['value']:.2f} (")
    # One that was trained since, and not asked about changed films, says so.
    assert len(changed) == bool(card.shortcuts)
    assert ("Not measured yet" in words(at)) != bool(card.shortcuts)
    for table in changed:
        assert len(table) == len(card.shortcuts)
        hidden = table[table["The film"] == CHANGES["no_lungs"].title].iloc[0]
        (kept,) = (one for one in card.shortcuts if one["change"] == "no_lungs")
        assert hidden["Survives"].startswith(f"{100 * kept['survives']['value']:.0f} % (")
        (chart,) = (alt for alt in alts(at, "plotly_chart") if "lungs painted black" in alt)
        assert f"{card.title} {hidden['Survives']}" in chart
    said = words(at)
    for part in (
        card.weights_sha256,
        f"{card.parameters:,} parameters",
        f"{card.cost['latency_ms']:.1f} ms",
        *([card.paper] if card.paper != OWN else []),
    ):
        assert part in said
    assert all(SPECS[other].title in said for other in SPECS if other not in shipped())


def test_the_viewer_gets_the_film_itself() -> None:
    data = film(seed=5)
    at = uploaded(started(), ("mine.png", data))
    (sent,) = viewers(at)
    values = np.asarray(Image.open(io.BytesIO(base64.b64decode(sent["film"]))))
    greys = values if sent["levels"] is None else np.array(sent["levels"])[values]
    np.testing.assert_allclose(greys / 65535, read_radiograph(data).pixels, atol=1e-4)
