"""metrics: what is counted and measured, as plain numbers that are summed later."""
