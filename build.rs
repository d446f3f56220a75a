//! Compiles `proto/` with a pure-Rust protobuf compiler: no protoc is needed.

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = [
        "journal.proto",
        "link.proto",
        "mesos/v1/mesos.proto",
        "mesos/v1/executor.proto",
        "mesos/v1/scheduler.proto",
        "scheduler.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    // What Mesos calls its messages in JSON is only in the descriptors.
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    prost_build::Config::new()
        .include_file("protocols.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
