"""The services that we also use ourselves, each embedded or external: objects, logs; later metrics and notices."""
