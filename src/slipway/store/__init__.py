"""All SQL: connections and the one writer, resources, keys, objects, leases; migrations."""
