"""Objects whose `run(state)` gives named numbers and images over a whole data set."""
