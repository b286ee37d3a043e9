"""A local DingTalk that keeps DingTalk's rules, with an inbox page."""
