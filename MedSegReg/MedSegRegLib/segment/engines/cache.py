"""Files that can be made again, so that the next start need not. Engines walk: network -> [cache] -> graph, choice.

Names are hashes of all that the content depends on. Each file begins with the sha256 of the rest, so that a damaged one
is found and made again.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ...errors import OutputNotWritable
from ...files.atomic import atomic_path

DIGEST_BYTES = 32
MAX_BYTES = 4 << 30


def cache_folder() -> Path:
    """``$MEDSEGREG_CACHE``, else ``~/.medsegreg/cache``. It need not exist."""
    return Path(os.environ.get("MEDSEGREG_CACHE") or Path.home() / ".medsegreg" / "cache")


def cache_key(*parts: object) -> str:
    """A name for content that depends on these."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def read_cached(name: str) -> bytes | None:
    """The content of a file, or None where it is absent or damaged."""
    path = cache_folder() / name
    try:
        stored = path.read_bytes()
        digest, content = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        path.touch()  # the least recently used are removed first
    except OSError:
        return None
    return content


def write_cached(name: str, content: bytes) -> bool:
    """Keep a file, and remove the least recently used ones beyond 4 GiB. False where the folder cannot be written."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
        _remove_oldest(folder)
    except (OSError, OutputNotWritable):
        return False
    return True


def _remove_oldest(folder: Path) -> None:
    """Only files whose names are hashes: others in the folder are not ours."""
    files = [(path.stat(), path) for path in folder.iterdir() if len(path.stem) == 64 and path.is_file()]
    total = 0
    for status, path in sorted(files, key=lambda item: item[0].st_mtime, reverse=True):
        total += status.st_size
        if total > MAX_BYTES:
            path.unlink(missing_ok=True)
