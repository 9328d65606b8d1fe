"""Objects whose `run(state)` gives named numbers and pictures over a whole data set."""
