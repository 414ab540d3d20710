"""Loaded tables, read back: which one, which rows, and as what. Does not import Dagster."""
