"""The same batch on a Ray cluster of two machines, one of which dies half-way."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

from cxrmodels import cli
from cxrmodels.batch.films import sources
from cxrmodels.batch.on_ray import ADDRESS_VARIABLE, ray_reader
from cxrmodels.batch.table import Progress, run
from cxrmodels.phantom import phantom
from cxrmodels.zoo import load

MODEL = "two_conv_cnn"
FILMS = 160
STORE_BYTES = 80 * 2**20


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head that reads nothing."""
    # Ray's processes find the program as this one does.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    monkeypatch.setenv(ADDRESS_VARIABLE, made.address)
    yield made
    made.shutdown()


@pytest.mark.filterwarnings("default")  # Ray's own are not ours to mend.
def test_a_machine_that_dies_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    for _ in range(2):
        last = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    cluster.wait_for_nodes()
    folder = tmp_path / "films"
    folder.mkdir()
    contents = [phantom("covid19", seed=seed, size=96).png() for seed in range(8)]
    for number in range(FILMS):
        (folder / f"{number:03}.png").write_bytes(contents[number % 8] if number != 100 else b"broken")
    films, models = sources([folder]), {MODEL: load(MODEL)}
    killed: list[int] = []

    def report(progress: Progress) -> None:
        if progress.done >= FILMS // 4 and not killed:
            killed.append(progress.done)
            cluster.remove_node(last, allow_graceful=False)

    done = run(films, models, tmp_path / "ray.csv", report=report, reader=ray_reader())
    assert len(killed) == 1
    assert killed[0] < FILMS
    assert (done.done, done.failed) == (FILMS, 1)
    run(films, models, tmp_path / "here.csv")
    assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


def test_without_ray_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(phantom("normal", seed=1, size=96).png())
    monkeypatch.setitem(sys.modules, "ray.data", None)
    command = ["batch", str(tmp_path), "--output", str(tmp_path / "out.csv"), "--models", MODEL, "--engine", "ray"]
    assert cli.main(command) == 2
    assert 'pip install "ray[data]"' in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
