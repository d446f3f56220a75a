//! Compiles `proto/` with a pure-Rust protobuf compiler: no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["journal.proto", "link.proto"], ["proto"])?;
    prost_build::Config::new()
        .include_file("protocols.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
