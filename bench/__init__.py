"""Side-by-side benchmarks: cutaway and its peers do the same work in the same run.

`python -m bench.run` measures, `python -m bench.report` prints the table. Peers live in environments of their
own (`python -m bench.peers` makes them): they are never dependencies of cutaway.
"""
