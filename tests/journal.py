"""What processes write down about themselves."""

import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """A file that several processes append lines to; what was written survives a SIGKILL."""

    def __init__(self, path: Path, **always: object) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._always = always

    def write(self, what: str, **more: object) -> None:
        line = json.dumps({"what": what, **self._always, **more})
        os.write(self._file, f"{line}\n".encode())


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a journal."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
