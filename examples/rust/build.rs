//! Makes the client of the API from proto/. protoc comes with a crate, so that nothing has to be installed for it.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = "../../proto";
    println!("cargo:rerun-if-changed={proto}");
    let mut config = tonic_prost_build::Config::new();
    config.protoc_executable(protoc_bin_vendored::protoc_bin_path()?);
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".google.rpc", "::tonic_types::pb") // these are in a crate already
        .compile_with_config(
            config,
            &["emit", "handler", "socket"].map(|name| format!("{proto}/foyer/v1/{name}.proto")),
            &[proto.to_string()],
        )?;
    Ok(())
}
