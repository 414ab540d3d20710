"""When a process that is to be killed ends."""

from dataclasses import dataclass
from typing import Final

#: Moments with a name of their own. The rest are statements and files.
NAMED: Final = {
    "item": "a generator is about to give a page of rows",
    "packed": "the package is complete on the disk",
    "normalized": "the package is normalized",
    "job started": "a job is about to run",
    "job committed": "a job is committed at the destination, and dlt has not noted it",
    "job noted": "dlt has noted that the job is done, and has not moved its file",
    "job moved": "the job's file is in its last folder",
    "job forgotten": "the note is removed",
    "completing": "all jobs are done, the package is not in _dlt_loads",
    "completed": "the package is in _dlt_loads, and nothing on the disk says so",
    "marked": "the package is marked as completed, its folder was not moved",
    "moved": "the package's folder is moved",
    "loaded": "dlt has returned, nothing is reported",
    "reporting": "a materialization is about to be stored",
    "reported": "a materialization is stored",
}


@dataclass(frozen=True)
class End:
    """The moment at which a process dies: the n-th of its kind, or of all where no kind is said.

    `delay` is a number of seconds by which death is late, so that it comes in the middle of
    whatever the process does then, such as a statement that the server is busy with.
    """

    occurrence: int
    kind: str | None = None
    delay: float = 0.0
