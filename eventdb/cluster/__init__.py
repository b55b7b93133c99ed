"""cluster: which nodes exist and which of them owns a slot, as plain data; the rules of the lease."""
