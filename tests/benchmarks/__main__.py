"""`python -m tests.benchmarks`: measures everything in one run and writes `docs/performance.md`."""

from __future__ import annotations

import os
import platform

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from cxrmodels.zoo import shipped
from tests.benchmarks import inference, page
from tests.benchmarks.page import ROOT


def main() -> None:
    browser = page.measure_browser()
    rerun = page.measure_rerun()
    ways = inference.measure()
    films = inference.phantoms_per_second()
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
        "Targets: probabilities within 1.3 x, with Grad-CAM within 2.5 x the bare passes.",
        "",
        "| the page | measured |",
        "|---|---|",
        *(f"| {what} | {figure} |" for what, figure in [*browser, *rerun]),
        f"| synthetic films of 224 px, one core (target 100 a second) | {films:.0f} a second |",
        "",
    ]
    (ROOT / "docs" / "performance.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
