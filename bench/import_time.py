"""What `import dagster_dlt` adds to importing Dagster and dlt, each in a fresh interpreter."""

import subprocess
import sys

from _clock import compare, report

ROUNDS = 7


def importing(modules: str) -> None:
    """Import modules in an interpreter of their own."""
    subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)


def main() -> None:
    """Measure and print."""
    seconds = compare(
        ROUNDS,
        {
            "import dagster, dlt": lambda: importing("dagster, dlt"),
            "import dagster_dlt": lambda: importing("dagster, dlt, dagster_dlt"),
        },
    )
    report("Import, interpreter start included", seconds, baseline="import dagster, dlt")


if __name__ == "__main__":
    main()
