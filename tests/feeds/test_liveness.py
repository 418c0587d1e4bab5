"""A peer that falls silent is told of once, and so is its return."""

from feeds.liveness import PEER_BACK, PEER_LOST, Liveness, PeerChange

MS = 1_000_000
EVERY = 50 * MS


def test_loss_and_return_are_told_once_each_with_how_long() -> None:
    one = Liveness(EVERY)
    changes = {}
    for look in range(100):
        change = one.look(not 40 <= look < 60, look * EVERY)
        if change is not None:
            changes[look] = change
    assert changes == {
        40: PeerChange(PEER_LOST, 40 * EVERY),
        60: PeerChange(PEER_BACK, 20 * EVERY),
    }
    assert (one.losses, one.alive) == (1, True)


def test_a_peer_that_was_never_there_is_not_lost() -> None:
    one = Liveness(EVERY)
    assert [one.look(False, at * EVERY) for at in range(9)] == [None] * 9
    assert one.alive is None
    assert one.look(True, 9 * EVERY) is None
    assert one.alive


def test_who_was_held_up_itself_declares_nobody_lost() -> None:
    one = Liveness(EVERY)
    one.look(True, EVERY)
    assert one.look(False, EVERY + 3_000 * MS) is None, "the messages wait to be read"
    assert one.look(True, EVERY + 3_050 * MS) is None
    assert one.losses == 0
    assert one.look(False, EVERY + 9_000 * MS) is None
    change = one.look(False, EVERY + 9_050 * MS)
    assert change is not None
    assert change.kind == PEER_LOST
