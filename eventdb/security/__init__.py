"""Who may do what: users and their rules (acl.py).

Plain data and verdicts: it knows which commands there are only by the catalogue that the engine hands it, and reaches
neither clients nor the log.
"""
