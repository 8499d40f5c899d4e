"""What is said of a store that cannot be used."""

from __future__ import annotations

import errno
from pathlib import Path

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EROFS: "it cannot be written",
    errno.EACCES: "it may not be written",
}


class StoreError(RuntimeError):
    """A store that cannot be used as it is; the message names the file, and what is intact."""


def store_error(directory: Path, error: OSError) -> StoreError:
    """The `StoreError` that says what the system could not do in a store."""
    reason = _REASONS.get(error.errno or 0, str(error))
    return StoreError(f"the store {directory}: {reason}; the blocks that are finished are intact")
