"""Order books rebuilt from depth snapshots and diffs: pure, and compiled where levels change."""
