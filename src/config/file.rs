//! Reads TOML into a tree that knows where everything stands. Knows no key of the configuration.
