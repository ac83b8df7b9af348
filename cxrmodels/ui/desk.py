"""Long work on a page: asked for by name, its progress shown, stopped and gone on with, looked at until it is done."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import streamlit as st

from cxrmodels.engine import Engine
from cxrmodels.explain.steps import Steps
from cxrmodels.fair_line import LineFullError
from cxrmodels.service import Job
from cxrmodels.ui.frame import service

_POLL_SECONDS = 0.5


class Desk:
    """What was asked for in this run of a page: jobs by name, and whether any is still at work."""

    def __init__(self, page: str, question: tuple[Hashable, ...]) -> None:
        """For a page, whose session keys begin with its name; what is stopped is stopped for this question."""
        self.question, self._page = question, page
        self.stopped = st.session_state.get(self._stopped_key) == question
        self.jobs: list[Job] = []
        self.waiting = False

    @property
    def _stopped_key(self) -> str:
        return f"{self._page}_stopped"

    def ask(self, name: str, key: str, make: Callable[[Engine], Steps[Any]], words: str, *about: Hashable) -> Any:
        """The answer of a job, or None while it is at work; how far it is stands on the page."""
        named = (name, key, *(about or self.question))
        job = service().known(named) if self.stopped else service().work(named, key, make)
        if job is None or job.answer.cancelled():
            st.caption(f"{words}: stopped.")
            return None
        if not job.answer.done():
            self.jobs.append(job)
            self.waiting = True
            st.progress(min(1.0, job.share), f"{words}: {100 * job.share:.0f} %")
            return None
        problem = job.answer.exception()
        if isinstance(problem, LineFullError):  # Asked for again when the page looks again.
            self.waiting = True
            st.caption(f"{words}: {problem}")
            return None
        if problem is not None:
            st.error(f"{words} failed ({problem}).", icon=":material/error:")
            return None
        return job.answer.result()

    def control(self, place: Any) -> None:
        """A button that stops what is at work, or goes on with what was stopped."""
        if self.jobs:
            place.button("Stop", icon=":material/stop_circle:", on_click=self._stop, key=f"{self._page}_stop")
        elif self.stopped:
            place.button("Go on", icon=":material/play_circle:", on_click=self._go_on, key=f"{self._page}_go_on")

    def _stop(self) -> None:
        for job in self.jobs:
            job.stop()
        st.session_state[self._stopped_key] = self.question

    def _go_on(self) -> None:
        st.session_state.pop(self._stopped_key, None)


def look_again(page: str, board: Callable[..., bool], *arguments: Any) -> None:
    """Show a part of a page that looks again by itself as long as it waits for something.

    Args:
        page: its name.
        board: shows it, and returns whether it waits.
        arguments: of `board`.
    """
    key = f"{page}_polling"
    polling = bool(st.session_state.get(key))

    def shown() -> None:
        waiting = board(*arguments)
        if waiting != polling:
            # Whether the page looks again by itself is decided when the whole script runs.
            st.session_state[key] = waiting
            st.rerun()

    st.fragment(shown, run_every=_POLL_SECONDS if polling else None)()
