"""Work-flows: calls that have not been made yet, and what they are combined to.

Of Celery's single module each story is told in one of ours. Their names are in the plural,
for ``pgtasks.canvas.group`` is the class, whoever asks for it and in whatever way.
"""

from __future__ import annotations

from pgtasks._state import current_app
from pgtasks.canvas.chains import _chain, chain
from pgtasks.canvas.chord_bodies import _clear_chord_option, _strip_chord_header_links
from pgtasks.canvas.chords import _chord, chord
from pgtasks.canvas.folding import (
    _fold_chain,
    _merge_chain_step,
    is_empty_group,
    maybe_unroll_group,
)
from pgtasks.canvas.groups import group
from pgtasks.canvas.mapping import _basemap, chunks, task_name_from, xmap, xstarmap
from pgtasks.canvas.members import _maybe_group
from pgtasks.canvas.signature import (
    Signature,
    maybe_signature,
    maybe_subtask,
    signature,
    subtask,
)
from pgtasks.canvas.stamping import StampingVisitor, _merge_dictionaries
from pgtasks.states import IGNORED, REJECTED
from pgtasks.utils.ids import time_ordered_uuid as uuid

__all__ = [
    "IGNORED",
    "REJECTED",
    "Signature",
    "StampingVisitor",
    "_basemap",
    "_chain",
    "_chord",
    "_clear_chord_option",
    "_fold_chain",
    "_maybe_group",
    "_merge_chain_step",
    "_merge_dictionaries",
    "_strip_chord_header_links",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "group",
    "is_empty_group",
    "maybe_signature",
    "maybe_subtask",
    "maybe_unroll_group",
    "signature",
    "subtask",
    "task_name_from",
    "uuid",
    "xmap",
    "xstarmap",
]
