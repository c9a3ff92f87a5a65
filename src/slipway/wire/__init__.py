"""AWS on the wire: knows botocore's models and nothing of slipway."""
