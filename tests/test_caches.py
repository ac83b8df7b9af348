"""What is kept to be quick is bounded in bytes, and what shows a viewer's film goes with the viewer.

Every cache of the program is found in its source; one that is new has to find its place here.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from streamlit.byte_util import config_max_cache_data_size_to_bytes

from cxrmodels import lungs, service
from cxrmodels.evaluation import board

ROOT = Path(__file__).parent.parent
MB = 2**20
DATA_BYTES = 256 * MB

WORST_MB = {
    # Greatest number of entries x the largest entry there can be, in MB. Films have 60 million pixels at most, sides of
    # 65,536; data folders and cards are files that the owner of the machine put there.
    "cxrmodels.resizing._bands": 16 * 4,
    "cxrmodels.plots._magma": 0.01,
    "cxrmodels.plots._mixtures": 8 * 0.2,
    "cxrmodels.batch.films._opened": 16 * 10,  # the directory of an archive
    "cxrmodels.evaluation.metrics._weights_of": 4 * 150,  # see `affordable`
    "cxrmodels.lab.kept._parsed": 64 * 0.1,
    "cxrmodels.datasets.ready._by_id": 2 * 20,
    "cxrmodels.datasets.ready._films": 2 * 20,
    "cxrmodels.phantom._keep_memory": 0,
    "cxrmodels.phantom._grid": 4 * 8,
    "cxrmodels.training.augment._noise_bank": 8 * 1,
}
"""Every cache that is bounded by its number of entries."""

ONE_OBJECT = {
    "cxrmodels.ui.films._ready",
    "cxrmodels.ui.frame.shared_service",
    "cxrmodels.ui.frame.service",
    "cxrmodels.ui.results._offered",
}
"""Caches of a single object: without arguments, or one a session."""

OF_THE_SESSION = {
    "cxrmodels.ui.results._shown_pixels",
    "cxrmodels.ui.results._heat_picture",
    "cxrmodels.ui.results._network_input",
    "cxrmodels.ui.viewer._sent",
    "cxrmodels.ui.council._picture",
    "cxrmodels.ui.lungs._evidence",
}
"""What shows a film that a viewer may have brought, or what was made of it."""

NOT_OF_A_VIEWER = {
    "cxrmodels.ui.films._thumbnail": "films of the data folder, and drawn ones",
    "cxrmodels.ui.lab.live._overlays": "films of a training run, which is there for everybody",
    "cxrmodels.ui.lab.live._film": "films of a training run, which is there for everybody",
}
"""What shows films, but no viewer's own."""


@dataclass(frozen=True)
class Found:
    name: str
    kind: str
    options: dict[str, object]
    arguments: tuple[str, ...]


def _called(node: ast.expr) -> tuple[str, dict[str, object]]:
    if isinstance(node, ast.Call):
        options: dict[str, object] = {
            str(word.arg): word.value.value if isinstance(word.value, ast.Constant) else ...
            for word in node.keywords
            if word.arg
        }
        return _called(node.func)[0], options
    return ast.unparse(node).split(".")[-1], {}


def _caches() -> Iterator[Found]:
    """Functions whose results are kept, wherever in the program."""
    kinds = ("cache_data", "cache_resource", "lru_cache", "cache")
    paths = [*(ROOT / "cxrmodels").rglob("*.py"), *(ROOT / "pages").glob("*.py"), ROOT / "app.py"]
    for path in sorted(paths):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for one in node.decorator_list:
                    kind, options = _called(one)
                    if kind in kinds:
                        named = [*node.args.args, *node.args.kwonlyargs]
                        yield Found(f"{module}.{node.name}", kind, options, tuple(word.arg for word in named))
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                kind, options = _called(node.value.func)
                if kind in kinds and isinstance(node.value.func, ast.Call):
                    yield Found(f"{module}.{ast.unparse(node.targets[0])}", kind, options, ("...",))


CACHES = list(_caches())


def of(*kinds: str) -> dict[str, Found]:
    return {found.name: found for found in CACHES if found.kind in kinds}


def test_they_are_found() -> None:
    assert len(CACHES) > 20
    assert {"cxrmodels.ui.results._heat_picture", "cxrmodels.ui.viewer._sent", "cxrmodels.lungs._engine"} <= {
        found.name for found in CACHES
    }


def test_what_streamlit_keeps_is_bounded_for_all_functions_and_viewers_together() -> None:
    with (ROOT / ".streamlit" / "config.toml").open("rb") as stream:
        configured = tomllib.load(stream)["server"]["maxCacheDataSize"]
    assert config_max_cache_data_size_to_bytes(configured) == DATA_BYTES
    for found in of("cache_data").values():
        assert found.options.get("persist") is None, f"{found.name} writes to the disk"


@pytest.mark.parametrize("found", of("cache_resource").values(), ids=lambda found: found.name)
def test_shared_objects_are_few(found: Found) -> None:
    if found.name in ONE_OBJECT:
        assert found.arguments == ()
    else:
        assert isinstance(found.options.get("max_entries"), int), f"{found.name} keeps everything"


def test_every_bounded_number_of_entries_is_a_bounded_number_of_bytes() -> None:
    bounded = of("lru_cache")
    assert set(bounded) == set(WORST_MB), "a cache is new, or gone: tell its worst case above"
    for found in bounded.values():
        assert isinstance(found.options.get("maxsize"), int), f"{found.name} keeps everything"
    assert sum(WORST_MB.values()) < 1024


def test_what_is_kept_for_good_is_one_thing() -> None:
    for found in of("cache").values():
        assert found.arguments == (), f"{found.name} keeps an entry for every argument, for good"


def test_pictures_of_films_go_with_their_viewer() -> None:
    pictures = {"_pixels", "_radiograph", "_film", "_films", "_heat", "_held_out"}
    shown = {found.name for found in of("cache_data").values() if pictures & set(found.arguments)}
    assert shown == OF_THE_SESSION | set(NOT_OF_A_VIEWER), "does it show a viewer's film? then it is of the session"
    for name in OF_THE_SESSION:
        assert of("cache_data")[name].options.get("scope") == "session"


def test_the_librarys_own_stores_are_bounded() -> None:
    assert service.KEPT_BYTES <= 128 * MB
    assert board.KEPT_BYTES <= 128 * MB
    assert lungs._KEPT * 128 * 128 <= 2 * MB
    assert service.MOST_WAITING <= 64
