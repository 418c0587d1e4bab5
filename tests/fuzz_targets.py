"""What is fuzzed: each parser of bytes from outside; a function lets only our errors pass."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from frame_cases import frame_of, make_bars, make_instruments, make_ticks
from stream_fakes import FakeLink, make_signal

from engine.client_state import ClientState
from engine.config import load_config
from engine.core.errors import ConfigError, FrameError, HeqisError, StreamError
from engine.core.records import Schema
from engine.stream_config import StreamConfig
from engine.stream_messages import Subscribe, decode_server, encode
from engine.stream_protocol import StreamCore
from engine.stream_ring import SignalRing, make_entry
from feeds.burst import BurstDecoder
from feeds.codec import decode_frame, encode_instruments
from feeds.control_messages import MessageError, parse_reply, parse_request
from feeds.log_reader import LogReader
from feeds.log_verify import verify
from feeds.log_writer import LogWriter

CONFIGS: Final = Path(__file__).resolve().parents[1] / "configs"
Target = Callable[[bytes], None]


@cache
def _scratch() -> Path:
    """A file of this process, in memory where the system has such a place."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return Path(tempfile.mkdtemp(dir=place)) / "fuzzed"


def codec(data: bytes) -> None:
    """Decode one frame."""
    with contextlib.suppress(FrameError):
        frame = decode_frame(data)
        assert frame.length <= len(data)


@cache
def _decoder() -> BurstDecoder:
    return BurstDecoder(2)


def burst(data: bytes) -> None:
    """Decode a message of the link in the compiled call: counted, whatever it is."""
    decoder = _decoder()
    before = sum(decoder.count_by_name().values())
    wire = np.zeros(-(-max(1, len(data)) // 8) * 8, np.uint8)
    wire[: len(data)] = np.frombuffer(data, np.uint8)
    offsets, lengths = np.zeros(1, np.int64), np.array([len(data)], np.int64)
    at = 0
    while at < 1:
        at += decoder.decode(wire, offsets, lengths, at, 1).consumed
    assert sum(decoder.count_by_name().values()) > before


def log(data: bytes) -> None:
    """Read, verify, and append to a tick log."""
    path = _scratch()
    path.write_bytes(data)
    with contextlib.suppress(HeqisError):
        with LogReader(path) as reader:
            reader.summary()
            for _ in reader.batches():
                pass
        verify(path)
    with contextlib.suppress(HeqisError):
        with LogWriter(path, make_instruments(), epoch=7, append=True) as writer:
            writer.write_ticks(make_ticks(3))
        with LogReader(path) as reader:
            assert reader.cut_bytes == 0


def control(data: bytes) -> None:
    """Parse a message of the control channel, from either side."""
    for parse in (parse_request, parse_reply):
        with contextlib.suppress(MessageError):
            parse(data)


def stream_server(data: bytes) -> None:
    """Take a message from a client: answered, and at worst the client is closed."""
    ring = SignalRing(5, 0, 64, 64)
    core = StreamCore(StreamConfig(), ring, lambda: None, lambda: None)
    link = FakeLink()
    session = core.connect(link, 0)
    core.receive(session, data, 0, 0)
    core.delivery.publish(make_entry(make_signal(5, 1)))
    core.heartbeat(0)
    for message in link.take():
        decode_server(message)


def stream_client(data: bytes) -> None:
    """Take a message from a server."""
    with contextlib.suppress(StreamError):
        ClientState(Subscribe()).receive(data)


def config(data: bytes) -> None:
    """Load a configuration file."""
    path = _scratch()
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        load_config([path], {})


TARGETS: Final[dict[str, Target]] = {
    "codec": codec,
    "burst": burst,
    "log": log,
    "control": control,
    "stream_server": stream_server,
    "stream_client": stream_client,
    "config": config,
}


def seeds(name: str) -> list[bytes]:
    """Return good inputs of a target, for a fuzzer to begin with."""
    frames = [
        frame_of(Schema.TICK, make_ticks(3), 1),
        frame_of(Schema.BAR, make_bars(2), 1),
        frame_of(Schema.RAW, b"raw", 1),
        *encode_instruments(make_instruments(), gateway=1, epoch=7, next_seq=1, ts_send=1),
    ]
    match name:
        case "codec" | "burst":
            return frames
        case "log":
            return [frames[3] + frames[0], b"".join(frames), frames[3] + frames[0][:50]]
        case "control":
            return [
                b'{"type":"hello","protocol":1,"name":"engine"}',
                b'{"type":"ping","t1":5,"epoch":7}',
                b'{"type":"resend","epoch":7,"first_seq":3,"count":9}',
                b'{"type":"pong","t1":1,"t2":2,"t3":3,"epoch":7,"next_seq":9}',
                b'{"type":"status","status":{}}',
            ]
        case "stream_server":
            return [
                encode(Subscribe(from_seq=1, epoch=5)), b'{"type":"ping","id":"x"}',
                b'{"type":"unsubscribe","id":""}', b'{"type":"set_state","state":"halted"}',
            ]  # fmt: skip
        case "stream_client":
            signal = encode(make_signal(5, 1))
            return [
                b'{"type":"signal","sub":"","prev":0,"signal":' + signal + b"}",
                b'{"type":"gap","sub":"","epoch":5,"from_seq":1,"to_seq":3,"reason":"pruned",'
                b'"snapshot":true}',
                b'{"type":"snapshot","sub":"","signals":[' + signal + b'],"more":false}',
            ]
    return [path.read_bytes() for path in sorted(CONFIGS.glob("*.toml"))]
