"""The fleet: Celery workers that deliver jobs to DingTalk."""
