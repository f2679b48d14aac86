"""Has it become slower? Shares of the bare sweep, which the same run measures, beside those that were accepted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "results" / "speed_baseline.json"
BOUND = 0.75  # of the accepted share: machines are noisy

Line = dict[str, Any]


def shares(lines: Sequence[Line]) -> dict[str, float]:
    """Of the bare sweep's rate, by workload, setting and phase."""
    found = dict[str, float]()
    for line in lines:
        if line["kind"] == "ours":
            words = [line["workload"], line["substrate"], line["dtype"], f"{line['threads']} thread(s)"]
            for phase, rate in line["rates"].items():
                found[", ".join([*words, phase])] = rate["median"] / line["roofline"]["sweep"]
    return found


def accept(lines: Sequence[Line]) -> None:
    """Let these be what later ones are compared with."""
    PATH.write_text(json.dumps({"bound": BOUND, "share of the bare sweep": shares(lines)}, indent=1) + "\n")


def check(lines: Sequence[Line]) -> int:
    """0, or 1 where any share is below the bound; says which."""
    if not PATH.exists():
        print(f"there is no {PATH}: --accept makes the present lines the baseline")
        return 1
    accepted = json.loads(PATH.read_text())
    now, slower = shares(lines), 0
    for key, share in accepted["share of the bare sweep"].items():
        if key in now and now[key] < accepted["bound"] * share:
            slower = 1
            print(f"slower: {key}: {now[key]:.3f} of the bare sweep, accepted {share:.3f}")
    return slower
