"""How tokens and grids are sampled: functions of a network that is a function, whatever is in it."""
