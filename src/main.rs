//! The `lunferry` command: parses, wires the rooms together, and turns outcomes into exit codes.

fn main() {}
