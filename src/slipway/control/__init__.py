"""Makes the world match the store; never sees a request's body, never forks."""
