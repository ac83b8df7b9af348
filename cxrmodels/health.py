"""Whether the server on this machine answers: `python -m cxrmodels.health`, for containers and supervisors."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request


def address() -> str:
    """Where the server says how it is, by the variables that Streamlit itself goes by."""
    port = os.environ.get("STREAMLIT_SERVER_PORT", "8501")
    path = os.environ.get("STREAMLIT_SERVER_BASE_URL_PATH", "").strip("/")
    return "/".join(filter(None, (f"http://127.0.0.1:{port}", path, "_stcore/health")))


def main() -> int:
    """Returns 0 where it answers, 1 where it does not, and says why."""
    # Not through a proxy: it is this machine that is asked.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address(), timeout=4) as answer:
            answer.read()
    except (urllib.error.URLError, OSError) as error:
        print(f"{address()} does not answer: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
