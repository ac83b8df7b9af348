"""Rules of the code base that no single module can keep by itself: who may import whom, and what a page may hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = sorted((ROOT / "cxrmodels").rglob("*.py"))
PAGES = sorted((ROOT / "pages").glob("*.py"))

LAYERS = (
    (
        "resizing",
        "radiograph",
        "phantom",
        "findings",
        "markdown",
        "health",
        "preprocessing",
        "layout",
        "quality",
        "datasets",
        "networks",
        "plots",
        "charts",
        "files",
        "turns",
        "processes",
        "memory",
        "rate",
    ),
    ("zoo",),
    ("runtime",),
    ("engine",),
    (
        "lungs",
        "inference",
        "explain",
        "evaluation",
        "gate",
        "fair_line",
        "council",
        "export",
        "service",
        "training",
        "lab",
        "cost",
        "models",
    ),
    ("batch",),
    ("cli", "api", "__main__"),
    ("ui",),
)
"""Parts of the library, lowest first: a part imports from its own layer and those below."""

RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
HEAVY = ("tensorflow", "keras", "openvino", "tf_keras_vis", "sklearn", "plotly", "pydicom")
"""Libraries that take long to import: a page or a command pays for them only when it uses them."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """`cxrmodels.training.fit` -> `training`; the package root -> ``."""
    return module.removeprefix("cxrmodels").removeprefix(".").split(".")[0]


UI = [path for path in LIBRARY if part_of(module_name(path)) == "ui"]


def _targets(node: ast.AST, names: frozenset[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide what a module depends on"
        assert node.module is not None
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in names else node.module


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def _modules() -> frozenset[str]:
    return frozenset(map(module_name, LIBRARY))


def imports(path: Path) -> set[str]:
    """Every module a file imports, at whatever depth, also those for type checking only."""
    return {target for node in ast.walk(_tree(path)) for target in _targets(node, _modules())}


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from _at_import(statement.orelse)
            continue
        yield statement
        for block in ("body", "orelse", "finalbody"):
            yield from _at_import(getattr(statement, block, []))
        for handler in getattr(statement, "handlers", []):
            yield from _at_import(handler.body)


def uses(path: Path, *libraries: str) -> set[str]:
    """Those of `libraries` that a file imports somewhere."""
    return {target.split(".")[0] for target in imports(path)} & set(libraries)


def test_something_is_checked() -> None:
    assert len(LIBRARY) > 20
    assert PAGES
    assert "cxrmodels.zoo" in imports(ROOT / "cxrmodels" / "engine.py")


@pytest.mark.parametrize("path", LIBRARY, ids=module_name)
def test_arrows_point_one_way(path: Path) -> None:
    part = part_of(module_name(path))
    assert not part or part in RANK, f"{part} has no place among LAYERS yet: give it one, here and in the design"
    for target in imports(path):
        if target.split(".")[0] == "cxrmodels" and part_of(target):
            assert part, f"the package root imports {target}: importing anything would import it too"
            assert RANK[part_of(target)] <= RANK[part], f"{part} imports {target}, which stands above it"


def test_library_has_no_circle() -> None:
    # Layers alone allow two parts of one layer to import each other.
    graph = {module_name(path): imports(path) & _modules() - {module_name(path)} for path in LIBRARY}
    TopologicalSorter(graph).prepare()


def test_plots_know_values_only() -> None:
    ours = {target for target in imports(ROOT / "cxrmodels" / "plots.py") if target.startswith("cxrmodels")}
    assert ours <= {"cxrmodels", "cxrmodels.findings"}


@pytest.mark.parametrize("path", LIBRARY, ids=module_name)
def test_streamlit_stays_in_ui(path: Path) -> None:
    if part_of(module_name(path)) != "ui":
        assert not uses(path, "streamlit")
        assert not {target for target in imports(path) if target.startswith("cxrmodels.ui")}


@pytest.mark.parametrize(
    "path", [path for path in LIBRARY if part_of(module_name(path)) in ("networks", "training", "lab")], ids=module_name
)
def test_networks_and_training_run_on_any_backend(path: Path) -> None:
    assert not uses(path, "tensorflow", "torch", "jax", "tf_keras_vis")


def trains(module: str) -> bool:
    """Whether a module is there to build or train networks: it needs Keras, and no page imports it."""
    return part_of(module) in ("networks", "training") or module in (
        "cxrmodels.lab.loop",
        "cxrmodels.lab.network",
        "cxrmodels.lab.saliency",
    )


@pytest.mark.parametrize("path", [path for path in LIBRARY if not trains(module_name(path))], ids=module_name)
def test_heavy_libraries_are_imported_late(path: Path) -> None:
    early = {target.split(".")[0] for node in _at_import(_tree(path).body) for target in _targets(node, _modules())}
    assert not early & set(HEAVY)


@pytest.mark.parametrize(
    "module",
    [
        "cxrmodels.cli",
        "cxrmodels.service",
        "cxrmodels.gate",
        "cxrmodels.ui.results",
        "cxrmodels.ui.trust",
        "cxrmodels.ui.inside.page",
        "cxrmodels.ui.cards",
        "cxrmodels.ui.comparison.page",
        "cxrmodels.ui.lab.page",
        "cxrmodels.ui.batch.page",
        "cxrmodels.batch.worker",
    ],
)
def test_importing_leaves_the_heavy_ones_out(module: str) -> None:
    """What the source says is not all: a library imported early may bring a heavy one along."""
    # Streamlit brings what it likes; that is not ours to change.
    first = "import streamlit" if part_of(module) == "ui" else ""
    code = f"import sys\n{first}\nbefore = set(sys.modules)\nimport {module}\n"
    code += f"print(*sorted(set({HEAVY!r}) & set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page_is_layout_only(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 140
    # A page is executed anew on every click: its classes would not be the same class twice.
    assert not [node.name for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)]
    assert not uses(path, "threading", "concurrent", "multiprocessing", "subprocess", "numpy", "PIL", *HEAVY)


def _is_fragment(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):  # a decorator with options
        node = node.func
    return isinstance(node, ast.Attribute) and node.attr == "fragment"


@dataclass
class _Mentions:
    """Functions of the pages, each as (module, name): what their bodies name, and which of them run by themselves."""

    of: dict[tuple[str, str], set[tuple[str, str]]] = field(default_factory=dict)
    fragments: set[tuple[str, str]] = field(default_factory=set)
    repeated: set[tuple[str, str]] = field(default_factory=set)

    def read(self, path: Path) -> None:
        module, tree = module_name(path), _tree(path)
        home = {
            alias.name: node.module
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }

        def named(node: ast.expr) -> tuple[str, str]:
            return (home.get(node.id, module), node.id) if isinstance(node, ast.Name) else ("", "")

        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                self.of[module, node.name] = {named(one) for one in ast.walk(node) if isinstance(one, ast.Name)}
                if any(map(_is_fragment, node.decorator_list)):
                    self.fragments.add((module, node.name))
            elif isinstance(node, ast.Call) and _is_fragment(node.func) and node.args:
                self.fragments.add(named(node.args[0]))
                if any(word.arg == "run_every" for word in node.keywords):
                    self.repeated.add(named(node.args[0]))
            elif isinstance(node, ast.Call) and named(node.func)[1] == "look_again":
                self.repeated.add(named(node.args[1]))

    def within(self, function: tuple[str, str]) -> set[tuple[str, str]]:
        reached: set[tuple[str, str]] = set()
        ahead = self.of.get(function, set()) & self.of.keys()
        while ahead:
            reached |= ahead
            ahead = {one for name in ahead for one in self.of[name] & self.of.keys()} - reached
        return reached


def test_what_looks_again_by_itself_holds_nothing_that_runs_by_itself() -> None:
    """Streamlit drops what it has not sent yet of a fragment that runs again, but not what lies deeper: a browser that
    gets the inner one's elements without the outer one's goes blank ("Bad delta path index")."""
    mentions = _Mentions()
    for path in UI:
        mentions.read(path)
    assert len(mentions.repeated) >= 6
    assert {name for _, name in mentions.fragments} > {"_network_saw", "_board"}
    assert {name: mentions.within(name) & mentions.fragments for name in mentions.repeated} == {
        name: set() for name in mentions.repeated
    }


@pytest.mark.parametrize("path", UI, ids=module_name)
def test_a_download_does_not_run_the_page(path: Path) -> None:
    """A run makes new buttons and drops what the old ones offer, which the browser may not have fetched yet."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "download_button":
            assert [ast.unparse(word.value) for word in node.keywords if word.arg == "on_click"] == ["'ignore'"]


def test_router_only_routes() -> None:
    others = {target for target in imports(ROOT / "app.py") if target.split(".")[0] not in sys.stdlib_module_names}
    assert others <= {"streamlit", "cxrmodels", "cxrmodels.ui.frame", "cxrmodels.ui.server"}


def test_router_knows_every_page() -> None:
    routed = set(re.findall(r"pages/(\w+)\.py", (ROOT / "app.py").read_text(encoding="utf-8")))
    assert routed == {path.stem for path in PAGES}


def test_telemetry_is_off() -> None:
    with (ROOT / ".streamlit" / "config.toml").open("rb") as stream:
        assert tomllib.load(stream)["browser"]["gatherUsageStats"] is False


@cache
def _files() -> tuple[Path, ...]:
    """The repository's files: all below its root but what git is told to ignore, and git's own."""
    ignored = {
        line.strip().strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines() if line
    }

    def walk(folder: Path) -> Iterator[Path]:
        for path in folder.iterdir():
            if path.name == ".git" or any(path.match(pattern) for pattern in ignored):
                continue
            if path.is_dir():
                yield from walk(path)
            else:
                yield path

    return tuple(walk(ROOT))


def test_pictures_stand_in_docs_only() -> None:
    """A picture elsewhere might be a film of somebody; those under docs are looked at one by one."""
    kinds = {".png", ".jpg", ".jpeg", ".dcm", ".tif", ".tiff", ".bmp", ".gif", ".webp"}
    pictures = [path.relative_to(ROOT) for path in _files() if path.suffix.lower() in kinds]
    assert [path for path in pictures if path.parts[0] != "docs"] == []


def test_no_emoji() -> None:
    """They look different everywhere and are read aloud; the pages use Material symbols by name."""
    emoji = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f]")
    kinds = {".py", ".md", ".toml", ".html", ".css", ".js", ".svg", ".txt"}
    found = {
        str(path.relative_to(ROOT)): sorted(set(emoji.findall(text)))
        for path in _files()
        # Tests may feed the program what people type.
        if path.suffix in kinds
        and "tests" not in path.relative_to(ROOT).parts
        and emoji.search(text := path.read_text(encoding="utf-8"))
    }
    assert found == {}
