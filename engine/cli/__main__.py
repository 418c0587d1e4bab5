"""``python -m engine.cli``: the ``heqis`` command, also as a child of ``heqis run``."""

from engine.cli.main import main
from engine.supervise import follow_supervisor

if follow_supervisor():
    main()
