"""Work-flows: signatures, which are calls that have not been made yet."""

from __future__ import annotations

from pgtasks.canvas.signature import (
    Signature,
    maybe_signature,
    maybe_subtask,
    signature,
    subtask,
)

__all__ = ["Signature", "maybe_signature", "maybe_subtask", "signature", "subtask"]
