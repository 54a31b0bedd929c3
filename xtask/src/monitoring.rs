//! The files that Grafana and Prometheus read, from their definitions in `crates/monitoring`.

use std::path::Path;

use anyhow::Context as _;

use crate::run;

/// Where dashboards lie. One that is no longer defined goes.
const DASHBOARDS: &str = "deploy/monitoring/grafana/dashboards";

/// Writes all of them.
///
/// # Errors
/// If one cannot be written.
pub fn run() -> anyhow::Result<()> {
    let root = run::root();
    let dashboards = root.join(DASHBOARDS);
    if dashboards.exists() {
        std::fs::remove_dir_all(&dashboards).context("remove the dashboards that there were")?;
    }
    for file in monitoring::files() {
        let path = root.join(&file.path);
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        std::fs::write(&path, &file.text).with_context(|| format!("write {}", file.path))?;
        println!("{}", file.path);
    }
    Ok(())
}
