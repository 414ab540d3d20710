"""Who has taken a parked room: what a load writes of itself beside the archive."""

import json
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from uuid import uuid4

from dagster_dlt.loading.entry import Loader
from dagster_dlt.loading.machine import machine


@dataclass(frozen=True)
class Owner:
    """A load that has taken a parked room."""

    #: By which it knows itself, and what its sign of life is called by.
    load_id: str
    host: str
    machine: str
    run_id: str
    step: str
    attempt: int
    since: float
    beat_at: float

    @classmethod
    def new(cls, loader: Loader) -> "Owner":
        """Return an owner that is this process."""
        return cls(
            load_id=f"owner {uuid4().hex}",
            host=socket.gethostname(),
            machine=machine(),
            run_id=loader.run_id,
            step=loader.step,
            attempt=loader.attempt,
            since=time.time(),
            beat_at=time.time(),
        )

    @classmethod
    def of(cls, text: bytes) -> "Owner | None":
        """Read what was written; return None if it is being written just now."""
        with suppress(ValueError, TypeError):
            return cls(**json.loads(text))
        return None

    @property
    def text(self) -> bytes:
        """What is written."""
        return json.dumps(asdict(self)).encode()

    @property
    def loader(self) -> Loader:
        """Who loads."""
        return Loader(self.run_id, self.step, self.attempt)

    def alive(self) -> "Owner":
        """Return it with a sign of life."""
        return replace(self, beat_at=time.time())

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, timezone.utc)
        return f"run {self.run_id} on {self.host}, since {since}"
