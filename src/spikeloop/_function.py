"""Functions of autograd that are applied in every step of a training."""

from __future__ import annotations

from typing import Any

import torch

_transforming = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)  # where torch does not say: perhaps


class Function(torch.autograd.Function):
    """`torch.autograd.Function`, applied without what torch does for its function transforms where none is active.

    Between two calls of the engine that takes as long as everything else in `apply`.
    """

    @classmethod
    def apply(cls, *given: Any) -> Any:
        """What ``forward`` returns, differentiable."""
        if _transforming():
            return super().apply(*given)  # which refuses
        return super(torch.autograd.Function, cls).apply(*given)  # pyright: ignore[reportAttributeAccessIssue]
