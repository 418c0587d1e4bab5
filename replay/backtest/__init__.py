"""Signals into fills, trades and money: the pipeline of live with a simulated market behind it."""
