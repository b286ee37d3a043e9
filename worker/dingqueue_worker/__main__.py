"""``python -m dingqueue_worker`` is the ``dingqueue`` command."""

from dingqueue_worker.cli import main

main(prog_name="dingqueue")
