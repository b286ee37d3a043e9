"""A local DingTalk that keeps DingTalk's rules, with an inbox page.

It shares rules with the fleet, not code: what the fleet gets wrong must not look right here.
"""
