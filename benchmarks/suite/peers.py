"""Peers on the same problems, in an environment of their own: .venv-peers, made on first use from PyPI alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from child import quietest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HOME = ROOT / ".venv-peers"
PYTHON = HOME / "bin" / "python"
# norse and spikingjelly ask for torchvision: the one that goes with the torch of constraints.txt
PACKAGES = ["torch", "torchvision==0.28.0", "snntorch", "norse", "spikingjelly", "spyx", "jaxsnn"]
THREADS = 2
STEPS = {"W1-LI": (0.5e-3, 1e-3), "W2": (0.3e-3,), "W2-140": (0.3e-3,), "W2-inputs": (0.3e-3,), "W4": (0.3e-3,)}
SCRIPTS = {
    "plain torch": "peer_torch.py",
    "snntorch": "peer_torch.py",
    "norse": "peer_torch.py",
    "spikingjelly": "peer_torch.py",
    "spyx": "peer_spyx.py",
    "jaxsnn": "peer_jaxsnn.py",
}
EVENT_BASED = {"jaxsnn": ("W1-LI", "W2-140")}  # no time step; what it can do in minutes

Line = dict[str, Any]


def settings(workload: str) -> Iterator[Line]:
    """Which peer does what."""
    for peer in SCRIPTS:
        every = {"kind": "peer", "workload": workload, "peer": peer, "dtype": "float32", "threads": THREADS}
        if peer in EVENT_BASED:
            if workload in EVENT_BASED[peer]:
                yield every | {"dt": None}
        else:
            for dt in STEPS.get(workload, ()):
                yield every | {"dt": dt}


def measured(setting: Line, problem: Path) -> Line:
    """One line of a peer."""
    _install()
    script = HERE / SCRIPTS[setting["peer"]]
    command = [str(PYTHON), str(script), setting["peer"], str(problem), str(setting["dt"]), str(setting["threads"])]
    return quietest(command, tries=1)


def _install() -> None:
    if (HOME / "ready").exists():
        return
    print(f"making {HOME}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
    pinned = os.environ | {"PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
    subprocess.run([str(PYTHON), "-m", "pip", "install", "--quiet", *PACKAGES], check=True, env=pinned)
    (HOME / "ready").touch()
