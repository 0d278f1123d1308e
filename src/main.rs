//! Entry point: parse, start logging, map the result to an exit code.

fn main() {}
