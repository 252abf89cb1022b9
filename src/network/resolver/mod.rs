//! Names of units, and of the rest of the world.
