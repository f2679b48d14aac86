"""Where a chip was left, as a part of a state."""

from __future__ import annotations

from spikeloop.chip.host import Continued
from spikeloop.errors import ShapeMismatch, Unsupported
from spikeloop.protocols import Trial

PART = "chip"
"""Where a chip's own state lies in ``State.parts``."""


def continued(trial: Trial) -> Continued | None:
    """A chip's part of the state that ``trial`` starts from.

    Raises ``Unsupported`` where it has none, ``ShapeMismatch`` where that is of another batch.
    """
    if trial.start is None:
        return None
    part = trial.start.parts.get(PART)
    if not isinstance(part, Continued):
        raise Unsupported("a chip cannot continue from a state of another place", where="start",
                          expected="record.state of a run on it", todo="Leave out start=")  # fmt: skip
    if len(part) != trial.batch:
        what = f"the state is of {len(part)} samples"
        raise ShapeMismatch(what, where="start", expected=f"{trial.batch}, as the drive")
    return part
