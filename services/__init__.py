"""The bento: gRPC and HTTP over one micro-batcher. Imports `vitrine`, never `training`."""
