//! Configuration: written elsewhere.
