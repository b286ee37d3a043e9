"""The fleet's Lua scripts: one decision per file."""
