"""Sources and pipelines that are written in YAML, without Python."""
