"""How much was taken back."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Taken:
    """Rows that were deleted, and files that were removed: their rows nobody has counted."""

    rows: int = 0
    files: int = 0

    def __add__(self, other: "Taken") -> "Taken":
        """Return both together."""
        return Taken(self.rows + other.rows, self.files + other.files)

    def __str__(self) -> str:
        """Say it in words."""
        parts = [f"{self.rows} rows"] if self.rows or not self.files else []
        return " and ".join([*parts, *([f"{self.files} files"] if self.files else [])])
