"""How fast eventdb is beside a real redis-server, in ratios taken in the same minutes on the same machine.

`make bench` prints one table and keeps it in results.json. Rates of one machine mean little on another; a ratio of two
servers that took turns run by run does. run.py is the command, rows.py says what is measured and what it must reach,
servers.py starts the two, load.py drives redis-benchmark and bulk loads, report.py draws the table.
"""
