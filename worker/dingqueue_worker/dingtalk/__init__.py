"""The one door to HTTP: what DingTalk accepts, and what its answers mean."""
