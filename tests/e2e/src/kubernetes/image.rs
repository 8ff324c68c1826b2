//! Container images of one program, made without any tool for images: files, hashes and tar(1).

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{cloud::image_cache, programs::run};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kubernetes/images");
const COMMAND: Duration = Duration::from_secs(60);
/// What the images are of: the kernel's name for an architecture is not the registries'.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Compiles `tests/kubernetes/images/<name>.c` and packs it as the image `drover.test/<name>:1`, whose entry point it is. Answers the
/// OCI archive, `<dir>/<name>.tar`.
pub fn image_of_program(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let root = dir.join(format!("{name}.root"));
    fs::create_dir_all(&root)?;
    let (source, program) = (format!("{SOURCES}/{name}.c"), root.join(name).display().to_string());
    run(&["cc", "-static", "-O2", "-o", &program, &source], COMMAND).context("tests/setup.sh installs a compiler")?;
    pack(dir, name, &root)
}

/// Packs the `mysql` of the machines, with the libraries that it is linked with, in the same way.
pub fn image_of_mysql(dir: &Path) -> anyhow::Result<PathBuf> {
    const NAME: &str = "mysql";
    let machine = newest_machine_image()?;
    let (root, from) = (dir.join(format!("{NAME}.root")), machine.display().to_string());
    let linked = run(&["chroot", &from, "ldd", "/usr/bin/mysql"], COMMAND)?;
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
    let place = |path: &str, to: &str| -> anyhow::Result<()> {
        let real = run(&["chroot", &from, "realpath", path], COMMAND)?;
        let to = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a file in a directory")?)?;
        fs::copy(machine.join(real.trim().trim_start_matches('/')), &to).with_context(|| path.to_owned())?;
        Ok(())
    };
    for library in libraries {
        place(library, library)?;
    }
    place("/usr/bin/mysql", NAME)?;
    pack(dir, NAME, &root)
}

/// The file system that machines are booted from.
fn newest_machine_image() -> anyhow::Result<PathBuf> {
    let all =
        fs::read_dir(image_cache())?.map(|entry| Ok(entry?.path().join("base"))).collect::<anyhow::Result<Vec<_>>>()?;
    let with_mysql = all.into_iter().filter(|base| base.join("usr/bin/mysql").exists());
    let made = |base: &PathBuf| fs::metadata(base).and_then(|base| base.modified()).ok();
    with_mysql.max_by_key(made).context("there is no machine image: `make machine-image`")
}

/// Packs `root` as the image `drover.test/<name>:1` whose entry point is `/<name>`, and removes it.
fn pack(dir: &Path, name: &str, root: &Path) -> anyhow::Result<PathBuf> {
    let (work, archive) = (dir.join(format!("{name}.image")), dir.join(format!("{name}.tar")));
    let (layout, blobs) = (work.join("layout"), work.join("layout/blobs/sha256"));
    fs::create_dir_all(&blobs)?;
    let layer = work.join("layer.tar");
    tar(&layer, root)?;
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
    fs::remove_dir_all(root)?;
    Ok(archive)
}

/// What pods call it.
pub fn reference(name: &str) -> String {
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
