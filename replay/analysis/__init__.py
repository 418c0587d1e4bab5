"""What a replay can prove: where live differs, what a signal stands on, what knows the future."""
