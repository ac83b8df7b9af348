"""A reader's own predictions: damage is refused in one line that says where, what is right arrives whole."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from cxrmodels.evaluation import submitted
from cxrmodels.evaluation.predictions import Evaluation, predictions_csv, read_predictions, write_predictions
from cxrmodels.evaluation.submitted import SubmissionError, logits_of, read_submission, template
from tests.test_board import TWO, evaluation, rows
from tests.test_evaluation import FOUR

ROWS = (
    "image_id,finding,source,p_normal,p_covid19",
    "a,normal,here,0.9,0.1",
    "b,covid19,here,0.25,0.75",
    "c,covid19,there,0.6,0.4",
)


def table(*, row: int | None = None, line: str = "", delimiter: str = ",") -> bytes:
    """The table above, one line of it (the header is 1) replaced."""
    lines = list(ROWS)
    if row is not None:
        lines[row - 1] = line
    return "\n".join(lines).replace(",", delimiter).encode()


def film(line: str) -> bytes:
    """The table with row 3 replaced."""
    return table(row=3, line=line)


def header(line: str) -> bytes:
    return table(row=1, line=line)


def logits(cell: str) -> bytes:
    """The table with logits, and `cell` as the last of row 3."""
    return table(row=3, line=f"b,covid19,here,1,{cell}").replace(b"p_", b"logit_")


# name -> (bytes, what the message has to say)
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"empty \(0 bytes\)"),
    "blank lines only": (b"\n\r\n \n", r"empty"),
    "only a header": (ROWS[0].encode() + b"\n\n", r"header and no rows"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(50), r"PNG"),
    "xlsx": (b"PK\x03\x04" + bytes(50), r"Excel.*CSV UTF-8"),
    "parquet": (b"PAR1" + bytes(50), r"Parquet"),
    "binary": (bytes(range(20)), r"not text"),
    "UTF-16": (table().decode().encode("utf-16"), r"UTF-16.*CSV UTF-8"),
    "UTF-16 without mark": (table().decode().encode("utf-16-le"), r"UTF-16"),
    "Latin-1": (film("Müller,covid19,here,0.25,0.75").decode().encode("latin-1"), r"^Row 3: byte 0xFC is not UTF-8"),
    "no image_id": (header("image,finding,source,p_normal,p_covid19"), r"^Row 1: no column image_id among"),
    "no finding": (header("image_id,label,source,p_normal,p_covid19"), r"^Row 1: no column finding among"),
    "neither": (b"x,y\n1,2", r"no column image_id and no column finding among x, y"),
    "blank first line": (b"\n" + table(), r"^Row 1 is empty"),
    "no predictions": (header("image_id,finding,source,normal,covid19"), r"^Row 1 has no column of predictions"),
    "one prediction": (header("image_id,finding,source,note,p_covid19"), r"^Row 1 has only p_covid19"),
    "mixed kinds": (
        header("image_id,finding,source,p_normal,logit_covid19"),
        r"^Row 1 has both p_n.* and logit_covid19",
    ),
    "duplicate column": (header("image_id,finding,p_normal,p_normal,p_covid19"), r"^Row 1, column p_normal: .*twice"),
    "unknown column": (
        header("image_id,finding,source,p_normal,p_flu"),
        r"^Row 1, column p_flu: names no known finding",
    ),
    "formula as column": (header("image_id,finding,=A1,p_normal,p_covid19"), r"^Row 1, column number 3: .*formula"),
    "too many columns": (header(ROWS[0] + "," * 300), r"^Row 1 has 305 columns"),
    "unknown finding": (film("b,flu,here,0.25,0.75"), r"^Row 3, column finding: 'flu' is unknown.*covid19"),
    "unknown split": (header("image_id,finding,split,p_normal,p_covid19"), r"^Row 2, column split: 'here'.*external"),
    "no id": (film(",covid19,here,0.25,0.75"), r"^Row 3, column image_id: the cell is empty"),
    "no label": (film("b, ,here,0.25,0.75"), r"^Row 3, column finding: the cell is empty"),
    "no number": (film("b,covid19,here,,0.75"), r"^Row 3, column p_normal: the cell is empty"),
    "word": (film("b,covid19,here,high,0.75"), r"^Row 3, column p_normal: 'high' is not a number"),
    "underscore": (film("b,covid19,here,0.2_5,0.75"), r"^Row 3, column p_normal: '0.2_5' is not a number"),
    "per cent sign": (film("b,covid19,here,25%,0.75"), r"^Row 3, column p_normal: '25%' is not a number"),
    "other digits": (film("b,covid19,here,٠.٢٥,0.75"), r"^Row 3, column p_normal: .* is not a number"),
    "NaN": (film("b,covid19,here,NaN,0.75"), r"^Row 3, column p_normal: 'NaN' is no number"),
    "minus NaN": (film("b,covid19,here,-nan,0.75"), r"^Row 3, column p_normal: '-nan' is no number"),
    "infinite": (logits("-inf"), r"^Row 3, column logit_covid19: '-inf' is infinite"),
    "huge": (logits("1e39"), r"^Row 3, column logit_covid19: is 1e39; expected a finite number"),
    "huger": (logits("1e999"), r"^Row 3, column logit_covid19: is 1e999; expected a finite number"),
    "negative": (
        film("b,covid19,here,-0.25,1.25"),
        r"^Row 3, column p_normal: is -0.25; expected a number from 0 to 1",
    ),
    "per cent": (film("b,covid19,here,25,75"), r"^Row 3, column p_normal: is 25; .*Divide per cent by 100"),
    "sum": (film("b,covid19,here,0.25,0.5"), r"^Row 3, columns p_normal, p_covid19: .*sum to 0.75; expected 1"),
    "decimal comma": (
        table(delimiter=";").replace(b"0.9;0.1", b"0,9;0,1"),
        r"^Row 2, column p_normal: '0,9' has a decimal comma; expected a decimal point",
    ),
    "decimal comma between commas": (film("b,covid19,here,0,25,0,75"), r"^Row 3 has too many cells: 7; .*point"),
    "duplicate film": (film("a,covid19,here,0.25,0.75"), r"^Row 3, column image_id: 'a' stands in row 2 already"),
    "too few cells": (film("b,covid19,here,0.25"), r"^Row 3 has too few cells: 4; expected 5"),
    "too many cells": (film("b,covid19,here,0.25,0.75,"), r"^Row 3 has too many cells: 6; expected 5"),
    "empty row": (film(""), r"^Row 3 is empty"),
    "formula =": (film("b,covid19,=1+1,0.25,0.75"), r"^Row 3, column source: '=1\+1' begins like a formula"),
    "formula +": (film("+b,covid19,here,0.25,0.75"), r"^Row 3, column image_id: .*formula"),
    "formula -": (film("b,covid19,-here,0.25,0.75"), r"^Row 3, column source: .*formula"),
    "formula @": (film("b,covid19, @here,0.25,0.75"), r"^Row 3, column source: .*formula"),
    "formula tab": (film("b,covid19,\there,0.25,0.75"), r"^Row 3, column source: .*formula"),
    "formula as number": (film("b,covid19,here,=A1,0.75"), r"^Row 3, column p_normal: '=A1' begins like a formula"),
    "overlong": (film(f"{'b' * 301},covid19,here,0.25,0.75"), r"^Row 3, column image_id: has 301 characters"),
    "overlong number": (film(f"b,covid19,here,0.{'0' * 999},1"), r"^Row 3, column p_normal: has 1,001 characters"),
    "overlong label": (film(f"b,{'covid19' * 99},here,0.25,0.75"), r"^Row 3, column finding: has 693 characters"),
    "overlong line": (film("b,covid19" + "," * 70_000), r"^Row 3 has 70,010 characters"),
    "open quote": (film('"b,covid19,here,0.25,0.75'), r"^Row 3: a quote is not closed"),
    "text after a quote": (film('"b"x,covid19,here,0.25,0.75'), r"^Row 3: a quote is not closed"),
    "line break in a cell": (film('"b\nb",covid19,here,0.25,0.75'), r"^Row 3: .*several lines"),
    "NUL": (film("b,covid19,he\0re,0.25,0.75"), r"^Row 3, column source: .*U\+0000"),
    "escape": (film("b,covid19,\x1b[31mhere,0.25,0.75"), r"^Row 3, column source: .*U\+001B"),
    "right to left": (film("b\u202e,covid19,here,0.25,0.75"), r"^Row 3, column image_id: .*U\+202E"),
    "control in a number": (film("b,covid19,here,0.2\x0b5,0.75"), r"^Row 3, column p_normal: .*U\+000B"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_refused_in_one_line_that_says_where(kind: str) -> None:
    data, said = BROKEN[kind]
    with pytest.raises(SubmissionError, match=said) as refusal:
        read_submission(data, "mine.csv")
    message = str(refusal.value)
    assert message.isprintable()
    assert len(message) < 400
    assert "; expected " in message


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("width", "0", "is 0; expected a whole number"),
        ("width", "224.5", "is 224.5; expected a whole number"),
        ("height", "-3", "is -3; expected a whole number"),
        ("height", "1e30", "is 1e30; expected a whole number"),
        ("height", "", "the cell is empty"),
        ("exposure", "130", "is 130; expected a number from 0 to 1"),
        ("exposure", "dark", "'dark' is not a number"),
    ],
)
def test_sizes_and_exposures_are_checked(column: str, cell: str, said: str) -> None:
    data = f"image_id,finding,p_normal,p_covid19,{column}\na,normal,1,0,{cell}\n".encode()
    with pytest.raises(SubmissionError, match=f"^Row 2, column {column}: {said}"):
        read_submission(data, "mine.csv")


def test_a_row_far_down_is_named() -> None:
    rows = [f"film-{i},normal,here,0.5,0.5" for i in range(20_000)]
    rows[17_000] = "film-17000,normal,here,0.5,NaN"
    with pytest.raises(SubmissionError, match=r"^Row 17002, column p_covid19: 'NaN'"):
        read_submission("\n".join([ROWS[0], *rows]).encode(), "mine.csv")


@pytest.mark.parametrize(("limit", "said"), [("MAX_BYTES", "MB; expected at most"), ("MAX_ROWS", "3 rows; expected")])
def test_too_much_is_refused(limit: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitted, limit, 2)
    with pytest.raises(SubmissionError, match=said):
        read_submission(table(), "mine.csv")


def test_many_rows_allow_shorter_cells_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """One long cell makes a whole column long: 300 characters in a million rows would be more than a gigabyte."""
    monkeypatch.setattr(submitted, "_TEXT_BYTES", 3 * 4 * 5)
    with pytest.raises(SubmissionError, match=r"^Row 3, column image_id: has 6 characters; expected at most 5"):
        read_submission(film("bbbbbb,covid19,here,0.25,0.75"), "mine.csv")


def test_the_numbers_arrive() -> None:
    submission = read_submission(table(), "folder/My net (v2).csv")
    found = submission.evaluation
    assert submission.name == "My net (v2)"
    assert submission.sha256 == hashlib.sha256(table()).hexdigest()
    assert found.findings == ("normal", "covid19")
    assert found.labels.tolist() == ["normal", "covid19", "covid19"]
    assert found.sources.tolist() == ["here", "here", "there"]
    np.testing.assert_allclose(found.probabilities(), [[0.9, 0.1], [0.25, 0.75], [0.6, 0.4]], atol=1e-6)


def test_logits_arrive_as_they_are() -> None:
    np.testing.assert_array_equal(read_submission(logits("-1.5e1"), "").evaluation.logits[1], [1, -15])


def test_certainty_stays_finite() -> None:
    probabilities = np.array([[1.0, 0.0]])
    assert np.isfinite(logits_of(probabilities)).all()
    found = read_submission(film("b,covid19,here,1,0"), "").evaluation
    np.testing.assert_allclose(found.probabilities()[1], [1, 0], atol=1e-6)


def equal(left: Evaluation, right: Evaluation) -> bool:
    return left.findings == right.findings and all(
        np.array_equal(getattr(left, name), getattr(right, name)) for name in Evaluation.__slots__[1:]
    )


@pytest.mark.parametrize(
    "data",
    [
        table(delimiter=";"),
        table(delimiter="\t"),
        b"\xef\xbb\xbf" + table(),
        table().replace(b"\n", b"\r\n") + b"\r\n\r\n",
        table().replace(b"\n", b"\r"),
        film('"b"," covid19 ",here, 0.25 ,+7.5e-1'),
    ],
    ids=["semicolon", "tab", "byte order mark", "Windows", "old Mac", "quotes and spaces"],
)
def test_other_ways_to_write_the_same(data: bytes) -> None:
    assert equal(read_submission(data, "").evaluation, read_submission(table(), "").evaluation)


def test_columns_may_stand_in_any_order_and_are_named_after_the_file() -> None:
    data = b"p_covid19,finding,p_normal,image_id\n0.1,normal,0.9,a\n"
    found = read_submission(data, "").evaluation
    assert found.findings == ("covid19", "normal")
    assert found.probabilities().argmax(1).tolist() == found.y_true().tolist() == [1]


def test_the_template_reads_without_a_note() -> None:
    submission = read_submission(template().encode(), "template.csv")
    assert submission.notes == ()
    assert len(np.unique(submission.evaluation.groups)) == len(submission.evaluation) - 1
    assert submission.evaluation.widths[0] == 2048


def test_the_guide_shows_the_template() -> None:
    guide = Path(__file__).parent.parent / "docs" / "bring-your-own.md"
    assert template() in guide.read_text(encoding="utf-8")


def test_what_the_program_itself_stores_reads_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv.gz"
    write_predictions(read_submission(template().encode(), "").evaluation, path)
    stored = read_submission(gzip.decompress(path.read_bytes()), "")
    assert stored.notes == ()
    assert equal(stored.evaluation, read_predictions(path))


def test_what_is_not_there_is_filled_in_and_said() -> None:
    submission = read_submission(b"image_id,finding,p_normal,p_covid19\na,normal,1,0\nb,covid19,0,1\n", "")
    found = submission.evaluation
    assert found.sources.tolist() == ["yours"] * 2
    assert found.splits.tolist() == ["external"] * 2
    assert found.groups.tolist() == ["a", "b"]
    assert found.views.tolist() == [""] * 2
    assert [*found.widths, *found.heights, *found.exposures] == [0] * 6
    notes = " ".join(submission.notes)
    for column in ("source", "split", "group_id", "age_group", "view", "width", "height", "exposure"):
        assert column in notes
    assert "as a patient" in notes


def test_empty_cells_of_optional_columns_are_filled_in_and_counted() -> None:
    data = b"image_id,finding,p_normal,p_covid19,group_id,source\na,normal,1,0,,here\nb,covid19,0,1,p1,\n"
    submission = read_submission(data, "")
    assert submission.evaluation.groups.tolist() == ["a", "p1"]
    assert submission.evaluation.sources.tolist() == ["here", "yours"]
    assert any(note.startswith("Column group_id is empty in 1 rows") for note in submission.notes)


def test_notes_on_what_is_odd() -> None:
    extra = ",".join(f"extra{i}" for i in range(12))
    data = (
        f"image_id,finding,split,p_normal,p_covid19,,{extra}\n"
        f"a,normal,train,0.995,0,7,{'=1+1,' * 11}x\n"
        f"b,tuberculosis,test,0.5,0.5,,{',' * 11}\n"
    )
    submission = read_submission(data.encode(), "")
    notes = " ".join(submission.notes)
    assert "1 of 2 films carry a finding that none of normal, covid19 answers" in notes
    assert "1 films are of the split train or val" in notes
    assert "probabilities of 1 rows did not sum to exactly 1" in notes
    assert "extra9 and 3 more" in notes
    assert "extra10" not in notes
    np.testing.assert_allclose(submission.evaluation.probabilities().sum(1), 1)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\films\\net.v2.csv", "net.v2"),
        ("=cmd|'/c calc'!A0.csv", "c calc'!A0"),
        ("=HYPERLINK.csv", "HYPERLINK"),
        ("a\0b\x1b[31m\u202egpj.csv", "ab[31mgpj"),
        ("x" * 10_000_000, "x" * 60),
        ("..", "unnamed"),
        ("", "unnamed"),
    ],
    ids=["up", "windows", "formula and path", "formula", "control", "long", "dots", "none"],
)
def test_the_name_is_harmless(name: str, shown: str) -> None:
    assert read_submission(table(), name).name == shown


@pytest.mark.parametrize("findings", [TWO, FOUR], ids=len)
def test_stored_predictions_are_a_file_that_may_be_brought(findings: tuple[str, ...]) -> None:
    stored = evaluation(rows(findings), findings, seed=7)
    text = predictions_csv(stored)
    brought = read_submission(text.encode(), "stored.csv").evaluation
    assert predictions_csv(brought) == text
    assert brought.findings == findings
