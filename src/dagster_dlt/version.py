"""The one place that knows the version; the build and `dagster_dlt.__version__` read it here."""

__version__ = "1.0.0.dev0"
