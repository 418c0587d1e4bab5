"""Logs, bars, features and signals as tables for other tools: Parquet, Arrow, NumPy."""
