"""Link recovery without sockets: everything comes once and in order, or is a declared gap."""

from typing import Any

import pytest
from frame_cases import make_ticks
from hypothesis import given
from hypothesis import strategies as st
from recovery_rig import GATEWAY, MS, MemorySpool, Rig

from feeds.control_messages import UNSUPPORTED, ErrorReply, Resend, Resent
from feeds.sequencer import Sequencer


def flowing(past: MemorySpool | None = None, **link: Any) -> Rig:
    rig = Rig(past=past, **link)
    rig.welcome()
    rig.publish(3)
    rig.deliver()
    return rig


def lose(rig: Rig, frames: int = 1, ticks: int = 2) -> None:
    for _ in range(frames):
        rig.publish(ticks)
        rig.wire.pop()


def test_a_lost_frame_comes_again_and_what_followed_waits_for_it() -> None:
    rig = flowing()
    lose(rig)
    rig.publish(2)
    rig.deliver()
    assert rig.recovery.holding
    assert rig.taker.places[-1] == (1000, 3)
    assert [(r.first_seq, r.count) for r in rig.asked] == [(4, 2)]
    rig.serve()
    assert not rig.recovery.holding
    assert rig.taker.places == [(1000, seq) for seq in range(1, 8)]
    assert rig.taker.resent == 2
    assert rig.taker.gaps == 0
    assert rig.recovery.counters["recovered"] == 2


def test_gaps_that_come_while_waiting_are_asked_for_together() -> None:
    rig = flowing()
    for _ in range(5):
        lose(rig)
        rig.publish(1)
        rig.deliver()
    assert len(rig.asked) == 1
    rig.serve()
    assert [(r.first_seq, r.count) for r in rig.asked] == [(6, 12)]
    rig.settle()
    assert rig.taker.places == [(1000, seq) for seq in range(1, 19)]


def test_what_the_ring_dropped_comes_from_the_spool() -> None:
    rig = flowing(past=MemorySpool())
    lose(rig, frames=200)
    rig.publish(1)
    rig.deliver()
    rig.settle()
    assert rig.taker.places == [(1000, seq) for seq in range(1, 405)]
    assert rig.recovery.counters["requests"] > 3


def test_what_nobody_holds_is_a_gap_of_exactly_those_ticks() -> None:
    rig = flowing()
    lose(rig, frames=100)
    rig.publish(1)
    rig.deliver()
    rig.settle()
    oldest = rig.ring[rig.ring.tail].first_seq
    assert rig.taker.gap_places == [(1000, 4, oldest - 4)]
    (told,) = rig.taker.sink.of("gap")
    assert told == {
        "gateway": GATEWAY, "epoch": 1000, "first_missing": 4, "missing": oldest - 4,
        "reason": "gone",
    }  # fmt: skip
    rig.assert_accounted()


def test_a_hole_in_the_spool_is_a_gap_and_both_sides_of_it_come() -> None:
    rig = flowing(past=MemorySpool())
    lose(rig, frames=30)
    for _ in range(10):
        rig.publish(2, spooled=False)
    lose(rig, frames=170)
    rig.wire.clear()
    rig.publish(1)
    rig.deliver()
    rig.settle()
    assert rig.taker.gap_places == [(1000, 64, 20)]
    rig.assert_accounted()


def test_what_the_spool_removed_is_a_gap_of_exactly_those_ticks() -> None:
    past = MemorySpool()
    rig = flowing(past=past)
    lose(rig, frames=300)
    del past.logs[1000][:101]
    rig.publish(1)
    rig.deliver()
    rig.settle()
    assert rig.taker.gap_places == [(1000, 4, 200)]
    assert rig.taker.places[3:] == [(1000, seq) for seq in range(204, 605)]
    rig.assert_accounted()


def test_the_rest_of_the_epoch_before_comes_from_its_spool() -> None:
    rig = flowing(past=MemorySpool())
    lose(rig, frames=3)
    rig.restart_gateway()
    lose(rig, frames=2)
    rig.publish(2)
    rig.deliver()
    rig.settle()
    assert rig.taker.places == [(1000, s) for s in range(1, 10)] + [(1010, s) for s in range(1, 7)]
    (told,) = rig.taker.sink.of("gap")
    assert told["previous_missing"] == 0
    assert (told["epoch"], told["first_missing"], told["missing"]) == (1010, 1, 0)


def test_epochs_that_came_and_went_meanwhile_are_not_left_out() -> None:
    rig = flowing(past=MemorySpool())
    for _ in range(3):
        lose(rig, frames=2)
        rig.restart_gateway()
    rig.publish(1)
    rig.deliver()
    rig.settle()
    epochs = {epoch for epoch, _ in rig.taker.places}
    assert epochs == {1000, 1010, 1020, 1030}
    assert all(gap["previous_missing"] == 0 for gap in rig.taker.sink.of("gap"))
    rig.assert_accounted()


def test_without_a_spool_the_end_of_an_epoch_is_unknown_and_said_to_be() -> None:
    rig = flowing()
    lose(rig, frames=3)
    rig.restart_gateway()
    rig.publish(1)
    rig.deliver()
    rig.settle()
    (told,) = rig.taker.sink.of("gap")
    assert told["previous_missing"] is None
    assert (told["previous_epoch"], told["previous_first_missing"]) == (1000, 4)


def test_where_a_torn_spool_ends_nobody_says_that_nothing_is_missing() -> None:
    rig = flowing(past=MemorySpool())
    assert rig.spool is not None
    lose(rig, frames=3)
    rig.publish(1, spooled=False)
    rig.wire.pop()
    rig.spool.torn.add(1000)
    rig.restart_gateway()
    rig.publish(1)
    rig.deliver()
    rig.settle()
    assert rig.taker.places == [(1000, s) for s in range(1, 10)] + [(1010, 1)]
    (told,) = rig.taker.sink.of("gap")
    assert told["previous_missing"] is None
    assert (told["previous_epoch"], told["previous_first_missing"]) == (1000, 10)


def test_an_end_before_what_was_received_is_not_believed() -> None:
    rig = flowing(past=MemorySpool())
    assert rig.spool is not None
    rig.publish(1, spooled=False)
    rig.deliver()
    rig.restart_gateway()
    rig.publish(1)
    rig.deliver()
    rig.settle()
    (told,) = rig.taker.sink.of("gap")
    assert (told["previous_first_missing"], told["previous_missing"]) == (5, None)


def test_an_epoch_of_which_nothing_is_left_between_two_is_not_passed_over() -> None:
    rig = flowing(past=MemorySpool())
    assert rig.spool is not None
    rig.restart_gateway()
    lose(rig, frames=2)
    rig.spool.logs[1010] = rig.spool.logs[1010][:0]
    rig.spool.ends[1010] = 5
    rig.restart_gateway()
    rig.publish(1)
    rig.deliver()
    rig.settle()
    (told,) = rig.taker.sink.of("gap")
    assert (told["previous_epoch"], told["previous_missing"]) == (1000, None)


def test_a_gateway_that_never_answers_is_given_up_after_the_time_set() -> None:
    rig = flowing(resend_give_up="2s", resend_timeout="100ms")
    lose(rig)
    rig.publish(1)
    rig.deliver()
    began = rig.mono_ns
    while rig.recovery.holding:
        rig.heard_ns = rig.mono_ns
        wait_ns = rig.turn(10)
        assert wait_ns is None or wait_ns < 2_000 * MS
    assert 2_000 * MS <= rig.mono_ns - began <= 2_200 * MS
    assert len(rig.asked) == 5
    assert rig.taker.sink.of("gap")[0]["reason"] == "unanswered"
    rig.assert_accounted()


def test_a_gateway_that_is_gone_is_waited_for_longer_and_asked_when_it_is_back() -> None:
    rig = flowing(past=MemorySpool(), resend_give_up="2s", resend_gone="20s")
    lose(rig)
    rig.publish(1)
    rig.deliver()
    for _ in range(180):
        rig.turn(100)
    assert rig.recovery.holding
    rig.restart_gateway()
    rig.welcome()
    rig.publish(1)
    rig.deliver()
    rig.settle()
    assert rig.taker.places == [(1000, seq) for seq in range(1, 7)] + [(1010, 1)]
    assert [gap["previous_missing"] for gap in rig.taker.sink.of("gap")] == [0]


def test_a_gateway_that_stays_away_is_given_up_in_the_end() -> None:
    rig = flowing(resend_give_up="2s", resend_gone="20s")
    lose(rig)
    rig.publish(1)
    rig.deliver()
    began = rig.mono_ns
    while rig.recovery.holding:
        rig.turn(100)
    assert 21_000 * MS <= rig.mono_ns - began <= 26_000 * MS
    rig.assert_accounted()


def test_a_silent_gateway_holds_the_stream_up_once_not_every_time() -> None:
    rig = flowing(resend_give_up="1s", resend_gone="0s")
    for _ in range(3):
        lose(rig)
        rig.publish(1)
        rig.deliver()
        for _ in range(150):
            rig.turn(10)
    assert rig.recovery.counters["given_up_unanswered"] == 1
    assert rig.recovery.counters["given_up_unasked"] == 2
    rig.welcome()
    lose(rig)
    rig.publish(1)
    rig.deliver()
    rig.asked.clear()
    rig.turn(300)
    rig.settle()
    assert rig.taker.gaps == 3


def test_a_gateway_that_cannot_send_again_costs_no_wait() -> None:
    rig = flowing()
    lose(rig)
    rig.publish(1)
    rig.deliver()
    rig.recovery.on_resent(ErrorReply(UNSUPPORTED), b"", rig.mono_ns)
    assert not rig.recovery.holding
    assert rig.taker.sink.of("gap")[0]["reason"] == "unsupported"
    lose(rig)
    rig.publish(1)
    rig.asked.clear()
    rig.deliver()
    assert not rig.recovery.holding
    assert not rig.asked
    rig.assert_accounted()


def test_a_damaged_answer_is_asked_for_again_and_does_no_harm() -> None:
    rig = flowing(resend_give_up="60s")
    lose(rig)
    rig.publish(1)
    rig.deliver()
    head, body = rig.resender.serve(b"e", rig.asked.popleft(), rig.mono_ns)
    for bad in (body[:-8], body[:70] + b"x" + body[71:], b"garbage!", body + body[:64]):
        rig.recovery.on_resent(head, bad, rig.mono_ns)
        assert rig.recovery.holding
        rig.asked.clear()
        rig.turn(30)
        assert len(rig.asked) == 1
    assert rig.recovery.counters["bad_answers"] == 4
    rig.settle()
    assert rig.taker.gaps == 0
    assert len(rig.taker.places) == 6


def test_a_gateway_that_answers_with_nothing_without_end_is_given_up() -> None:
    rig = flowing(past=MemorySpool())
    lose(rig)
    rig.restart_gateway()
    rig.publish(1)
    rig.deliver()
    answers = 0
    while rig.recovery.holding:
        if rig.asked:
            asked, answers = rig.asked.popleft(), answers + 1
            seq = asked.first_seq
            head = Resent(GATEWAY, asked.epoch, seq, seq + 1, 0, 2**60, 0)
            rig.heard_ns = rig.mono_ns
            rig.recovery.on_resent(head, b"", rig.mono_ns)
        rig.turn(100)
    assert 40 < answers < 60
    rig.assert_accounted()


NUMBERS = st.integers(0, 12) | st.sampled_from([999, 1000, 1001, 2**62, 2**63 - 1])


@given(
    st.lists(
        st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.binary(max_size=80)), max_size=20
    )
)
def test_whatever_a_gateway_answers_nothing_breaks_and_order_is_kept(
    answers: list[tuple[int, int, int, int, int, bytes]],
) -> None:
    rig = flowing()
    for gateway, next_seq, held, end_seq, next_epoch, body in answers:
        lose(rig)
        rig.publish(1)
        rig.deliver()
        asked = rig.asked[-1] if rig.asked else Resend(1000, 4, 2)
        head = Resent(gateway, asked.epoch, asked.first_seq, next_seq, held, end_seq, next_epoch)
        rig.recovery.on_resent(head, body if gateway else b"", rig.mono_ns)
        rig.turn(50)
    rig.settle()
    delivered = rig.taker.places
    assert delivered == sorted(set(delivered))
    assert delivered[-1] == (1000, rig.sequencer.next_seq - 1)
    rig.assert_accounted()


def test_a_full_hold_pauses_the_receiver_and_lets_it_go_on() -> None:
    rig = flowing(hold_bytes=1 << 16, past=MemorySpool())
    lose(rig)
    for _ in range(400):
        rig.publish(2)
        rig.deliver()
    assert rig.paused
    silent_ns = rig.ingest.last_data_ns
    rig.turn(10_000)
    assert rig.serve()
    assert rig.ingest.last_data_ns == rig.mono_ns > silent_ns, "data flow, though none are received"
    counters = rig.recovery.counters
    assert counters["most_held_bytes"] < (1 << 16) + 1024
    rig.settle()
    assert not rig.paused
    rig.publish(1)
    rig.deliver()
    rig.settle()
    assert rig.taker.gaps == 0
    assert rig.taker.places == [(1000, s) for s in range(1, rig.sequencer.next_seq)]


def test_other_gateways_never_wait_and_their_gaps_open_at_once() -> None:
    rig = flowing()
    lose(rig)
    rig.publish(1)
    rig.deliver()
    own = rig.sequencer
    other = Sequencer(2, 5)
    for _ in range(2):
        (frame,) = other.ticks(make_ticks(1), 1)
        rig.wire.append(frame.frame)
        other.next_seq += 3
    rig.deliver()
    assert rig.recovery.holding
    assert [p for p in rig.taker.places if p[0] == 5] == [(5, 1), (5, 5)]
    assert rig.taker.gap_places == [(5, 2, 3)]
    rig.settle()
    assert [p for p in rig.taker.places if p[0] == own.epoch] == [(1000, s) for s in range(1, 7)]


def test_a_stream_goes_on_where_a_restart_left_it() -> None:
    rig = Rig(past=MemorySpool())
    lose(rig, frames=100)
    rig.recovery.begin_at(GATEWAY, 1000, 51)
    rig.welcome()
    assert not rig.recovery.caught_up.is_set()
    caught: list[int] = []
    rig.recovery.on_caught_up = lambda: caught.append(len(rig.taker.places))
    rig.settle()
    assert rig.recovery.caught_up.is_set()
    assert caught == [150]
    rig.publish(1)
    rig.deliver()
    assert rig.taker.places == [(1000, s) for s in range(51, 202)]


def test_a_restart_after_the_gateway_restarted_fetches_both_epochs() -> None:
    rig = Rig(past=MemorySpool())
    lose(rig, frames=20)
    rig.restart_gateway()
    lose(rig, frames=4)
    rig.recovery.begin_at(GATEWAY, 1000, 31)
    rig.welcome()
    rig.settle()
    assert rig.recovery.caught_up.is_set()
    assert rig.taker.places == [(1000, s) for s in range(31, 41)] + [(1010, s) for s in range(1, 9)]


def test_with_nothing_to_fetch_the_stream_is_caught_up_at_the_welcome() -> None:
    for begin in (None, 1, 4):
        rig = Rig()
        lose(rig, ticks=3)
        if begin == 4:
            rig.recovery.begin_at(GATEWAY, 1000, begin)
        rig.welcome()
        assert rig.recovery.caught_up.is_set()


def test_a_stream_that_waits_for_long_is_a_problem_of_health() -> None:
    rig = flowing()
    lose(rig)
    rig.publish(1)
    rig.deliver()
    assert rig.recovery.problems(rig.mono_ns + 900 * MS) == []
    assert rig.recovery.problems(rig.mono_ns + 2000 * MS) == ["waiting for missing data for 2 s"]
    rig.settle()
    assert rig.recovery.problems(rig.mono_ns + 9000 * MS) == []


def test_switched_off_every_gap_opens_at_once() -> None:
    rig = flowing(resend=False)
    lose(rig)
    rig.publish(1)
    rig.deliver()
    assert not rig.recovery.holding
    assert rig.taker.gaps == 1
    assert not rig.asked


OPS = st.lists(
    st.sampled_from(
        ["send", "send", "send", "lose", "twice", "late", "deliver", "deliver", "serve", "turn",
         "restart", "mute", "damage"]
    ),
    max_size=60,
)  # fmt: skip


@given(OPS, st.booleans(), st.integers(8, 64))
def test_whatever_happens_on_the_way_everything_is_accounted_for(
    ops: list[str], spooled: bool, ring_frames: int
) -> None:
    rig = Rig(ring_frames=ring_frames, past=MemorySpool() if spooled else None)
    rig.welcome()
    rig.publish(2)
    rig.deliver()
    for op in ops:
        act(rig, op)
        assert rig.recovery.counters["held_bytes"] >= 0
    rig.publish(1)
    rig.deliver()
    rig.settle()
    rig.assert_accounted()
    assert rig.taker.places[-1] == (rig.sequencer.epoch, rig.sequencer.next_seq - 1)
    if spooled and not {"mute", "restart"} & set(ops):
        assert rig.taker.gaps == 0
    if spooled:
        gaps = rig.taker.sink.of("gap")
        assert all(gap["missing"] == 0 and not gap["previous_missing"] for gap in gaps)


def act(rig: Rig, op: str) -> None:
    if op in {"send", "lose", "twice", "late", "damage"}:
        mangle(rig, op, rig.publish(3))
    elif op == "deliver":
        rig.deliver(3)
    elif op == "serve":
        rig.serve()
    elif op == "turn":
        rig.turn(20)
    elif op == "restart":
        rig.deliver()
        rig.restart_gateway()
        rig.welcome()
    else:
        rig.asked.clear()


def mangle(rig: Rig, op: str, frame: bytes) -> None:
    if op == "lose":
        rig.wire.pop()
    elif op == "twice":
        rig.wire.append(frame)
    elif op == "late" and len(rig.wire) > 1:
        rig.wire.rotate(1)
    elif op == "damage":
        rig.wire[-1] = frame[:80] + b"\xff" + frame[81:]


@pytest.mark.parametrize("reason", ["resend_busy", "anything"])
def test_a_refused_request_is_repeated_after_a_pause(reason: str) -> None:
    rig = flowing()
    lose(rig)
    rig.publish(1)
    rig.deliver()
    rig.asked.clear()
    rig.recovery.on_resent(ErrorReply(reason), b"", rig.mono_ns)
    rig.turn(1)
    assert not rig.asked
    rig.turn(20)
    assert len(rig.asked) == 1


def fall_behind(rig: Rig, rounds: int, sent_again: int) -> None:
    """Let more be lost in every round than the gateway sends again."""
    for _ in range(rounds):
        lose(rig, frames=4 * sent_again, ticks=32)
        rig.publish(1)
        rig.deliver()
        for _ in range(sent_again):
            rig.serve()
            rig.turn(1)
        rig.turn(200)
        rig.recovery.on_head(rig.sequencer.epoch, rig.sequencer.next_seq, rig.mono_ns)


def test_a_gateway_that_sends_again_too_slowly_is_given_up_and_left_for_as_long() -> None:
    rig = flowing(past=MemorySpool(), resend_behind="2s")
    fall_behind(rig, 9, 1)
    assert rig.recovery.holding
    fall_behind(rig, 3, 1)
    assert rig.recovery.counters["given_up_behind"] == 2
    assert not rig.recovery.holding
    assert {gap["reason"] for gap in rig.taker.sink.of("gap")} == {"behind"}
    rig.assert_accounted()
    asked = rig.recovery.counters["requests"]
    lose(rig)
    rig.publish(1)
    rig.deliver()
    assert rig.recovery.counters["requests"] == asked
    rig.turn(2_000)
    lose(rig)
    rig.publish(1)
    rig.deliver()
    rig.settle()
    assert rig.recovery.counters["requests"] > asked
    assert rig.recovery.counters["given_up_behind"] == 3
    rig.assert_accounted()


def test_a_gateway_that_gains_on_the_stream_is_never_given_up() -> None:
    rig = flowing(past=MemorySpool(), resend_behind="1s", resend_give_up="60s")
    lose(rig, frames=900, ticks=32)
    for _ in range(300):
        rig.publish(1)
        rig.deliver()
        rig.serve()
        rig.turn(200)
        rig.recovery.on_head(rig.sequencer.epoch, rig.sequencer.next_seq, rig.mono_ns)
        if not rig.recovery.holding:
            break
    rig.settle()
    assert rig.taker.gaps == 0
    rig.assert_accounted()


def test_time_in_which_nothing_was_heard_is_no_time_without_headway() -> None:
    rig = flowing(past=MemorySpool(), resend_behind="2s")
    lose(rig, frames=50)
    rig.publish(1)
    rig.deliver()
    rig.recovery.on_head(1000, rig.sequencer.next_seq, rig.mono_ns)
    rig.mono_ns += 3_000 * MS
    rig.recovery.on_head(1000, rig.sequencer.next_seq, rig.mono_ns)
    assert rig.recovery.holding
    rig.settle()
    assert rig.taker.gaps == 0
