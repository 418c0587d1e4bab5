"""Decodes messages one record at a time with struct and zlib: slow, and plainly right."""

import math
import struct
import zlib
from collections import Counter
from typing import Any

ALL = 0xFFFFFFFF
DAY_NS = 86_400 * 10**9
SIZES = {1: 112, 2: 80, 3: 160, 4: 192, 5: 352, 6: 1}
MOST = {1: 365, 2: 256, 3: 256, 4: 213, 5: 116, 6: 1 << 20}
TICK = struct.Struct("<qq7dIBbH")


def bad(*values: float) -> bool:
    return any(math.isnan(v) or math.isinf(v) for v in values)


class FrameTwin:
    """What a BurstDecoder should deliver, as a flat list of (schema, bytes, origin)."""

    def __init__(self, known: int) -> None:
        self.known = known
        self.streams: dict[int, tuple[int, int | None, int]] = {}
        self.delivered: list[tuple[int, bytes, tuple[int, ...]]] = []
        self.counts: Counter[str] = Counter()

    def take(self, message: bytes) -> None:
        problem = self.frame_problem(message)
        if problem:
            self.counts[problem] += 1
            return
        schema, epoch, first, count, flags, sent, intended, gateway = self.header(message)
        self.counts["frames"] += 1
        self.counts["bytes"] += len(message)
        if schema == 1:
            self.counts["definitions"] += 1
            self.delivered.append((1, b"", ()))
            return
        if schema == 6:
            self.counts["raw_frames"] += 1
            return
        present, previous, expected = self.streams.get(gateway, (epoch, None, first))
        if epoch == previous:
            self.counts["stale_epoch_frames"] += 1
            return
        size = SIZES[schema]
        records = [message[64 + i * size : 64 + (i + 1) * size] for i in range(count)]
        origin = (epoch, 0, intended, sent, gateway, 0)
        if epoch != present:
            present, previous, expected = epoch, present, 1
            self.counts["epoch_changes"] += 1
            self.put_gap(schema, records[0], origin, expected, first - 1)
            expected = first
        elif first > expected:
            self.put_gap(schema, records[0], origin, expected, first - expected)
            expected = first
        new = [(first + i, r) for i, r in enumerate(records) if first + i >= expected]
        self.counts["duplicate_records"] += count - len(new)
        self.counts["duplicate_frames"] += not new
        self.streams[gateway] = (present, previous, max(expected, first + count))
        for seq, record in new:
            self.put_record(schema, record, (epoch, seq, intended, sent, gateway, 0), flags)

    @staticmethod
    def header(message: bytes) -> tuple[int, ...]:
        _, _, schema, epoch, first, count, flags, sent, intended, gateway, _, _, _, _ = (
            struct.unpack("<IHHQQIIqqIHHII", message[:64])
        )
        return schema, epoch, first, count, flags, sent, intended, gateway

    @staticmethod
    def frame_problem(message: bytes) -> str:
        if len(message) < 64:
            return "frame_bad_length"
        if message[:4] != b"HEQ1":
            return "frame_bad_magic"
        version, schema = struct.unpack("<HH", message[4:8])
        if version != 1:
            return "frame_bad_version"
        if schema not in SIZES:
            return "frame_bad_schema"
        epoch, first, count = struct.unpack("<QQI", message[8:28])
        size, reserved, padding, crc = struct.unpack("<HHII", message[52:64])
        if size != SIZES[schema] or reserved or padding or not 0 < count <= MOST[schema]:
            return "frame_bad_field"
        if epoch >= 1 << 62 or first >= 1 << 62:
            return "frame_bad_field"
        if len(message) != 64 + -(-count * size // 8) * 8:
            return "frame_bad_length"
        return "" if zlib.crc32(message[:60] + message[64:]) == crc else "frame_bad_crc"

    def put_gap(
        self, schema: int, record: bytes, origin: tuple[int, ...], first: int, lost: int
    ) -> None:
        self.counts["gaps"] += 1
        self.counts["lost_records"] += lost
        at = 8 if schema == 3 else 0
        event, received = struct.unpack("<qq", record[at : at + 16])
        if event <= 0 or received <= 0 or event > received + DAY_NS:
            event = received = origin[3]
        nan = math.nan
        tick = TICK.pack(event, received, nan, lost, 0, nan, nan, 0, 0, ALL, 4, 0, 0)
        self.delivered.append((2, tick, (origin[0], first, *origin[2:])))

    def put_record(self, schema: int, record: bytes, origin: tuple[int, ...], flags: int) -> None:
        if schema == 2:
            fields: list[Any] = list(TICK.unpack(record))
            problem = self.tick_problem(fields)
            if not problem:
                fields[12] |= self.book_flags(fields) | (1024 if flags & 1 else 0)
                record = TICK.pack(*fields)
        elif schema == 3:
            problem = self.bar_problem(record)
        else:
            self.counts["depth_records"] += 1
            return
        if problem:
            self.counts[f"refused_{problem}"] += 1
            return
        self.counts["ticks" if schema == 2 else "bars"] += 1
        self.delivered.append((schema, record, origin))

    def tick_problem(self, fields: list[Any]) -> str:
        event, received = fields[:2]
        instrument, kind = fields[9:11]
        if kind not in (0, 1, 2, 3):
            return "unknown_kind"
        if event <= 0 or received <= 0:
            return "no_time"
        if event - received > DAY_NS:
            return "time_ahead"
        if (kind == 0 and instrument != ALL) or (kind != 0 and instrument >= self.known):
            return "unknown_instrument"
        rules = {0: lambda _: "", 1: self.trade, 2: self.quote, 3: self.snapshot}
        return rules[kind](fields)

    def trade(self, fields: list[Any]) -> str:
        price, size, turnover = fields[2:5]
        side = "" if fields[11] in (-1, 0, 1) else "unknown_side"
        return self.price(price) or self.amount(size) or self.amount(turnover) or side

    def quote(self, fields: list[Any]) -> str:
        neither = math.isnan(fields[5]) and math.isnan(fields[6])
        return "no_side" if neither else self.book(fields)

    def snapshot(self, fields: list[Any]) -> str:
        price, size, turnover, bid, ask = fields[2:7]
        if self.book(fields) or not math.isnan(price):
            return self.book(fields) or self.trade(fields)
        if size != 0 or turnover != 0:
            return "nan"
        return "no_side" if math.isnan(bid) and math.isnan(ask) else ""

    def book(self, fields: list[Any]) -> str:
        bid, ask, bid_size, ask_size = fields[5:9]
        return (
            self.amount(bid_size)
            or ("" if math.isnan(bid) else self.price(bid))
            or self.amount(ask_size)
            or ("" if math.isnan(ask) else self.price(ask))
        )

    def bar_problem(self, record: bytes) -> str:
        _, event, received, o, h, low, c, volume, turnover = struct.unpack("<3q6d", record[:72])
        (instrument,) = struct.unpack("<I", record[136:140])
        if event <= 0 or received <= 0:
            return "no_time"
        if event - received > DAY_NS:
            return "time_ahead"
        if instrument >= self.known:
            return "unknown_instrument"
        problems = {self.price(p) for p in (o, h, low, c)} | {
            self.amount(a) for a in (volume, turnover)
        }
        for problem in ("zero_price", "negative", "nan"):
            if problem in problems:
                return problem
        return "" if low <= min(o, c) and h >= max(o, c) else "bad_range"

    @staticmethod
    def amount(value: float) -> str:
        return "nan" if bad(value) else "negative" if value < 0 else ""

    @classmethod
    def price(cls, value: float) -> str:
        return cls.amount(value) or ("zero_price" if value == 0 else "")

    @staticmethod
    def book_flags(fields: list[Any]) -> int:
        bid, ask, kind = fields[5], fields[6], fields[10]
        if kind not in (2, 3) or (math.isnan(bid) and math.isnan(ask)):
            return 0
        if math.isnan(bid) or math.isnan(ask):
            return 4
        return 1 if bid > ask else 2 if bid == ask else 0
