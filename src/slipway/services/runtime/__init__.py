"""SageMaker Runtime: `invoke` serves the gateway, `invoke_async` (later) control."""
