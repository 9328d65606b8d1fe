"""How tokens are drawn: functions that are given a network as a function, and know nothing of it."""
