"""`scripts/bench`: leasecap and its peers on the same work in one run, in turns, judged by ratios."""
