//! The machine image: built once by the recipe, found again by the recipe's hash.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command;
use super::names::short_hash;
use super::spec::{Error, Image, Result};

/// Part of the program, so that it needs no source tree where it runs.
const RECIPE: &str = include_str!("../../image/build.sh");

/// The recipe bounds itself at 20 minutes; this is for the recipe's own end.
const BUILD_MAX: Duration = Duration::from_secs(21 * 60);

/// What the recipe makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    pub base: Image,
    /// For tests of what must be refused: an image without mysqld, and one whose mysqld states another version.
    pub without_mysqld: Image,
    pub other_mysql: Image,
}

impl Images {
    /// Builds the image in `cache`, or finds it there. Two builders at once wait for each other; an interrupted build leaves nothing that
    /// would be taken for an image.
    ///
    /// Errors: [`Error::Command`] with what the recipe printed last.
    pub async fn build(cache: &Path) -> Result<Images> {
        let failed = |source| Error::Io { what: format!("cannot write the recipe to {}", cache.display()), source };
        fs::create_dir_all(cache).map_err(failed)?;
        let recipe = write_recipe(cache).map_err(failed)?;
        let (recipe, cache) = (recipe.to_string_lossy(), cache.to_string_lossy());
        let printed = command::run(&["bash", &recipe, &cache], BUILD_MAX).await.map_err(last_lines)?;
        Images::at(Path::new(printed.trim()))
    }

    fn at(dir: &Path) -> Result<Images> {
        let image = |layers: &[&str], mysql_version| {
            let layers: Vec<PathBuf> = layers.iter().map(|layer| dir.join(layer)).collect();
            Image { mysql_version, layers }
        };
        let version = |layer: &str| {
            let path = dir.join(layer).join("etc/drover-image/mysql-version");
            let read = fs::read_to_string(&path);
            read.map(|text| Some(text.trim().to_owned()))
                .map_err(|source| Error::Io { what: format!("cannot read {}", path.display()), source })
        };
        Ok(Images {
            base: image(&["base"], version("base")?),
            without_mysqld: image(&["without-mysqld", "base"], None),
            other_mysql: image(&["other-mysql", "base"], version("other-mysql")?),
        })
    }
}

/// Named by its content: another version's recipe beside it is another file. A shell reads its script while it runs it, so one that is
/// there may be under execution and is not written again, and it gets its name when it is whole.
fn write_recipe(cache: &Path) -> std::io::Result<PathBuf> {
    let recipe = cache.join(format!("build-{}.sh", short_hash(RECIPE.as_bytes(), 16)));
    if fs::read(&recipe).is_ok_and(|there| there == RECIPE.as_bytes()) {
        return Ok(recipe);
    }
    let staged = cache.join(format!("build-{}.new", std::process::id()));
    fs::write(&staged, RECIPE)?;
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o755))?;
    fs::rename(&staged, &recipe)?;
    Ok(recipe)
}

/// A failed build prints hundreds of lines; the last ones say why.
fn last_lines(error: Error) -> Error {
    match error {
        Error::Command { command, status, stderr } => {
            let lines: Vec<&str> = stderr.lines().collect();
            Error::Command { command, status, stderr: lines[lines.len().saturating_sub(8)..].join("\n") }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_recipe_that_another_shell_may_be_executing_is_not_written_again() {
        let cache = tempfile::tempdir().unwrap();
        let recipe = write_recipe(cache.path()).unwrap();
        let before = fs::metadata(&recipe).unwrap();
        assert_eq!(write_recipe(cache.path()).unwrap(), recipe);
        let after = fs::metadata(&recipe).unwrap();
        assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));

        // One that is not whole is replaced, and never written into.
        fs::write(&recipe, &RECIPE[..100]).unwrap();
        write_recipe(cache.path()).unwrap();
        assert_eq!(fs::read_to_string(&recipe).unwrap(), RECIPE);
        assert_ne!(fs::metadata(&recipe).unwrap().ino(), before.ino());
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
    }
}
