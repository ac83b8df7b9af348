"""Viewers without browsers: sessions that speak Streamlit's own protocol, so that the server alone is measured.

`python -m tests.benchmarks.sessions --films 200 --thinks 0.5 --write` is the whole soak, and writes `docs/soak.md`. Ten
browsers would be ten times the server's work.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from itertools import islice

import numpy as np
import requests
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.Common_pb2 import FileURLsRequest, UploadedFileInfo
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from cxrmodels.zoo import shipped
from tests.benchmarks.page import ROOT, free_port, memory, served, settle
from tests.benchmarks.users import STUCK, made_films

SESSIONS, FILMS, THINKS = 10, 20, 8.0
_ALONE, _ROUNDS, _OF_MEMORY = 8, 3, 2
_GONE = 20.0
"""Seconds after viewers have gone in which their sessions are to end."""


class Session:
    """One viewer on the first page, the notice accepted: what the browser's side of Streamlit does, nothing drawn."""

    def __init__(self, port: int) -> None:
        self._address, opened = f"http://127.0.0.1:{port}", ExitStack()
        stream, streamlit = f"ws://127.0.0.1:{port}/_stcore/stream", Subprotocol("streamlit")
        while True:
            try:
                # As in a browser: no pings, which a server that has much to do might answer too late.
                link = connect(stream, subprotocols=[streamlit], max_size=None, proxy=None, ping_interval=None)
                break
            except ConnectionRefusedError:  # The server is only starting.
                time.sleep(0.05)
        self._socket, self.close = opened.enter_context(link), opened.close
        self._id = self._page = self._button = self._dialog = self._uploader = ""
        self._film: UploadedFileInfo | None = None
        self._forget_page()
        self._rerun()
        self._finish()
        self._rerun(WidgetState(id=self._button, trigger_value=True), fragment=self._dialog)
        self._finish()

    def drop(self, film: bytes, after: float = 0.0) -> float:
        """Replace the film in `after` seconds; seconds from then until a run ends that sent all its heat maps."""
        time.sleep(after)
        began, before = time.monotonic(), self._film
        self._film = self._upload(film)
        self._forget_page()
        self._rerun()
        self._finish(len(shipped()))
        taken = time.monotonic() - began
        while self._timers:  # There is more to come, which a browser fetches while its viewer looks at the maps.
            self._finish()
        if before:  # as a browser does when its viewer takes a film off the list
            requests.delete(self._address + before.file_urls.delete_url, timeout=STUCK).raise_for_status()
        return taken

    def _upload(self, film: bytes) -> UploadedFileInfo:
        asked = FileURLsRequest(request_id=uuid.uuid4().hex, file_names=["film.jpg"], session_id=self._id)
        self._socket.send(BackMsg(file_urls_request=asked).SerializeToString())
        replies = (one.file_urls_response for one in self._messages() if one.HasField("file_urls_response"))
        urls = next(one for one in replies if one.response_id == asked.request_id).file_urls[0]
        files = {"film.jpg": ("film.jpg", film, "image/jpeg")}
        requests.put(self._address + urls.upload_url, files=files, timeout=STUCK).raise_for_status()
        return UploadedFileInfo(name="film.jpg", size=len(film), file_id=urls.file_id, file_urls=urls)

    def _rerun(self, *widgets: WidgetState, fragment: str = "", by_timer: bool = False) -> None:
        """Have the script run. No message is claimed to be cached here, so that all come in full."""
        state = ClientState(page_script_hash=self._page, fragment_id=fragment, is_auto_rerun=by_timer)
        state.widget_states.widgets.extend(widgets)
        if self._film:
            uploader = state.widget_states.widgets.add(id=self._uploader)
            uploader.file_uploader_state_value.uploaded_file_info.append(self._film)
        self._socket.send(BackMsg(rerun_script=state).SerializeToString())

    def _finish(self, maps: int = 0) -> None:
        """Read until a run of the whole page has ended that has sent so many heat maps."""
        for message in self._messages():
            ended = message.HasField("script_finished") and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
            if ended and len(self._maps) >= maps:
                return

    def _messages(self) -> Iterator[ForwardMsg]:
        """What the server sends from now on, noted already; meanwhile the page's timers go on."""
        until = time.monotonic() + STUCK
        while (now := time.monotonic()) < until:
            for fragment, (seconds, due) in self._timers.items():
                if due <= now:
                    self._timers[fragment] = seconds, now + seconds
                    self._rerun(fragment=fragment, by_timer=True)
            next_due = min([until, *(due for _, due in self._timers.values())])
            try:
                message = ForwardMsg.FromString(self._socket.recv(next_due - now, decode=False))
            except TimeoutError:
                continue
            self._note(message)
            yield message
        raise AssertionError(f"No complete page in {STUCK:.0f} s, only the maps {sorted(self._maps.values())}")

    def _forget_page(self) -> None:
        self._timers: dict[str, tuple[float, float]] = {}  # by fragment: seconds, and when it is due
        self._maps: dict[tuple[int, ...], str] = {}  # by place on the page, of which each network's card has one

    def _note(self, message: ForwardMsg) -> None:
        """Keep what a browser would act on. A widget's key is the end of its id."""
        element = message.delta.new_element
        assert not element.HasField("exception"), f"{element.exception.type}: {element.exception.message}"
        if message.HasField("new_session"):
            self._id = message.new_session.initialize.session_id
            if not message.metadata.run.fragment_ids:  # The whole page is drawn anew, its timers end.
                self._forget_page()
        elif message.HasField("navigation"):
            self._page = message.navigation.page_script_hash
        elif message.HasField("auto_rerun"):
            seconds = message.auto_rerun.interval
            self._timers[message.auto_rerun.fragment_id] = seconds, time.monotonic() + seconds
        elif element.button.id.endswith("-accept_notice"):
            self._button, self._dialog = element.button.id, message.delta.fragment_id
        elif element.file_uploader.id.endswith("-uploads"):
            self._uploader = element.file_uploader.id
        for image in element.imgs.imgs:
            if image.alt.startswith("Grad-CAM for"):
                self._maps[tuple(message.metadata.delta_path)] = image.alt


def measure_sessions(sessions: int = SESSIONS, films: int = FILMS, thinks: float = THINKS) -> list[tuple[str, str]]:
    """(what, figure), of viewers with so many films each, who look at one for `thinks` seconds on average.

    An error on a page, or a film that is never answered, ends it with an exception.
    """
    port, made = free_port(), made_films(320)
    # The token against forged requests comes with the page's files, which nobody loads here.
    options = "--server.enableXsrfProtection=false --server.disconnectedSessionTTL=1 --server.fileWatcherType=none"
    # Where something fails the server ends first, so that no thread goes on for long.
    with ThreadPoolExecutor(sessions) as pool, served(port, "app.py", *options.split()) as process:
        single = Session(port)
        for film in islice(made_films(1024), 3):  # all networks loaded and compiled, heat maps too
            single.drop(film)
        settle(process)
        alone = statistics.median(single.drop(film) for film in islice(made, _ALONE))
        single.close()
        time.sleep(_GONE)
        began = most = memory(process)
        viewers = [Session(port) for _ in range(sessions)]
        together: list[float] = []
        for _ in range(_ROUNDS):  # With a thread for each, all begin within a millisecond.
            together += pool.map(Session.drop, viewers, list(islice(made, sessions)))
            most = max(most, memory(process))

        pauses = np.random.default_rng(1).exponential(thinks, (sessions, films)).tolist()
        views = [  # by threads that go through the pauses and drops of one viewer each
            pool.submit(list, map(viewer.drop, list(islice(made, films)), looks))
            for viewer, looks in zip(viewers, pauses, strict=True)
        ]
        while (now := wait(views, timeout=1)).not_done:
            most = max(most, memory(process))
            for view in now.done:
                view.result()  # an error of one viewer ends it for all
        apart = [taken for view in views for taken in view.result()]
        for viewer in viewers:
            viewer.close()
        time.sleep(_GONE)
        ended = memory(process)

    at_once, late = (float(np.percentile(taken, 95)) for taken in (together, apart))
    who = f"{sessions} viewers who look at each film for {thinks:g} s on average, no error"
    return [
        ("a film of 320 px after another, one session: all Grad-CAMs", f"{alone:.2f} s"),
        (f"{sessions} sessions at the same instant: 95th percentile", f"{at_once:.2f} s ({at_once / alone:.1f} x)"),
        (f"{who}: 95th percentile (target: under 3 x one session's)", f"{late:.2f} s ({late / alone:.1f} x)"),
        (f"server memory during {sessions} sessions x {_ROUNDS + films} films, at most", f"{most - began:+.0f} MB"),
        ("the same when they have gone (target: within 200 MB)", f"{ended - began:+.0f} MB"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--films", type=int, default=FILMS, help="films of each viewer")
    parser.add_argument("--thinks", type=float, default=THINKS, help="seconds a viewer looks at a film, on average")
    parser.add_argument("--write", action="store_true", help="write the figures to docs/soak.md")
    arguments = parser.parse_args()
    found = measure_sessions(arguments.sessions, arguments.films, arguments.thinks)
    rows = [f"| {what} | {figure} |" for what, figure in found]
    head = ["| many users | measured |", "|---|---|"]
    if arguments.write:
        options = f"--films {arguments.films} --thinks {arguments.thinks:g} --write"
        lines = [
            "# The soak",
            "",
            f"Written by `python -m tests.benchmarks.sessions {options}`: {len(shipped())} networks, "
            f"{os.cpu_count()} cores.",
            "Every film was answered, with all its heat maps, and no page showed an error: either would have ended it.",
            "How long viewers wait who take their time to look is in [performance.md](performance.md).",
            "",
            *head,
            *rows[-_OF_MEMORY:],
            "",
        ]
        (ROOT / "docs" / "soak.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join([*head, *rows]))


if __name__ == "__main__":
    main()
