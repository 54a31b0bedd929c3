//! A tree that grows by containers of a real Docker engine: what its controller starts there plays, comes back, is found again,
//! and goes.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, ensure};
use tests::docker::{self, Docker, run};
use tests::growth::{self, FEW, Stage, make_tree};
use tests::installation::receive;
use tests::program::{self, until};
use tests::tools;

type Result = anyhow::Result<()>;

const IMAGE: &str = "media-tree-test/scaling";
/// Beyond the ports that the kernel gives to those who connect somewhere: no container finds its own taken.
const FIRST_PORT: u16 = 61_000;
/// What nobody is to read in what Docker shows of containers.
const SECRET: &str = "turn-secret-of-this-installation";
const OWNER: &str = "media-tree-test";

/// Containers outlive their controller; none outlives a test.
struct Containers;

impl Containers {
    /// What `docker ps` says of nodes' containers, each in this form, stopped ones too.
    fn list(form: &str) -> anyhow::Result<Vec<String>> {
        let mut command = Command::new("docker");
        command.args(["ps", "--all", "--filter", "label=media-tree.place", "--format", form]);
        Ok(run(&mut command)?.lines().map(str::to_owned).collect())
    }

    /// Ids by names.
    fn ids() -> anyhow::Result<BTreeMap<String, String>> {
        let split = |line: String| {
            let (name, id) = line.split_once(' ')?;
            Some((name.to_owned(), id.to_owned()))
        };
        Ok(Self::list("{{.Names}} {{.ID}}")?.into_iter().filter_map(split).collect())
    }

    /// How many there are of a role.
    fn of(role: &str) -> anyhow::Result<usize> {
        Ok(Self::list(r#"{{.Label "media-tree.role"}}"#)?.iter().filter(|label| *label == role).count())
    }

    /// The names of those of egress nodes, with their first ports.
    fn egress() -> anyhow::Result<Vec<(String, String)>> {
        let lines = Self::list(r#"{{.Names}} {{.Label "media-tree.ports"}}"#)?;
        let split = |line: &String| {
            let (name, ports) = line.split_once(' ')?;
            Some((name.to_owned(), ports.split_once('-')?.0.to_owned()))
        };
        Ok(lines.iter().filter_map(split).filter(|(name, _)| name.contains("-egress-")).collect())
    }

    /// What they have printed.
    fn logs() -> String {
        let logs = |name: &String| {
            let output = Command::new("docker").args(["logs", "--tail", "40", name]).output().ok()?;
            Some(format!("--- {name}\n{}", String::from_utf8_lossy(&output.stderr)))
        };
        Self::ids().unwrap_or_default().keys().filter_map(logs).collect()
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for name in Self::ids().unwrap_or_default().keys() {
            let _ = Command::new("docker").args(["rm", "--force", name]).output();
        }
    }
}

fn controller() -> program::Builder {
    growth::controller().with(&[
        "--scaling-provisioner=docker",
        "--scaling-image",
        IMAGE,
        "--scaling-owner",
        OWNER,
        "--scaling-port",
        &FIRST_PORT.to_string(),
        "--turn-secret",
        SECRET,
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_grows_by_containers_which_come_back_are_found_again_and_go() -> Result {
    const NAME: &str = "a_tree_grows_by_containers_which_come_back_are_found_again_and_go";
    if !docker::PARTS.into_iter().all(|part| tools::has(NAME, part)) || !tools::is_root(NAME) {
        return Ok(());
    }
    let docker = Docker::start().await?;
    let files: &[&str] = &[];
    docker.image(IMAGE, &program::path()?, (files, "ENTRYPOINT [\"media-tree\"]"))?;
    let _containers = Containers;
    let mut stage = Stage::set(controller()).await?;
    if let Err(error) = plays(&mut stage).await {
        let logs = Containers::logs();
        return Err(error.context(format!("{logs}\n--- controller\n{}", stage.controller.log())));
    }
    Ok(())
}

async fn plays(stage: &mut Stage) -> Result {
    stage.until_slots(&[("warm", 1), ("cold", 1)]).await?;
    ensure!((Containers::of("relay")?, Containers::of("egress")?) == (1, 0), "the warm relay is there");
    let crowd = stage.fill().await?;
    ensure!((Containers::of("relay")?, Containers::of("egress")?) == (2, 2), "a sub-tree, and a warm relay");
    let mut viewer = stage.join().await?;
    ensure!(!stage.is_at_first(viewer.url()), "that one is full");
    receive(&mut viewer, FEW).await.context("media comes from a container")?;
    no_secret_is_shown()?;

    one_that_is_killed_comes_back(stage, viewer.url()).await?;
    receive(&mut viewer, FEW).await.context("the other ones go on")?;

    // Its store was in its memory, and is gone with it.
    let before = Containers::ids()?;
    stage.controller.signal("KILL")?;
    stage.controller.exit_code().await?;
    receive(&mut viewer, FEW).await.context("media needs no controller")?;
    stage.controller = controller().in_place_of(&stage.controller).start().await?;
    make_tree(&stage.controller).await?;
    stage.until_slots(&[("attached", 1), ("warm", 1), ("cold", 1)]).await?;
    stage.until_healthy(6).await?;
    let after = Containers::ids()?;
    ensure!(before == after, "the same containers run: {before:?} {after:?}");
    receive(&mut viewer, FEW).await?;

    viewer.close().await?;
    for viewer in crowd {
        viewer.close().await?;
    }
    stage.until_slots(&[("warm", 1), ("cold", 1)]).await?;
    until("nothing is left of the sub-tree", async || {
        Ok((Containers::of("relay")?, Containers::of("egress")?) == (1, 0))
    })
    .await
}

/// What whoever may look at containers sees has no secret; their file has it, and is read by nobody but them.
fn no_secret_is_shown() -> Result {
    let names: Vec<String> = Containers::ids()?.into_keys().collect();
    let shown = run(Command::new("docker").arg("inspect").args(&names))?;
    ensure!(shown.contains("/media-tree/node.toml") && !shown.contains(SECRET), "{shown}");
    for name in names {
        let folder = tempfile::tempdir()?;
        let archive = folder.path().join("archive.tar");
        let copied = Command::new("docker")
            .args(["cp", &format!("{name}:/media-tree/node.toml"), "-"])
            .stdout(std::fs::File::create(&archive)?)
            .status()?;
        ensure!(copied.success(), "the file of {name} is not there");
        let listed = run(Command::new("tar").arg("--numeric-owner").arg("-tvf").arg(&archive))?;
        ensure!(listed.starts_with("-rw------- 65534/65534 "), "{listed}");
        ensure!(std::fs::read_to_string(&archive)?.contains(SECRET), "it is configured with it");
    }
    Ok(())
}

async fn one_that_is_killed_comes_back(stage: &Stage, viewer: &str) -> Result {
    let all = Containers::egress()?;
    let (name, _) = all.iter().find(|(_, port)| !viewer.contains(&format!(":{port}/"))).context("another")?;
    let id = |ids: &BTreeMap<String, String>| ids.get(name).cloned();
    let before = id(&Containers::ids()?);
    run(Command::new("docker").args(["kill", name]))?;
    until("it is started again", async || {
        let now = id(&Containers::ids()?);
        Ok(now.is_some() && now != before)
    })
    .await?;
    stage.until_healthy(6).await
}
