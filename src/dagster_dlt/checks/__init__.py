"""Asset checks derived from dlt's hints, contracts and loads."""
