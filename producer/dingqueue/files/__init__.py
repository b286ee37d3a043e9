"""Files that are shared: what DingTalk takes, what an application hands over, where it waits for the worker."""
