"""Components: Dagster definitions that are declared in YAML."""
