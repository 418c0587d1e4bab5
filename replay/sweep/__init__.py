"""Parameter sweeps: many backtests of one recording, on cores or a cluster, every one kept."""
