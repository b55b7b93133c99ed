"""cluster: commands on the other nodes: CLUSTER, SENTINEL, FAILOVER, ROLE."""
