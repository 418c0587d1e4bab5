"""Recordings in, measurements out: the player, the virtual clock and the digest."""
