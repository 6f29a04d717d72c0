//! Generates the client's code from ../../proto.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const PROTO: &str = "../../proto/weir/v1/ingest.proto";
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={PROTO}");
    let files = protox::compile([PROTO], ["../../proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(files)?;
    Ok(())
}
