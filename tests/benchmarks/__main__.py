"""`python -m tests.benchmarks`: measures everything in one run and writes `docs/performance.md`."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from cxrmodels.zoo import shipped
from tests.benchmarks import batch, gate, inference, lab, page, sessions, users
from tests.benchmarks.page import ROOT


def main() -> None:
    compared = _comparison()
    browser = page.measure_browser()
    drops = users.measure_users()
    together = sessions.measure_sessions()
    rerun = page.measure_rerun()
    ways = inference.measure()
    starts = inference.first_answers()
    checks = inference.slow_checks()
    films = inference.phantoms_per_second()
    judged = gate.measure_gate()
    trained = lab.measure_lab()
    many = batch.measure_batch()
    lines = [
        "# Performance",
        "",
        "Written by `python -m tests.benchmarks`, all in one run; ratios count, absolute times depend on the machine.",
        "",
        f"{os.cpu_count()} cores, Python {platform.python_version()}; models: {', '.join(shipped())}.",
        "",
        "| all shipped models on one film of 1024 x 1024 px, warm | ms | x bare |",
        "|---|---|---|",
        *(f"| {way} | {taken:.0f} | {ratio:.2f} |" for way, taken, ratio in ways),
        "",
        "Target: probabilities within 1.25 x the bare passes.",
        "",
        "| the page | measured |",
        "|---|---|",
        *(f"| {what} | {figure} |" for what, figure in [*browser, *drops, *starts, *rerun, *judged]),
        f"| synthetic films of 224 px, one core (target 100 a second) | {films:.0f} a second |",
        "",
        "| slow checks of a heat map | measured |",
        "|---|---|",
        *(f"| {what} | {figure} |" for what, figure in checks),
        "",
        "| many users | measured |",
        "|---|---|",
        *(f"| {what} | {figure} |" for what, figure in together),
        "",
        "| the comparison, on made-up films | measured |",
        "|---|---|",
        *(f"| {what} | {figure} |" for what, figure in compared),
        "",
        "| the training lab | measured |",
        "|---|---|",
        *(f"| {what} | {figure} |" for what, figure in trained),
        "",
        "| many films | measured |",
        "|---|---|",
        *(f"| {what} | {figure} |" for what, figure in many),
        "",
    ]
    (ROOT / "docs" / "performance.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def _comparison() -> list[tuple[str, str]]:
    """In a process of its own: it needs no TensorFlow, which would be walked through after each run of a script, and a
    child's peak memory counts from its parent's."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.comparison"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    pairs = (line.rpartition(": ") for line in done.stdout.splitlines())
    return [(what, figure) for what, _, figure in pairs]


if __name__ == "__main__":
    main()
