"""Choosing what to train: a preset that starts in one click; every setting below it, for those who want them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cxrmodels.charts import schedule
from cxrmodels.datasets.manifest import ManifestError, read_manifest
from cxrmodels.findings import TITLES
from cxrmodels.lab.config import (
    BREAKAGES,
    FIXED_NETWORKS,
    OPTIMIZERS,
    SCHEDULES,
    ConfigError,
    ConfigurableCnn,
    Data,
    FolderData,
    ManifestData,
    PhantomData,
    RunConfig,
    from_json,
    from_query,
    rate_factor,
)
from cxrmodels.lab.data import contact_sheet
from cxrmodels.lab.imports import DataError, delete_import, import_archive, imports
from cxrmodels.lab.presets import PRESETS
from cxrmodels.lab.process import start
from cxrmodels.lab.store import RunError, create
from cxrmodels.markdown import plain
from cxrmodels.phantom import FINDINGS
from cxrmodels.plots import png
from cxrmodels.ui.comparison.pictures import show
from cxrmodels.ui.films import ready_folder
from cxrmodels.ui.frame import ink
from cxrmodels.ui.lab.words import LOOK_FOR, class_title, data_words, network_words
from cxrmodels.ui.pictures import address

_PHANTOMS, _REAL, _OWN = "Synthetic films", "Real films of the data folder", "Your own films"
_CONFIGURABLE = "A CNN of your own"
_SCHEDULE_POINTS = 100
_GIVEN, _WRITTEN, _OPENED = "lab_given", "lab_written", "lab_opened"
"""In the session: settings to start from and those that the page wrote into the address, as text; the last file."""
_NETWORKS = {"two_conv_cnn": "Two-layer CNN (paper)", "multi_lung_cnn": "Multi-lung CNN (report)"}


def launch(config: RunConfig) -> None:
    """Make a run, put a worker to it, and show it."""
    run = create(config)
    start(run)
    # Its own settings, come back to by the run's page, are settings to start from.
    st.session_state.pop(_WRITTEN, None)
    st.query_params.clear()
    st.query_params["run"] = run.id
    st.rerun()


def show_setup() -> tuple[RunConfig, DeltaGenerator] | None:
    """Presets, then all settings of the one that is chosen.

    Returns:
        What a run would be started with, and the place for its learning rate over time, see `show_schedule`; None where
        it cannot be started.
    """
    given = _from_address()
    keys = [*PRESETS, *(["address"] if given else [])]
    titles = {key: PRESETS[key].title for key in PRESETS} | {"address": "From the address"}
    chosen = st.pills(
        "Start from",
        keys,
        format_func=titles.__getitem__,
        default="address" if given else keys[0],
        required=True,
        key="preset_run",
    )
    base = given if chosen == "address" and given else PRESETS[chosen].config
    if chosen != "address":
        st.markdown(PRESETS[chosen].shows)
        base = _on_films(chosen, base)
    go = st.container()
    with st.expander("Every setting"):
        config = _settings(base, chosen)
        place = st.container()
    config = _broken(config) if config else None
    if config is None:
        return None
    with go:
        st.caption(
            f"{network_words(config)}, {data_words(config)}, {len(config.classes)} classes, {config.epochs} epochs."
        )
        with st.container(horizontal=True):
            if st.button("Start training", type="primary", icon=":material/play_arrow:", key="start_run"):
                _try(config)
            _as_file(config)
    _into_address(config, PRESETS[keys[0]].config)
    _sheet(config)
    return config, place


def show_schedule(config: RunConfig, place: DeltaGenerator) -> None:
    """The learning rate over the epochs.

    Drawn when all else is on the page, and among settings that are folded away at first: the browser then has what
    draws charts, which takes it a second to load, before a run's first point comes.
    """
    epochs = np.linspace(0, config.epochs, _SCHEDULE_POINTS, endpoint=False)
    rates = [config.learning_rate * rate_factor(config.schedule, epoch, config.epochs) for epoch in epochs.tolist()]
    with place:
        show(
            schedule(epochs.tolist(), rates, ink()),
            "learning rate",
            alt=f"Learning rate over {config.epochs} epochs: from {rates[0]:g} to {rates[-1]:.2g}.",
        )


def _try(config: RunConfig) -> None:
    try:
        launch(config)
    except (RunError, OSError) as error:
        st.error(plain(str(error)), icon=":material/error:")


def _from_address() -> RunConfig | None:
    """What the address, or a file, gave to start from. What the page itself wrote into the address is not that."""
    text = st.query_params.get("config")
    if text and text != st.session_state.get(_WRITTEN):
        st.session_state[_GIVEN] = text
    given = st.session_state.get(_GIVEN)
    if not given:
        return None
    try:
        return from_query(given)
    except ConfigError as error:
        st.error(plain(str(error)), icon=":material/link_off:")
        return None


def _into_address(config: RunConfig, usual: RunConfig) -> None:
    """Whoever copies the address, or reloads the page, has these settings."""
    text = config.to_query()
    st.session_state[_WRITTEN] = text
    if config != usual:
        st.query_params["config"] = text
    elif "config" in st.query_params:
        del st.query_params["config"]


def _as_file(config: RunConfig) -> None:
    with st.popover("Settings as a file", icon=":material/description:"):
        st.download_button(
            "Save (JSON)", config.to_json(), "training.json", "application/json", on_click="ignore", key="save_settings"
        )
        file = st.file_uploader("Open", type="json", max_upload_size=1, key="open_settings")
        if file is None or file.file_id == st.session_state.get(_OPENED):
            return
        st.session_state[_OPENED] = file.file_id
        try:
            given = from_json(file.getvalue().decode())
        except (ConfigError, UnicodeDecodeError) as error:
            st.error(plain(str(error)), icon=":material/description:")
            return
        st.session_state[_GIVEN] = given.to_query()
        st.session_state.pop("preset_run", None)
        st.rerun()


def _on_films(chosen: str, base: RunConfig) -> RunConfig:
    """The preset on real films, where there are some and it has such a form."""
    real = PRESETS[chosen].films
    if real is None or ready_folder() is None:
        return base
    return real if st.toggle("On real films of the data folder", key=f"real {chosen}") else base


def _settings(base: RunConfig, chosen: str) -> RunConfig | None:
    """All widgets, each starting at the base's value; None while what they say is not possible."""

    def key(name: str) -> str:
        # Another starting point has other defaults: its widgets are others.
        return f"set {chosen} {base.name} {name}"

    try:
        data, network, learning = st.columns(3, gap="medium")
        with data:
            films = _data(base, key)
        with network:
            layers, size = _network(base, key)
        with learning:
            return _learning(replace_all(base, data=films, network=layers, input_size=size), key)
    except ConfigError as error:
        st.error(plain(str(error)), icon=":material/tune:")
        return None


def replace_all(base: RunConfig, **changes: object) -> RunConfig:
    """`dataclasses.replace`, all fields at once: each by itself may not be possible beside the others' old values."""
    return replace(base, **changes)  # type: ignore[arg-type]


def _data(base: RunConfig, key: object) -> Data:
    assert callable(key)
    st.markdown("**Films**")
    kinds = [_PHANTOMS, *([_REAL] if ready_folder() else []), _OWN]
    current = {PhantomData: _PHANTOMS, ManifestData: _REAL, FolderData: _OWN}[type(base.data)]
    kind = st.selectbox("Where from", kinds, kinds.index(current) if current in kinds else 0, key=key("kind"))
    if kind == _PHANTOMS:
        start_from = base.data if isinstance(base.data, PhantomData) else PhantomData()
        return PhantomData(
            films=st.number_input("Number", 4, 20_000, start_from.films, 100, key=key("films")),
            difficulty=st.slider("Difficulty", 0.0, 1.0, start_from.difficulty, 0.05, key=key("difficulty")),
            noise=st.slider("Noise", 0.0, 1.0, start_from.noise, 0.05, key=key("noise")),
            findings=tuple(
                st.multiselect(
                    "Findings",
                    FINDINGS,
                    list(start_from.findings),
                    format_func=TITLES.__getitem__,
                    key=key("findings"),
                )
            ),
        )
    if kind == _REAL:
        return _real(base, key)
    return _own(key)


def _real(base: RunConfig, key: object) -> ManifestData:
    assert callable(key)
    start_from = base.data if isinstance(base.data, ManifestData) else ManifestData(per_class=200)
    folder = ready_folder()
    assert folder is not None, "offered only where there is one"
    try:
        films = [film for film in read_manifest(folder) if film.split in ("train", "val")]
    except ManifestError as error:
        raise ConfigError(str(error)) from error
    sources = sorted({film.source for film in films})
    found = sorted({film.finding for film in films})
    return ManifestData(
        findings=tuple(
            st.multiselect(
                "Findings",
                found,
                [finding for finding in start_from.findings if finding in found],
                format_func=TITLES.__getitem__,
                key=key("real_findings"),
            )
        ),
        sources=tuple(st.multiselect("Sources", sources, list(start_from.sources), key=key("sources"))),
        per_class=st.number_input(
            "At most so many a class (0: all)", 0, 20_000, start_from.per_class, 50, key=key("per_class")
        ),
    )


def _own(key: object) -> FolderData:
    assert callable(key)
    if problem := st.session_state.pop("delete_import_problem", None):
        st.error(plain(problem), icon=":material/error:")
    file = st.file_uploader("A zip with one folder a class", max_upload_size=1000, key="own_zip")
    try:
        if file is not None and st.session_state.get("imported_zip") != file.file_id:
            report = import_archive(file.getvalue())
            st.session_state["imported_zip"] = file.file_id
            st.session_state["import_name"] = report.name
        there = {report.name: report for report in imports()}
    except (DataError, OSError) as error:
        raise ConfigError(str(error)) from error
    if not there:
        raise ConfigError("No films of your own yet. Give a zip with one folder of films for each class.")
    names = list(there)
    latest = st.session_state.get("import_name")
    name = st.selectbox(
        "Import",
        names,
        names.index(latest) if latest in names else len(names) - 1,
        format_func=lambda one: ", ".join(f"{label} {count}" for label, count in there[one].counts().items()),
        key=key("import"),
    )
    report = there[name]
    st.caption(
        f"{len(report.films)} films; the patient is known for {report.known_patients} (files named patient__name)."
    )
    if report.left_out:
        with st.expander(f"{len(report.left_out)} files take no part"):
            st.dataframe(
                [{"File": file, "Why": why} for file, why in report.left_out], hide_index=True, width="stretch"
            )
    if report.shared_patients:
        st.warning(f"{len(report.shared_patients)} patients have films in several classes.", icon=":material/group:")
    with st.popover("Delete these films", icon=":material/delete:"):
        st.write("They are removed from this machine. Runs on them keep their results, but cannot go on.")
        st.button("Delete them now", key="delete_import", on_click=_delete_import, args=(report.name,))
    return report.data()


def _delete_import(name: str) -> None:
    try:
        delete_import(name)
    except (DataError, OSError) as error:
        st.session_state["delete_import_problem"] = str(error)


def _network(base: RunConfig, key: object) -> tuple[str | ConfigurableCnn, int]:
    assert callable(key)
    st.markdown("**Network**")
    options = [_CONFIGURABLE, *FIXED_NETWORKS]
    current = base.network if isinstance(base.network, str) else _CONFIGURABLE
    chosen = st.selectbox(
        "Kind",
        options,
        options.index(current),
        format_func=lambda name: _NETWORKS.get(name, name),
        key=key("network"),
    )
    size = st.slider("Side of the films, pixels", 32, 256, base.input_size, 2, key=key("size"))
    if chosen != _CONFIGURABLE:
        return chosen, size
    layers = base.network if isinstance(base.network, ConfigurableCnn) else ConfigurableCnn()
    return (
        ConfigurableCnn(
            blocks=st.slider("Blocks", 1, 5, layers.blocks, key=key("blocks")),
            filters=st.slider("Filters of the first", 4, 128, layers.filters, 4, key=key("filters")),
            doubling=st.toggle("Twice as many in each further block", layers.doubling, key=key("doubling")),
            dropout=st.slider("Dropout", 0.0, 0.8, layers.dropout, 0.05, key=key("dropout")),
            batch_norm=st.toggle("Batch normalisation", layers.batch_norm, key=key("norm")),
            dense=st.slider("Dense units (0: none)", 0, 512, layers.dense, 16, key=key("dense")),
        ),
        size,
    )


def _learning(base: RunConfig, key: object) -> RunConfig:
    assert callable(key)
    st.markdown("**Learning**")
    rates = sorted({1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, base.learning_rate})
    return replace_all(
        base,
        optimizer=st.selectbox("Optimiser", OPTIMIZERS, OPTIMIZERS.index(base.optimizer), key=key("optimizer")),
        learning_rate=st.select_slider(
            "Learning rate", rates, base.learning_rate, format_func=lambda rate: f"{rate:g}", key=key("rate")
        ),
        schedule=st.selectbox(
            "It then",
            list(SCHEDULES),
            list(SCHEDULES).index(base.schedule),
            format_func=SCHEDULES.__getitem__,
            key=key("schedule"),
        ),
        batch_size=st.select_slider(
            "Films a batch", sorted({4, 8, 16, 32, 64, 128, base.batch_size}), base.batch_size, key=key("batch")
        ),
        epochs=st.number_input("Epochs", 1, 500, base.epochs, key=key("epochs")),
        augmentation=st.slider("Augmentation", 0.0, 1.0, base.augmentation, 0.05, key=key("augmentation")),
        label_noise=st.slider("Wrong labels, share", 0.0, 1.0, base.label_noise, 0.05, key=key("label_noise")),
        class_weights=st.toggle("Rare classes weigh more", base.class_weights, key=key("weights")),
        mixed_precision=st.toggle("Mixed precision (bfloat16)", base.mixed_precision, key=key("mixed")),
        seed=st.number_input("Seed", 0, 2**31 - 1, base.seed, key=key("seed")),
    )


def _broken(config: RunConfig) -> RunConfig:
    way = st.pills(
        "Break it on purpose",
        [name for name in BREAKAGES if name != "none"],
        default=config.breakage if config.breakage != "none" else None,
        key=f"breakage {config.name}",
        help="For teaching: each shows a way in which trainings go wrong in earnest.",
    )
    if way is None:
        return replace_all(config, breakage="none")
    st.info(f"{BREAKAGES[way]} **Look for**: {LOOK_FOR[way]}", icon=":material/build:")
    name = config.name if config.breakage == way else f"{config.name[:50]}, {way}"
    return replace_all(config, breakage=way, name=name)


def _sheet(config: RunConfig) -> None:
    if not st.toggle("Show the films, and what augmentation does to them", key="show_sheet"):
        return
    try:
        with st.spinner("Reading films"):
            sheet = contact_sheet(config)
    except (DataError, ManifestError) as error:
        st.error(plain(str(error)), icon=":material/broken_image:")
        return
    rows = [np.concatenate([film, *copies], axis=1) for film, copies in zip(sheet.films, sheet.augmented, strict=True)]
    for label, row in zip(sheet.labels, rows, strict=True):
        st.image(
            address(png(row)),
            width="content",
            caption=class_title(label),
            alt=f"A training film of class {class_title(label)}, then {len(sheet.augmented[0])} ways in which "
            "augmentation shows it",
        )
