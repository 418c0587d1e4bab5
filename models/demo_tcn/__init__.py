"""The demo's model: a small causal network over one-second bars of the simulated market."""
