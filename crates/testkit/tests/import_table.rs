//! The import table of DESIGN.md, held against what Cargo and the sources say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// What each crate may use of ours, by its folder. A crate that is not here fails the test.
const TABLE: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("lease", &["units"]),
    ("model", &["units"]),
    ("hub", &["units", "model"]),
    ("kernels", &["units"]),
    ("governor", &["units"]),
    ("host", &["units", "governor"]),
    ("pipeline", &["units", "lease", "model"]),
    ("cpu", &["units", "lease", "model", "pipeline", "kernels"]),
    ("gpu", &["units", "lease", "model", "pipeline"]),
    (
        "scheduler",
        &[
            "units", "lease", "model", "kernels", "governor", "host", "pipeline", "cpu", "gpu",
        ],
    ),
    ("control", &["host", "scheduler"]),
    ("server", &["units", "scheduler"]),
    (
        "cli",
        &[
            "units",
            "model",
            "hub",
            "host",
            "pipeline",
            "scheduler",
            "control",
            "server",
        ],
    ),
    ("testkit", &["units", "model", "lease", "pipeline"]),
];

/// Libraries that only some of our crates may use.
const CONFINED: &[(&str, &[&str])] = &[
    ("tokio", &["scheduler", "server", "cli"]),
    ("axum", &["server"]),
    ("hyper", &["server"]),
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("anyhow", &["cli"]),
    ("hf-hub", &["hub"]),
    ("wgpu", &["gpu"]),
    ("libc", &["host"]),
    ("rustix", &["host"]),
    ("windows-sys", &["host"]),
    ("sysinfo", &["host"]),
    ("notify", &["control"]),
    ("dbus", &["host"]),
    ("x11rb", &["host"]),
    ("nvml-wrapper", &["host"]),
    ("starship-battery", &["host"]),
    ("jiff", &["host"]),
];

/// Crates with `unsafe` in them; every other forbids it.
const UNSAFE_ALLOWED: &[&str] = &["kernels", "host"];

/// Crates that may ask which operating system they are built for.
const SYSTEM_ALLOWED: &[&str] = &["host", "gpu"];

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.no_deps().other_options(vec!["--offline".into()]);
    command.exec().expect("cargo metadata of this workspace")
}

/// The crate's folder under `crates/`, its name in the table.
fn folder(package: &Package) -> &str {
    let root = package.manifest_path.parent().and_then(|p| p.file_name());
    root.expect("a package has a folder")
}

fn check_each(broken: impl Fn(&Package) -> Vec<String>) {
    let metadata = metadata();
    let packages = metadata.workspace_packages();
    assert!(packages.len() > 5, "the workspace has {}", packages.len());
    let all: Vec<String> = packages.into_iter().flat_map(broken).collect();
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn crates_use_of_ours_only_what_the_table_allows() {
    let metadata = metadata();
    let ours: Vec<(&str, &str)> = metadata
        .workspace_packages()
        .into_iter()
        .map(|p| (p.name.as_str(), folder(p)))
        .collect();
    check_each(|package| {
        let name = folder(package);
        let Some((_, allowed)) = TABLE.iter().find(|(crate_name, _)| *crate_name == name) else {
            return vec![format!("{name} is not in the table")];
        };
        let used = package.dependencies.iter().filter_map(|dependency| {
            let (_, used) = ours.iter().find(|(n, _)| *n == dependency.name)?;
            let for_tests = dependency.kind == DependencyKind::Development;
            let is_fine = allowed.contains(used) || for_tests && *used == "testkit";
            (!is_fine).then(|| format!("{name} must not use {used}"))
        });
        used.collect()
    });
}

#[test]
fn only_their_homes_use_confined_libraries() {
    check_each(|package| {
        let name = folder(package);
        let used = package.dependencies.iter().filter_map(|dependency| {
            let (library, homes) = CONFINED.iter().find(|(l, _)| *l == dependency.name)?;
            let for_tests = dependency.kind == DependencyKind::Development;
            let is_fine = homes.contains(&name) || for_tests;
            (!is_fine).then(|| format!("{name} must not use {library}"))
        });
        used.collect()
    });
}

#[test]
fn unsafe_code_is_forbidden_but_where_it_is_named() {
    check_each(|package| {
        let name = folder(package);
        let roots = package.targets.iter().filter(|target| {
            let kinds = [target.is_lib(), target.is_bin()];
            kinds.contains(&true) && !UNSAFE_ALLOWED.contains(&name)
        });
        let broken = roots.filter_map(|target| {
            let source = fs::read_to_string(&target.src_path).expect("a target has a source");
            let forbids = source.contains("#![forbid(unsafe_code)]");
            (!forbids).then(|| format!("{} does not forbid unsafe code", target.src_path))
        });
        broken.collect()
    });
}

#[test]
fn only_host_asks_for_the_operating_system() {
    // Put together here, so that this file does not find itself.
    let questions: Vec<String> = ["target_os", "target_family", "unix", "windows"]
        .iter()
        .flat_map(|what| [format!("cfg({what}"), format!("cfg!({what}")])
        .collect();
    check_each(|package| {
        let root = package
            .manifest_path
            .parent()
            .expect("a package has a folder");
        if SYSTEM_ALLOWED.contains(&folder(package)) {
            return Vec::new();
        }
        let asks = |path: &PathBuf| {
            let source = fs::read_to_string(path).unwrap_or_default();
            questions.iter().any(|q| source.contains(q.as_str()))
        };
        let files = sources(&root.join("src").into_std_path_buf());
        files
            .iter()
            .filter(|path| asks(path))
            .map(|path| format!("{} asks for the operating system", path.display()))
            .collect()
    });
}

#[test]
fn no_crate_is_named_after_nothing() {
    let nothing = BTreeSet::from(["common", "core", "utils", "types"]);
    check_each(|package| {
        let name = folder(package);
        let bad = nothing
            .contains(name)
            .then(|| format!("{name} says nothing"));
        bad.into_iter().collect()
    });
}

/// Every Rust file under `directory`.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a crate has sources");
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}
