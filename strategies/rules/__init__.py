"""One compiled rule a file; each ends in its ``SPEC``.

A rule proposes on an event, once, never on every sample while a condition holds. Its ``strength``
is the size of the event on a scale that the rule names, 0 to 1. Its ``confidence`` is 0.5 when the
event stands alone and more as other inputs agree; it ranks, it is no calibrated probability. Its
``edge_bps`` is the expected move where the rule has a reason to expect one, else NaN.
"""
