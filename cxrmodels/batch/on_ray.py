"""The films of a batch on a Ray cluster, for archives beyond one machine.

Ray Data deals the films out to one actor a core, each of which holds the models; what a machine that died had not
answered is read by another. Rows come back in the films' order.
"""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from cxrmodels.batch.films import BatchError, Source
from cxrmodels.batch.reading import FilmRow, read_films
from cxrmodels.batch.table import Reader
from cxrmodels.models import load
from cxrmodels.zoo import LoadedModel, ModelError

ADDRESS_VARIABLE = "RAY_ADDRESS"
FILMS_A_TASK = 32
"""Dealt out at a time: few enough that little is read twice when a machine dies."""


def ray_reader() -> Reader:
    """What reads films on the cluster that `RAY_ADDRESS` names, or on one that Ray starts on this machine.

    Every machine of the cluster needs this program, its weights, and the films under the same paths.

    Raises:
        BatchError: Ray is not installed.
    """
    # Ray tells its maker of its use unless it is told not to before it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        importlib.import_module("ray.data")
    except ImportError as error:
        raise BatchError(
            f"The engine ray needs Ray, which cannot be imported ({error}). Install it on every machine of the cluster "
            "with 'pip install \"ray[data]\"', or leave --engine out."
        ) from None
    return _read_on_ray


class _Actor:
    """Holds the models in a process of the cluster."""

    def __init__(self, versions: dict[str, str], gated: bool) -> None:
        self._gated = gated
        self._models = {key: load(key) for key in versions}
        for key, expected in versions.items():
            found = self._models[key].card.weights_sha256
            if found != expected:
                raise ModelError(
                    f"A machine of the cluster has other weights of {key} ({found[:12]}, not {expected[:12]}). Put the "
                    "same version of this program on all of them."
                )

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        films = [pickle.loads(one) for one in batch["film"]]
        rows = read_films(films, self._models, workers=1, gated=self._gated)
        return {"row": [pickle.dumps(row) for row in rows]}


def _read_on_ray(
    films: Sequence[Source], models: Mapping[str, LoadedModel], *, gated: bool
) -> Generator[FilmRow, None, None]:
    import ray
    import ray.data

    started_here = not ray.is_initialized()
    if started_here:
        ray.init(address=os.environ.get(ADDRESS_VARIABLE), log_to_driver=False, include_dashboard=False)
    try:
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        dealt = ray.data.from_items(
            [{"film": pickle.dumps(film)} for film in films], override_num_blocks=-(-len(films) // FILMS_A_TASK)
        ).map_batches(
            _Actor,
            batch_size=FILMS_A_TASK,
            num_cpus=1,
            concurrency=(1, cores),
            fn_constructor_args=({key: one.card.weights_sha256 for key, one in models.items()}, gated),
        )
        for item in dealt.iter_rows():
            yield pickle.loads(item["row"])
    finally:
        if started_here:
            ray.shutdown()
