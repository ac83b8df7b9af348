"""Nothing from a file, a film or an address reaches a page as code or as Markdown of its own.

Streamlit escapes HTML by itself, but what its functions show they read as Markdown: unescaped, a name could load a
picture from another host, and so tell it who looks at what. Pages with hostile names are in `test_pages.py`,
`test_compare_page.py` and `browser/`; here is what holds for all of the code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHOWN = [ROOT / "app.py", *sorted((ROOT / "pages").glob("*.py")), *sorted((ROOT / "cxrmodels" / "ui").rglob("*.py"))]
SCRIPTS = sorted((ROOT / "cxrmodels" / "ui" / "assets").glob("*.js"))
LIBRARY = sorted((ROOT / "cxrmodels").rglob("*.py"))
READ_AS_MARKDOWN = {
    *("caption", "error", "header", "info", "markdown", "subheader", "success", "title", "toast", "warning", "write"),
    *("badge", "button", "checkbox", "expander", "metric", "popover", "spinner", "status", "tabs"),
}
ESCAPES = {"plain", "_plain", "_escaped"}
"""`markdown.plain` and, for names of uploads, those of `ui.films`; each has tests of its own."""


def name_of(call: ast.Call) -> str:
    """`st.sidebar.error(...)` -> `error`."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def bare(node: ast.AST, name: str) -> bool:
    """Whether the value of a variable stands in an expression without having been escaped."""
    if isinstance(node, ast.Call) and name_of(node) in ESCAPES:
        return False
    if isinstance(node, ast.Name):
        return node.id == name
    return any(bare(child, name) for child in ast.iter_child_nodes(node))


def unescaped_errors(tree: ast.AST) -> Iterator[int]:
    """Lines where the text of an exception is shown as it is: it may quote a file's name, or what stands in it."""
    for handler in ast.walk(tree):
        if isinstance(handler, ast.ExceptHandler) and handler.name:
            for call in (call for statement in handler.body for call in calls(statement)):
                if name_of(call) in READ_AS_MARKDOWN and any(bare(part, handler.name) for part in call.args):
                    yield call.lineno


def test_the_search_finds() -> None:
    found = "try: f()\nexcept E as error:\n st.error({})"
    for text, expected in (
        ("str(error)", [3]),
        ("f'no: {error}'", [3]),
        ("error.strerror", [3]),
        ("plain(str(error))", []),
        ("'no'", []),
    ):
        assert list(unescaped_errors(ast.parse(found.format(text)))) == expected


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_shows_nothing_unescaped(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for call in calls(tree):
        given = {keyword.arg for keyword in call.keywords}
        assert not {argument for argument in given if argument and argument.startswith("unsafe_")}
        # HTML of its own, or code: there is none but in components, whose text is constant and their data escaped.
        assert name_of(call) not in ("html", "iframe", "declare_component", "exec", "eval")
        if name_of(call) == "component":
            for part in [*call.args, *(keyword.value for keyword in call.keywords)]:
                assert not any(isinstance(node, ast.JoinedStr) for node in ast.walk(part))
    assert list(unescaped_errors(tree)) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_component_makes_no_markup_of_its_data(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for way in (r"\.(inner|outer)HTML\s*[+=]", r"insertAdjacentHTML", r"document\.write", r"\beval\(", r"new Function"):
        assert not re.search(way, text), f"{way} in {path.name}: use textContent, or createElement"
    # Nothing is fetched: neither code nor pictures.
    assert not re.search(
        r"https?://(?!www\.w3\.org/)|\bimport\s*\(|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon", text
    )


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_is_read_as_code(path: Path) -> None:
    """Networks come in Keras' safe mode, arrays without pickle; nothing else that could hold code is opened at all."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for call in calls(tree):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name_of(call) in ("load_model", "deserialize_keras_object"):
            assert given.get("safe_mode") == "True"
        if ast.unparse(call.func) in ("np.load", "numpy.load"):
            assert given.get("allow_pickle") == "False"
        assert ast.unparse(call.func) not in ("eval", "exec", "yaml.load", "os.system")
        assert given.get("shell", "False") == "False"
    imported = {
        name.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    } | {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    if path.name != "on_ray.py":  # what its own workers on a cluster send each other; no file
        assert not imported & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
