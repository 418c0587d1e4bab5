"""What the lab is asked to do, and the configuration its engine runs with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.config import Config
from engine.core.errors import ConfigError
from feeds.config import GatewayConfig
from runtime.config import ModelConfig

MAX_SUSTAINABLE: Final = "max-sustainable"
MAX_SPEED: Final = 1e6
OPTIONS: Final = "command line"
HLOG_INTERVAL_NS: Final = 5_000_000_000
"""Writing an interval holds the loop for about half a millisecond a stage: rarely enough that a
tenth of a percent of the time stays free of it."""


@dataclass(frozen=True, slots=True)
class LabSettings:
    """What ``heqis latency run`` was asked for; times in ns.

    Attributes:
        log: The log.
        speeds: Recorded seconds a second, in the order to be run.
        search: Look for the highest speed that can be sustained, too.
        clients: WebSocket clients.
        warm_up_ns: Left out of the figures, at the begin of each run.
        length_ns: What is measured of each run, at most: the log may end before.
        repeats: Runs of each speed.
        budget_ns: The p99 that a sustainable speed keeps, end to end.
        lateness_budget_ns: A run is void whose injector's p99.9 was later.
        slot_ns: Ticks due within one slot share a frame.
        longest_gap_ns: Longer waits are cut to this.
        skip_ns: Recorded time left out at the begin of the log.
        market_times: Keep the log's times instead of moving them to now.
    """

    log: Path
    speeds: tuple[float, ...] = (1.0,)
    search: bool = False
    clients: int = 1
    warm_up_ns: int = 1_000_000_000
    length_ns: int = 10_000_000_000
    repeats: int = 1
    budget_ns: int = 5_000_000
    lateness_budget_ns: int = 1_000_000
    slot_ns: int = 500_000
    longest_gap_ns: int = 5_000_000_000
    skip_ns: int = 0
    market_times: bool = False


def parse_speeds(text: str) -> tuple[tuple[float, ...], bool]:
    """Read ``1,10,max-sustainable``: the speeds, and whether to search.

    Raises:
        ConfigError: a part is no speed, or stands there twice.
    """
    speeds: list[float] = []
    search = False
    for part in (part.strip() for part in text.split(",")):
        if part == MAX_SUSTAINABLE and not search:
            search = True
            continue
        speed = _number(part)
        if not 0 < speed <= MAX_SPEED or speed in speeds:
            expected = (
                f"speeds above 0 up to {MAX_SPEED:g}, each once, and {MAX_SUSTAINABLE!r}, with "
                f"commas between them: 1,10,{MAX_SUSTAINABLE}"
            )
            raise ConfigError(OPTIONS, "--speed", part, expected)
        speeds.append(speed)
    return tuple(speeds), search


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def check_settings(settings: LabSettings, *, budget_given: bool) -> None:
    """Refuse options that contradict one another.

    Args:
        settings: What was asked for.
        budget_given: A budget was asked for.

    Raises:
        ConfigError: two of them cannot both be meant.
    """
    if budget_given and not settings.search:
        expected = f"it goes with --speed {MAX_SUSTAINABLE}: it says what is sustainable"
        raise ConfigError(OPTIONS, "--budget", f"{settings.budget_ns / 1e6:g} ms", expected)
    if settings.search and settings.budget_ns <= settings.lateness_budget_ns:
        expected = (
            f"more than --lateness-budget, {settings.lateness_budget_ns / 1e6:g} ms: otherwise the "
            "injector alone may use it up"
        )
        raise ConfigError(OPTIONS, "--budget", f"{settings.budget_ns / 1e6:g} ms", expected)
    for option, time_ns in (
        ("--seconds", settings.length_ns),
        ("--lateness-budget", settings.lateness_budget_ns),
        ("--longest-gap", settings.longest_gap_ns),
    ):
        if time_ns <= 0:
            raise ConfigError(OPTIONS, option, time_ns, "a time above 0")


def lab_config(config: Config, directory: Path, data: str, control: str, port: int) -> Config:
    """Return the configuration as the lab's engine runs it.

    Strategies, models, risk gate and limits stay; ports and files are the lab's own, and nobody
    need prove who they are. A configuration that records goes on recording. Plugins and bundles are
    found wherever the configuration is written.

    Args:
        config: The user's.
        directory: Where the engine may write.
        data: Data endpoint.
        control: The injector's control endpoint.
        port: The stream's port.
    """
    engine = config.engine.model_copy(
        update={
            "record": None if config.engine.record is None else directory / "record",
            "snapshot": directory / "snapshots",
            "hlog": directory / "stages.hlog",
            "hlog_interval": HLOG_INTERVAL_NS,
        }
    )
    link = config.link.model_copy(
        update={"data": data, "control": control, "keys": None, "server_key": None}
    )
    stream = config.stream.model_copy(
        update={
            "host": "127.0.0.1", "port": port, "tls": None, "tokens": None, "behind_proxy": False,
        }
    )  # fmt: skip
    journal = config.journal.model_copy(update={"path": directory / "journal.db"})
    return config.model_copy(
        update={
            "engine": engine,
            "link": link,
            "stream": stream,
            "journal": journal,
            "gateway": GatewayConfig(),
            "plugins": tuple(path.absolute() for path in config.plugins),
            "models": tuple(_with_whole_paths(model) for model in config.models),
        }
    )


def _with_whole_paths(model: ModelConfig) -> ModelConfig:
    """The engine's own file lies elsewhere, and such paths are looked for beside it."""
    shadow = None if model.shadow is None else model.shadow.absolute()
    return model.model_copy(update={"bundle": model.bundle.absolute(), "shadow": shadow})
