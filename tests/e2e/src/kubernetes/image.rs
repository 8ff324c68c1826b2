//! Container images of one static program, made without any tool for images: files, hashes and tar(1).

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use serde_json::{Value, json};

use crate::programs::run;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kubernetes/images");
const COMMAND: Duration = Duration::from_secs(60);
/// What the images are of: the kernel's name for an architecture is not the registries'.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Compiles `tests/kubernetes/images/<name>.c` and packs it as the image `drover.test/<name>:1`, whose entry point it is. Answers the
/// OCI archive, `<dir>/<name>.tar`.
pub fn image_of_program(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let (work, archive) = (dir.join(format!("{name}.image")), dir.join(format!("{name}.tar")));
    let (root, layout, blobs) = (work.join("root"), work.join("layout"), work.join("layout/blobs/sha256"));
    for made in [&root, &blobs] {
        fs::create_dir_all(made)?;
    }
    let (source, program) = (format!("{SOURCES}/{name}.c"), root.join(name).display().to_string());
    run(&["cc", "-static", "-O2", "-o", &program, &source], COMMAND).context("tests/setup.sh installs a compiler")?;
    let layer = work.join("layer.tar");
    tar(&layer, &root)?;
    let (layer, layer_size) = keep(&blobs, &layer)?;
    let config = json!({
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": { "Entrypoint": [format!("/{name}")] },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    });
    let (config, config_size) = keep_json(&work, &blobs, &config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size,
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": layer_size,
        }],
    });
    let (manifest, manifest_size) = keep_json(&work, &blobs, &manifest)?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": manifest_size,
            "annotations": { "io.containerd.image.name": reference(name) },
        }],
    });
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    tar(&archive, &layout)?;
    fs::remove_dir_all(&work)?;
    Ok(archive)
}

/// What pods call it.
pub(super) fn reference(name: &str) -> String {
    format!("drover.test/{name}:1")
}

fn tar(archive: &Path, dir: &Path) -> anyhow::Result<()> {
    let (archive, dir) = (archive.display().to_string(), dir.display().to_string());
    run(&["tar", "--owner=0", "--group=0", "-cf", &archive, "-C", &dir, "."], COMMAND).map(drop)
}

fn keep_json(work: &Path, blobs: &Path, value: &Value) -> anyhow::Result<(String, u64)> {
    let file = work.join("blob.json");
    fs::write(&file, value.to_string())?;
    keep(blobs, &file)
}

/// Moves a file to where its content names it. Answers its digest and size.
fn keep(blobs: &Path, file: &Path) -> anyhow::Result<(String, u64)> {
    let size = fs::metadata(file)?.len();
    let said = run(&["sha256sum", &file.display().to_string()], COMMAND)?;
    let hash = said.split_whitespace().next().context("sha256sum answers a hash")?;
    fs::rename(file, blobs.join(hash))?;
    Ok((format!("sha256:{hash}"), size))
}
