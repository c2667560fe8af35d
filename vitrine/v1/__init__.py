"""Messages and stubs generated from `proto/vitrine/v1`: `make proto` writes them, a test compares."""
