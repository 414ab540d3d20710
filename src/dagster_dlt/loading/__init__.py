"""How a load runs. Knows dlt and plain values; Dagster's definitions are none of its business."""
