"""``python -m dingqueue_worker.sandbox``: what the test client starts."""

from dingqueue_worker.sandbox.command import sandbox

sandbox()
