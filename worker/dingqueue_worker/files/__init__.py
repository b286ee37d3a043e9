"""Files on their way to DingTalk: read from the file store or fetched from a URL, uploaded once for each app."""
