"""Numbers to candidates: bars, indicators, rules, fused into one compiled kernel."""
