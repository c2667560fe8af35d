"""What a running server takes: load at a given rate, latencies, the rate at which it saturates, its CPU a request."""
