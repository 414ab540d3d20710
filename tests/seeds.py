"""Which games are played: those of the commit."""

import subprocess
from pathlib import Path
from typing import Final

#: Where the sources are without their history.
NO_COMMIT: Final = "0000000"


def seeds(number: int, base: str | None = None) -> list[str]:
    """Return seeds: others for each commit, and the same for the same one."""
    base = base or _commit()
    return [f"{base}-{each}" for each in range(number)]


def _commit() -> str:
    question = ["git", "rev-parse", "--short=7", "HEAD"]
    try:
        answer = subprocess.run(
            question, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return NO_COMMIT
    return answer.stdout.strip()
