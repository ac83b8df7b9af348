"""Fuzz the reader for some minutes: `python -m tests.fuzz [--minutes 10] [--folder DIR]`, on Linux.

What is found lies in the folder, one file each, and the exit code is 1. Corpus and findings are synthetic: they
start from files made by code.
"""

from __future__ import annotations

import argparse
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

_MEGABYTES = 1500
"""The process may not grow beyond: the reader's own limit of 60 million pixels needs less."""


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--folder", type=Path, help="corpus and findings; a temporary one if not named")
    options.add_argument(
        "--seconds-each", type=int, default=10, help="what takes longer for one file counts as found (default: 10)"
    )
    options.add_argument("--one-process", action="store_true", help=argparse.SUPPRESS)
    chosen, rest = options.parse_known_args()
    if chosen.one_process:
        _fuzz(rest)
        return 0
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="cxrmodels-fuzz-"))
    return _until(time.monotonic() + 60 * chosen.minutes, folder, chosen.seconds_each)


def _until(end: float, folder: Path, seconds_each: int) -> int:
    """Fuzz, in a new process after each finding."""
    from tests.fuzz.seeds import seeds

    corpus, found = folder / "corpus", folder / "found"
    for place in (corpus, found):
        place.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (corpus / name).write_bytes(data)
    while (left := int(end - time.monotonic())) > 0:
        subprocess.run(
            [
                sys.executable,
                *("-m", "tests.fuzz", "--one-process", str(corpus)),
                f"-artifact_prefix={found}/",
                f"-max_total_time={left}",
                f"-timeout={seconds_each}",
                f"-rss_limit_mb={_MEGABYTES}",
                "-max_len=20000",
                "-print_final_stats=1",
            ],
            check=False,
        )
    findings = sorted(path for path in found.iterdir() if not path.name.startswith("slow-unit"))
    print(f"{len(findings)} findings in {found}")
    return 1 if findings else 0


def _fuzz(arguments: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["PIL", "pydicom", "cxrmodels"]):
        import cxrmodels.radiograph
        from tests.broken_inputs import answered_or_refused
    # Loaded late by the reader, and instrumented only when they are.
    with atheris.instrument_imports(include=["PIL", "pydicom"]):
        from tests.fuzz.seeds import seeds

        for data in seeds().values():
            answered_or_refused(data)
    # Files here are of 20 KB at most: what makes more pixels of them than this would do no better with more.
    cxrmodels.radiograph.MAX_PIXELS = 4_000_000

    def try_one(data: bytes) -> None:
        answered_or_refused(data)

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        changed = atheris.Mutate(data, most)
        # Nothing behind a wrong checksum is ever reached: most get the right ones.
        return repaired(changed) if random.Random(seed).random() < 0.9 else changed

    atheris.Setup([sys.argv[0], *arguments], try_one, custom_mutator=mutated)
    atheris.Fuzz()


def repaired(data: bytes) -> bytes:
    """A PNG with the checksums that its chunks should have; anything else as it came."""
    if not re.match(rb"\x89PNG\r\n\x1a\n", data):
        return data
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        out += data[at:end] + struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(out + data[at:])


if __name__ == "__main__":
    sys.exit(main())
