"""Hand messages, tasks and files to DingTalk and forget about them."""
