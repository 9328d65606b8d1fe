"""Objects whose `run(state)` gives metrics and images over a whole data set."""
