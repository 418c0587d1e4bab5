"""What a process of ours says by its exit status."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses; service units and supervisors go by them."""

    OK = 0
    FAILED = 1
    """A check said no, or something broke."""
    USER = 2
    """Something the user can mend: configuration, files, ports."""
    BUDGET = 3
    """Ended by decision: a budget was used up. Not to be started again without a person."""
    RESTART = 4
    """Ended because it was asked to begin anew. To be started again."""
