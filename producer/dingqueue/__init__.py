"""Hand messages, tasks and files to DingTalk and forget about them."""

from dingqueue.client import Client
from dingqueue.contract import AssignJob, Button, Card, Feed, FeedItem, Link, Markdown, Mention, SendJob, ShareJob, Text
from dingqueue.errors import DingqueueError, EnqueueFailed, InvalidJob, LaneFull, UnknownContract
from dingqueue.jobs import EVERYONE, assign_job, job_id_for, send_job, share_job
from dingqueue.lanes import Status

__all__ = [
    "EVERYONE",
    "AssignJob",
    "Button",
    "Card",
    "Client",
    "DingqueueError",
    "EnqueueFailed",
    "Feed",
    "FeedItem",
    "InvalidJob",
    "LaneFull",
    "Link",
    "Markdown",
    "Mention",
    "SendJob",
    "ShareJob",
    "Status",
    "Text",
    "UnknownContract",
    "assign_job",
    "job_id_for",
    "send_job",
    "share_job",
]
