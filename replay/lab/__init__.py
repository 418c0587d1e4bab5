"""The latency lab: a log replayed open-loop through real processes, measured from intended time."""
