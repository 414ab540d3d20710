"""New York's flights of 2013, loaded by dlt as Dagster assets."""
