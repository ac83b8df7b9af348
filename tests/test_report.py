"""The report: one file that loads nothing, that no name can break, and that finds out when it is no longer true."""

from __future__ import annotations

import copy
import gzip
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cxrmodels import NOTICE, __version__, cli
from cxrmodels.evaluation import report
from cxrmodels.evaluation.board import (
    COST,
    EQUAL,
    RESAMPLES,
    SEED,
    SENSITIVE,
    SHARED,
    Contender,
    Films,
    compare_on,
    contender,
    submitted,
)
from cxrmodels.evaluation.metrics import SEEN, UNSEEN
from cxrmodels.evaluation.predictions import write_predictions
from cxrmodels.evaluation.questions import QUESTIONS
from cxrmodels.evaluation.report import ReportError, Setting, check, facts, read_facts, report_html
from cxrmodels.evaluation.submitted import read_submission
from cxrmodels.evaluation.verdict import NAMES
from cxrmodels.zoo import PREDICTIONS_FILE, SPECS, shipped
from tests.test_board import HOSTILE, Rows, evaluation, made, put, rows
from tests.test_evaluation import FOUR

KEYS = ("two_conv_cnn", "multi_lung_cnn", "inception_v3")
LOADS = ("src", "href", "srcset", "poster", "data", "action", "formaction", "background", "cite", "ping", "xlink:href")
Facts = dict[str, Any]
Run = Callable[..., tuple[int, str, str]]


class Parts(HTMLParser):
    """What a browser would make of a page: tags, what attributes load, text outside and inside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[tuple[str, str, str]] = []
        self.handlers: list[str] = []
        self.styles, self.text = "", ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag
        self.loads += [(tag, name, value or "") for name, value in attrs if name in LOADS]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.styles += " ".join(value or "" for name, value in attrs if name == "style")
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            about, before = self.scripts[-1]
            self.scripts[-1] = about, before + data
        elif self._inside == "style":
            self.styles += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models on disk."""
    folder = tmp_path_factory.mktemp("report") / "weights"
    for number, key in enumerate(KEYS):
        put(folder, key, evaluation(rows(FOUR, 20), SPECS[key].findings, seed=number))
    return folder


@pytest.fixture(autouse=True)
def _these_models(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(shelf))


def here() -> list[Contender]:
    return [contender(key) for key in shipped()]


def exported(
    question: str = "covid_normal", films: Films | None = None, setting: Setting | None = None, *more: Contender
) -> str:
    """A report as the page exports it."""
    setting = setting or Setting()
    board = compare_on(
        [*here(), *more],
        QUESTIONS[question],
        films or Films(),
        threshold=setting.threshold,
        preset=setting.preset,
        cost_ratio=setting.cost_ratio,
    )
    return report_html(board, setting)


def edited(text: str, change: Callable[[Facts], None]) -> str:
    """The report with another data block."""
    found = read_facts(text)
    change(found)
    start = text.index(">", text.index('<script type="application/json"')) + 1
    return text[:start] + json.dumps(found).replace("<", "\\u003c") + text[text.index("</script>", start) :]


def test_what_ranks_is_in_the_report_where_films_differ(shelf: Path) -> None:
    """Whoever learnt from a source is not asked about it: the others are, and the order is by what they share."""
    one = here()[0]
    more = replace(one, key="wider", title="Wider", sha256="f" * 64, training_sources=(*one.training_sources, "far"))
    text = exported("covid_normal", None, None, more)
    page, found = Parts(text).text, read_facts(text)
    assert "Not all models are measured on the same films" in page
    assert "AUC, shared films" in page
    assert all(model["figures"]["auc_shared"] for model in found["models"])
    assert check(found, [*here(), more]) == []
    assert any("AUC, shared films was" in line for line in check(read_facts(edited(text, _moved)), [*here(), more]))


def _moved(found: Facts) -> None:
    found["models"][0]["figures"]["auc_shared"]["value"] = 0.123


CSV_HEAD = "image_id,finding,source,group_id,p_normal,p_covid19"


def own_csv() -> bytes:
    """Predictions on the films that the models here were asked about, too."""
    data = evaluation(rows(FOUR, 20), seed=7)
    lines = [CSV_HEAD]
    for number in range(len(data)):
        if data.labels[number] in ("normal", "covid19") and data.splits[number] == "external":
            p = data.probabilities()[number]
            place = data.image_ids[number], data.labels[number], data.sources[number], data.groups[number]
            lines.append(",".join([*place, f"{p[0]:.6f}", f"{1 - round(p[0], 6):.6f}"]))
    return "\n".join(lines).encode()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; gives its exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main([str(one) for one in arguments])
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        out, err = capsys.readouterr()
        return status, out, err

    return run


# --- one file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("where", [UNSEEN, SEEN, "far"])
def test_nothing_is_loaded_from_elsewhere(question: str, where: str) -> None:
    page = Parts(exported(question, Films(where)))
    assert page.loads == []
    assert page.handlers == []
    assert not {"link", "img", "iframe", "object", "embed", "base", "form", "video", "audio"} & set(page.tags)
    assert "url(" not in page.styles
    assert "@import" not in page.styles
    # plotly itself is inside, once.
    assert [len(code) > 10**6 for _, code in page.scripts].count(True) == 1
    assert not [code for about, code in page.scripts if "src" in about or "import(" in code[:2000]]


def test_without_charts_it_is_small() -> None:
    text = exported(films=Films("nowhere"))
    assert len(text) < 20_000
    assert "No model can answer this question on films of nowhere." in Parts(text).text


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_says_what_a_reader_needs(question: str) -> None:
    films = Films(UNSEEN, "child")
    text = exported(question, films)
    page, board = Parts(text).text, compare_on(here(), QUESTIONS[question], films)
    found = read_facts(text)
    assert QUESTIONS[question].title in page
    assert films.words() in page
    assert NOTICE in page
    assert __version__ in page
    assert f"{RESAMPLES} resamples of patients, seed {SEED}" in page
    assert "evaluate --check" in page
    for name, number in found["versions"].items():
        assert f"{name} {number}" in page
    for one in board.standings:
        assert one.contender.sha256 in page
        assert one.contender.card is not None
        assert one.contender.card.weights_sha256 in page
        for name, figure in one.figures.estimates.items():
            assert figure is None or f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})" in page, name
    for title, reason in board.unable:
        assert f"{title} takes no part. {reason}" in page
    assert [model["key"] for model in found["models"]] == [one.contender.key for one in board.standings]


@pytest.mark.parametrize("hostile", [*HOSTILE, "<!--<script>", "</script><script>alert(1)</script>", "]]>", "\u2028"])
def test_no_name_breaks_out(hostile: str) -> None:
    """Titles and sources come from files that somebody was sent."""

    def page(name: str) -> tuple[str, Parts]:
        films = [replace_source(one, name) for one in rows(FOUR, 20)]
        able = [made(evaluation(films, FOUR, seed=n), f"key {n}", title=f"{name} {n}", sources=()) for n in range(2)]
        unable = made(evaluation(films), "unable", title=f"{name} unable", sources=())
        board = compare_on([*able, unable], QUESTIONS["which_of_three"], Films(name))
        assert board.standings
        assert board.unable
        text = report_html(board, Setting())
        return text, Parts(text)

    text, found = page(hostile)
    _, plain = page("harmless")
    assert found.tags == plain.tags
    assert found.loads == plain.loads == []
    assert found.handlers == []
    assert f"{hostile} 0" in found.text
    assert f"{hostile} unable takes no part." in found.text
    assert f"On films of {hostile}, " in found.text
    # Inside a script a browser looks for "</" and "<!--" alone.
    assert not [code for _, code in found.scripts if len(code) < 10**6 and re.search(r"<[/!]|<script", code)]
    (block,) = [code for about, code in found.scripts if about.get("type") == "application/json"]
    assert json.loads(block) == read_facts(text) if hostile.isprintable() else json.loads(block)


def replace_source(one: Rows, source: str) -> Rows:
    return one._replace(source=source, split="external")


# --- what it was made from --------------------------------------------------------------------------------------------

SETTINGS = [
    Setting(),
    Setting(0.83),
    Setting(preset=EQUAL),
    Setting(preset=SENSITIVE),
    Setting(0.5, COST, 7.0),
]


@pytest.mark.parametrize(
    ("question", "setting"),
    # A preset belongs to a question with a threshold.
    [(key, s) for key, question in QUESTIONS.items() for s in SETTINGS if question.positive or not s.preset],
    ids=str,
)
def test_facts_come_back_and_are_equal_again(question: str, setting: Setting) -> None:
    films = Films(UNSEEN, "adult", "PA")
    board = compare_on(
        here(),
        QUESTIONS[question],
        films,
        threshold=setting.threshold,
        preset=setting.preset,
        cost_ratio=setting.cost_ratio,
    )
    found = read_facts(report_html(board, setting))
    assert found == json.loads(json.dumps(facts(board, setting)))
    assert Films(**found["films"]) == films
    assert Setting(**found["setting"]) == setting
    assert (found["resamples"], found["seed"], found["question"]) == (RESAMPLES, SEED, question)
    for model, one in zip(found["models"], board.standings, strict=True):
        assert model["predictions_sha256"] == one.contender.sha256
        assert model["threshold"] == one.threshold
    assert check(found, here()) == []


# --- what differs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def other_shelf(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models in another folder, which a test may damage."""
    folder = tmp_path / "weights"
    shutil.copytree(shelf, folder)
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(folder))
    return folder


def test_changed_predictions_are_said(other_shelf: Path) -> None:
    found = read_facts(exported())
    key = KEYS[1]
    write_predictions(evaluation(rows(FOUR, 20), FOUR, seed=99), other_shelf / key / PREDICTIONS_FILE)
    differs = check(found, here())
    title = SPECS[key].title
    assert f"{title}: its predictions changed" in differs[0]
    assert contender(key).sha256[:12] in differs[0]
    assert any(line.startswith(f"{title}: AUC was ") for line in differs)
    # The others are as they were.
    assert all(line.startswith(f"{title}: ") for line in differs)


def test_a_model_that_is_gone_is_said(other_shelf: Path) -> None:
    found = read_facts(exported())
    shutil.rmtree(other_shelf / KEYS[0])
    (line,) = check(found, here())
    assert line.startswith(f"{SPECS[KEYS[0]].title}: its predictions are not here")


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("macro") and not name.endswith(SHARED)])
@pytest.mark.parametrize("end", ["value", "low", "high"])
def test_an_edited_figure_is_found(name: str, end: str) -> None:
    text = exported()

    def better(found: Facts) -> None:
        found["models"][-1]["figures"][name][end] += 0.0001

    title = read_facts(text)["models"][-1]["title"]
    (line,) = check(read_facts(edited(text, better)), here())
    assert line.startswith(f"{title}: {NAMES[name]} was ")


def set_to(name: str, value: object) -> Callable[[Facts], None]:
    def change(found: Facts) -> None:
        found["models"][0][name] = value

    return change


def one_film_moved(found: Facts) -> None:
    row = found["models"][0]["confusion"][0]
    row[0], row[1] = row[0] + 1, row[1] - 1


def figure_gone(found: Facts) -> None:
    del found["models"][0]["figures"]["ece"]


def figure_none(found: Facts) -> None:
    found["models"][0]["figures"]["auc"] = None


def figure_more(found: Facts) -> None:
    found["models"][0]["figures"]["wisdom"] = {"value": 1.0, "low": 1.0, "high": 1.0}


def asked(name: str, value: object) -> Callable[[Facts], None]:
    def change(found: Facts) -> None:
        found[name] = value

    return change


def put_into(name: str, place: str, value: object) -> Callable[[Facts], None]:
    def change(found: Facts) -> None:
        found[name][place] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (one_film_moved, "confusion matrix"),
        (figure_gone, "Calibration error was not to be said"),
        (figure_none, "AUC was not to be said"),
        (figure_more, "wisdom was 1.0000"),
        (set_to("films", 10_000), "it was on 10,000 films"),
        (set_to("patients", 10_000), "of 10,000 patients"),
        (set_to("predictions_sha256", "0" * 64), "its predictions changed"),
        (asked("resamples", 100), "100 resamples"),
        (asked("seed", 1), "seed 1"),
        (put_into("setting", "threshold", 0.9), "Sensitivity was"),
        (put_into("setting", "preset", EQUAL), "Sensitivity was"),
        (put_into("setting", "preset", "no such preset"), "takes no part now"),
        (put_into("films", "where", SEEN), "AUC was"),
        (put_into("films", "where", "nowhere"), "takes no part now"),
        (put_into("films", "age_group", "child"), "AUC was"),
        (asked("question", "covid_or_not"), ": "),
    ],
)
def test_every_other_edit_is_found(change: Callable[[Facts], None], said: str) -> None:
    differs = check(read_facts(edited(exported(), change)), here())
    assert differs
    assert any(said in line for line in differs), differs
    assert not any("\n" in line for line in differs)


def test_a_question_nobody_can_answer_now_is_not_equal() -> None:
    text = exported("covid_normal", Films("far"))
    (line, *_) = check(read_facts(edited(text, asked("question", "which_of_four"))), here()[:1])
    assert "takes no part now" in line or "not here" in line


def test_other_resamples_are_said_by_this_version(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_facts(exported())
    monkeypatch.setattr(report, "RESAMPLES", 500)
    assert f"The report used {RESAMPLES} resamples and seed {SEED}; this version 500 and {SEED}." in check(
        found, here()
    )


# --- files that are no report -----------------------------------------------------------------------------------------


def block_of(content: str) -> str:
    return f'<!doctype html><script type="application/json" id="cxr-model-lab-report">{content}</script>'


FOREIGN = {
    "empty": "",
    "a page": "<!doctype html><h1>No report</h1>",
    "another block": '<script type="application/json" id="other">{}</script>',
    "empty block": block_of(""),
    "no JSON": block_of("{,"),
    "a list": block_of("[1, 2]"),
    "a number": block_of("7"),
    "null": block_of("null"),
    "no fields": block_of("{}"),
    "deep": block_of("[" * 100_000),
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_report_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(ReportError) as raised:
        read_facts(text)
    assert "\n" not in str(raised.value)
    assert "Export it again." in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_report_cut_short_is_refused() -> None:
    text = exported()
    start = text.index('<script type="application/json"')
    for end in (100, len(text) // 2, start + 500, len(text) - 100):
        with pytest.raises(ReportError):
            read_facts(text[:end])


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in nested values."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))


WRONG: tuple[object, ...] = (None, [], {}, "x", "\x1b[31m\nred", -1, 0.5, 10**400, float("nan"), [[["x"]]], True)


def outcome(damaged: Facts) -> tuple[str, list[str]]:
    """What comes of checking a report with such a block, and what is said."""
    try:
        found = read_facts(block_of(json.dumps(damaged)))
    except ReportError as error:
        return "refused", [str(error)]
    differs = check(found, here())
    return "differs" if differs else "equal", differs


def test_damage_anywhere_is_refused_or_found() -> None:
    """Whatever is put wherever: an error of one line, or lines that say what differs; never anything else."""
    board = compare_on(here()[:1], QUESTIONS["covid_normal"], Films())
    whole = json.loads(json.dumps(facts(board, Setting())))
    assert outcome(whole) == ("equal", [])
    came = set()
    for path in leaves(whole):
        for wrong in WRONG:
            damaged = copy.deepcopy(whole)
            place = damaged
            for step in path[:-1]:
                place = place[step]
            # What a report leaves out means the same as what it was: the comparison's defaults.
            same = place[path[-1]] == wrong or (path in (("films",), ("setting",)) and wrong == {})
            place[path[-1]] = wrong
            result, said = outcome(damaged)
            came.add(result)
            assert all(line.isprintable() and len(line) < 600 for line in said), (path, wrong)
            if path[0] in ("question", "films", "setting", "resamples", "seed") or {"figures", "confusion"} & set(path):
                # Without a preset the cost of errors decides nothing.
                assert (result == "equal") == same or path[-1] == "cost_ratio", (path, wrong)
    assert came == {"refused", "differs", "equal"}


# --- on the command line ----------------------------------------------------------------------------------------------


def test_check_says_equal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(exported(), encoding="utf-8")
    status, out, err = run("evaluate", "--check", tmp_path / "report.html")
    assert (status, out, err) == (0, "equal: 3 models, every figure as the report has it\n", "")


def test_check_says_what_differs(run: Run, tmp_path: Path, other_shelf: Path) -> None:
    (tmp_path / "report.html").write_text(exported(), encoding="utf-8")
    write_predictions(evaluation(rows(FOUR, 20), FOUR, seed=98), other_shelf / KEYS[1] / PREDICTIONS_FILE)
    status, out, err = run("evaluate", "--check", tmp_path / "report.html")
    assert status == 1
    assert err == ""
    assert out.splitlines() == check(read_facts((tmp_path / "report.html").read_text(encoding="utf-8")), here())
    assert "its predictions changed" in out


def test_check_with_and_without_ones_own_predictions(run: Run, tmp_path: Path) -> None:
    one = submitted(read_submission(own_csv(), "mine.csv"))
    (tmp_path / "report.html").write_text(exported("covid_normal", None, None, one), encoding="utf-8")
    (tmp_path / "renamed.csv").write_bytes(own_csv())
    command = ("evaluate", "--check", tmp_path / "report.html")
    status, out, _ = run(*command, "--predictions", tmp_path / "renamed.csv")
    assert (status, out) == (0, "equal: 4 models, every figure as the report has it\n")
    status, out, _ = run(*command)
    assert status == 1
    assert out == "mine (yours): its predictions are not here; give them with --predictions.\n"
    # A file that is not the one of the report does not stand in for it.
    lines = own_csv().splitlines()
    (tmp_path / "other.csv").write_bytes(b"\n".join(lines[:-1]))
    status, out, _ = run(*command, "--predictions", tmp_path / "other.csv")
    assert status == 1
    assert "its predictions are not here" in out


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.html", None, "No such file"),
        ("page.html", b"<h1>no report</h1>", "no report of CXR Model Lab"),
        ("damaged.html", block_of("{}").encode(), "damaged"),
        ("bytes.html", b"\xff\xfe\x00\x01" * 50, "utf-8"),
        ("packed.html", gzip.compress(b"report", mtime=0), "utf-8"),
    ],
)
def test_check_of_what_is_no_report(run: Run, tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    status, out, err = run("evaluate", "--check", tmp_path / name)
    assert (status, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_check_with_predictions_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(exported(), encoding="utf-8")
    (tmp_path / "mine.csv").write_text("no,such,columns\n1,2,3\n")
    for name in ("mine.csv", "missing.csv"):
        status, out, err = run("evaluate", "--check", tmp_path / "report.html", "--predictions", tmp_path / name)
        assert (status, out) == (2, "")
        assert len(err.splitlines()) == 1
    status, out, _ = run("evaluate", "--check")
    assert (status, out) == (2, "")


def test_a_damaged_model_that_took_no_part_spoils_no_check(run: Run, tmp_path: Path, other_shelf: Path) -> None:
    board = compare_on(here()[:1], QUESTIONS["covid_normal"], Films())
    (tmp_path / "report.html").write_text(report_html(board, Setting()), encoding="utf-8")
    (other_shelf / KEYS[2] / PREDICTIONS_FILE).write_bytes(b"damaged")
    status, out, _ = run("evaluate", "--check", tmp_path / "report.html")
    assert (status, out) == (0, "equal: 1 models, every figure as the report has it\n")


def test_a_damaged_model_that_took_part_is_said(run: Run, tmp_path: Path, other_shelf: Path) -> None:
    (tmp_path / "report.html").write_text(exported(), encoding="utf-8")
    (other_shelf / KEYS[2] / PREDICTIONS_FILE).write_bytes(b"damaged")
    status, out, err = run("evaluate", "--check", tmp_path / "report.html")
    assert status == 1
    assert KEYS[2] in out + err
    assert "damaged" in out + err
    assert "Traceback" not in err


@pytest.mark.parametrize("key", shipped())
def test_shipped_models_check_as_equal(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXRMODELS_WEIGHTS")
    one = contender(key)
    able = [name for name, question in QUESTIONS.items() if compare_on([one], question, Films()).standings]
    assert able
    for name in able[:2]:
        board = compare_on([one], QUESTIONS[name], Films())
        assert check(read_facts(report_html(board, Setting())), [replace(one, title="renamed")]) == []
