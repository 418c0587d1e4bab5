"""Shared by all tests."""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile(
    "heqis", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("heqis")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore it, and what tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
