//! Compiles the contracts with protox, so that nobody needs protoc.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 6] = [
    "mlplat/common/v1/common.proto",
    "mlplat/admin/v1/admin.proto",
    "mlplat/tracking/v1/tracking.proto",
    "mlplat/features/v1/features.proto",
    "mlplat/catalogue/v1/catalogue.proto",
    "mlplat/lineage/v1/lineage.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".mlplat.tracking.v1.UploadArtifactRequest")
        .bytes(".mlplat.tracking.v1.DownloadArtifactResponse")
        .bytes(".mlplat.tracking.v1.SmallArtifact")
        .bytes(".mlplat.tracking.v1.UploadPartRequest")
        .bytes(".mlplat.tracking.v1.DownloadedArtifact")
        .compile_fds(descriptors)?;
    Ok(())
}
