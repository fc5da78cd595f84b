//! Micro-benchmarks of what is hot in a copy; they live in `benches/`. Whole-program comparisons against other tools are
//! made by `scripts/bench-copy`.
