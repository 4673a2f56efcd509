//! Tests of storage as a whole, on the simulated disk and on a real one.
