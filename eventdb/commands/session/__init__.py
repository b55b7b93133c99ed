"""session: commands on the client's own connection: MULTI, subscriptions, CLIENT, HELLO."""
