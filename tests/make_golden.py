"""Writes `golden.json`: what every shipped model says of one phantom. Run it when weights were trained anew:

python -m tests.make_golden
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cxrmodels.engine import Engine
from cxrmodels.inference import predict
from cxrmodels.phantom import phantom
from cxrmodels.radiograph import Radiograph
from cxrmodels.zoo import load, shipped

GOLDEN = Path(__file__).with_name("golden.json")


def golden_film() -> Radiograph:
    """The film all golden logits are of."""
    return phantom("covid19", seed=7, size=512).radiograph()


def main() -> None:
    film = golden_film()
    golden = {}
    for key in shipped():
        prediction, _ = predict(Engine(load(key)), film)
        golden[key] = {
            "weights_sha256": prediction.weights_sha256,
            "logits": {
                name: round(float(logit), 4) for name, logit in zip(prediction.findings, prediction.logits, strict=True)
            },
        }
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{GOLDEN.name}: {', '.join(golden) or 'no model is shipped'}\n")


if __name__ == "__main__":
    main()
