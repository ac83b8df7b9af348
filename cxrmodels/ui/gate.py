"""What the gate says of the film on the page: refused and why, or passed and what is unusual; how often it is right."""

from __future__ import annotations

import streamlit as st

from cxrmodels.gate import PASSED, UNAVAILABLE, Gate, figures
from cxrmodels.plots import percent


def show_gate(gate: Gate, film: str) -> bool:
    """The gate's verdict; returns whether the networks' answers are to be shown below it.

    Args:
        gate: what it says.
        film: the film's sha256; a viewer who looks anyway does so for this film alone.
    """
    if not gate.passed:
        return _refused(gate, film)
    if gate.state == UNAVAILABLE:
        st.warning(
            f"Nobody has checked whether this is an upright frontal chest film: {gate.reason}", icon=":material/no_sim:"
        )
    if gate.state == PASSED:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(" ".join(["Passed as an upright frontal chest film.", *gate.notes]), width="stretch")
            _about()
    return True


def _refused(gate: Gate, film: str) -> bool:
    st.error(f"**Refused: no upright frontal chest film.** {gate.reason}", icon=":material/block:")
    with st.container(horizontal=True, vertical_alignment="center"):
        looks = st.toggle(
            "Look anyway",
            key=f"look anyway {film}",
            help="Shows what the networks would have claimed. They know nothing but their findings and always claim "
            "one of them, whatever the picture is.",
        )
        _about()
    if looks:
        st.warning(
            "The answers below mean nothing. They show what the networks would have claimed, because each of them "
            "always claims one of its findings.",
            icon=":material/warning:",
        )
    return looks


def heading(gate: Gate | None, verdict: str) -> str:
    """A network's verdict as it stands on its card: of a refused film it is no more than a claim."""
    return verdict if gate is None or gate.passed else f"Would claim: {verdict}"


def _about() -> None:
    with st.popover("About this check"):
        rates = figures()
        st.markdown(
            "Looks at where the picture is light and dark and which way its edges run, and compares that with frontal "
            "films of adults and children."
        )
        if not rates:
            st.markdown("Its measured rates are missing here.")
            return
        for passes, title in ((True, "Real frontal films that pass"), (False, "Pictures that are none, refused")):
            st.markdown(f"**{title}**")
            st.markdown(
                "\n".join(
                    f"- {rate.title}: {round(rate.value * rate.count):,} of {rate.count:,} "
                    f"({percent(rate.low)} to {percent(rate.high)}){'' if rate.held_out else ', learnt from such'}"
                    for rate in rates
                    if rate.passes == passes
                )
            )
        st.caption("In brackets the 95 % interval.")
