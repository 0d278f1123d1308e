//! The Rust types in `proto/` are what prost makes of the official definitions beside them, so that
//! a build needs no protobuf compiler. `UPDATE_MODEL=1 cargo test --test model` rewrites them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

#[test]
fn the_generated_types_are_those_of_the_definitions() {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let set = protox::compile(["io/prometheus/client/metrics.proto"], [&proto]).unwrap();
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new().out_dir(out.path()).compile_fds(set).unwrap();
    let made = std::fs::read_to_string(out.path().join("io.prometheus.client.rs")).unwrap();
    let path = proto.join("io.prometheus.client.rs");
    if std::env::var_os("UPDATE_MODEL").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let now = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(now == made, "{} is stale: UPDATE_MODEL=1 cargo test --test model", path.display());
}
