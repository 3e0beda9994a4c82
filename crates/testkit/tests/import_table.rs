//! The tables of ARCHITECTURE.md, held against what Cargo and the sources say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand, Package};

/// Names, and the names that belong to each.
type Lists = BTreeMap<String, BTreeSet<String>>;

fn architecture() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    fs::read_to_string(path).expect("the workspace has an ARCHITECTURE.md")
}

/// The first two columns of the table whose first column is headed `head`: each name of the first
/// with the names of the second. A word of `none` in the second stands for no names.
fn lists(text: &str, head: &str, none: &str) -> Result<Lists, String> {
    let head = format!("| {head} |");
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&head));
    lines.next().ok_or_else(|| format!("no table {head:?}"))?;
    let rows = lines.take_while(|line| line.starts_with('|')).skip(1);
    let mut lists = Lists::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [of, values, ..] = cells[..] else {
            return Err(format!("a row with one cell: {row:?}"));
        };
        let values = match values {
            values if values == none => BTreeSet::new(),
            values => names(values)?.into_iter().collect(),
        };
        for name in names(of)? {
            if lists.insert(name.clone(), values.clone()).is_some() {
                return Err(format!("{name} has two rows"));
            }
        }
    }
    match lists.is_empty() {
        true => Err(format!("the table {head:?} is empty")),
        false => Ok(lists),
    }
}

/// Names with commas between them, and nothing else.
fn names(cell: &str) -> Result<Vec<String>, String> {
    let is_part =
        |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || "-_".contains(char);
    let names: Vec<_> = cell.split(", ").map(str::to_owned).collect();
    match names
        .iter()
        .find(|name| name.is_empty() || !name.chars().all(is_part))
    {
        Some(odd) => Err(format!("{odd:?} is no name, in {cell:?}")),
        None => Ok(names),
    }
}

/// The crates named in backquotes in the sentence that begins with `start`, wherever its lines break.
fn sentence(text: &str, start: &str) -> BTreeSet<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, sentence) = text
        .split_once(start)
        .unwrap_or_else(|| panic!("no sentence {start:?}"));
    let end = sentence.find([';', '.']).unwrap_or(sentence.len());
    let quoted = sentence[..end].split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// What each crate may use of ours, by its folder.
fn import_table() -> Lists {
    lists(&architecture(), "crate", "nothing").unwrap_or_else(|fault| panic!("{fault}"))
}

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
fn every_crate_has_a_row_and_a_line_in_the_code_map() {
    let (table, text) = (import_table(), architecture());
    let metadata = metadata();
    let folders: BTreeSet<_> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| folder(package).to_owned())
        .collect();
    assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), folders);
    for (name, used) in &table {
        assert!(used.is_subset(&folders), "{name}: {used:?}");
        let line = format!("\n  {name}/ ");
        assert!(text.contains(&line), "{name} is not in the code map");
    }
}

#[test]
fn crates_use_of_ours_only_what_the_table_allows() {
    let metadata = metadata();
    let ours: BTreeMap<&str, &str> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| (package.name.as_str(), folder(package)))
        .collect();
    let table = import_table();
    check_each(|package| {
        let name = folder(package);
        let Some(allowed) = table.get(name) else {
            return vec![format!("{name} is not in the table")];
        };
        let used = package.dependencies.iter().filter_map(|dependency| {
            let used = *ours.get(dependency.name.as_str())?;
            let is_fine = allowed.contains(used) || is_for_tests(dependency) && used == "testkit";
            (!is_fine).then(|| format!("{name} must not use {used}"))
        });
        used.collect()
    });
}

#[test]
fn only_their_homes_use_confined_libraries() {
    let table = lists(&architecture(), "library", "no crate");
    let table = table.unwrap_or_else(|fault| panic!("{fault}"));
    check_each(|package| {
        let name = folder(package);
        let used = package.dependencies.iter().filter_map(|dependency| {
            let homes = table.get(&dependency.name)?;
            let is_fine = homes.contains(name) || is_for_tests(dependency);
            (!is_fine).then(|| format!("{name} must not use {}", dependency.name))
        });
        used.collect()
    });
}

/// Crates that run a C compiler while they are built, or look for a library of C.
const BUILDERS_OF_C: [&str; 7] = [
    "autotools",
    "bindgen",
    "cc",
    "cmake",
    "nasm-rs",
    "pkg-config",
    "vcpkg",
];

#[test]
fn the_library_builds_no_c() {
    let tree = ["tree", "--locked", "--package", "corpgrid-scheduler"];
    let as_list = ["--edges", "normal,build", "--prefix", "none"];
    let cargo = std::env::var("CARGO").expect("cargo runs this");
    let told = Command::new(cargo).args(tree).args(as_list).output();
    let told = told.expect("cargo tree of this workspace");
    let problem = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{problem}");
    let told = String::from_utf8(told.stdout).expect("names are text");
    let crates: BTreeSet<&str> = told
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(crates.contains("gogrid-host"), "{crates:?}");
    let building = BUILDERS_OF_C.iter().filter(|name| crates.contains(*name));
    let building: Vec<_> = building.collect();
    assert!(
        building.is_empty(),
        "the library's build needs {building:?}"
    );
}

#[test]
fn the_librarys_examples_use_what_its_users_have() {
    let of_users = |package: &Package| package.name == "corpgrid-scheduler";
    let named = ["gogrid_", "gogrid::"];
    check_each(|package| {
        let root = package.manifest_path.parent();
        let root = root.expect("a package has a folder").join("examples");
        let examples = match of_users(package) {
            true => sources(&root.into_std_path_buf()),
            false => Vec::new(),
        };
        let inner = |path: &PathBuf| {
            let source = fs::read_to_string(path).unwrap_or_default();
            // Models made for tests are no part of the library.
            let source = source.replace("gogrid_testkit", "");
            named.iter().any(|name| source.contains(name))
        };
        let broken = examples.iter().filter(|path| inner(path));
        broken
            .map(|path| format!("{} uses what a user has not", path.display()))
            .collect()
    });
}

fn is_for_tests(dependency: &Dependency) -> bool {
    dependency.kind == DependencyKind::Development
}

#[test]
fn unsafe_code_is_forbidden_but_where_it_is_named() {
    let allowed = sentence(&architecture(), "`unsafe` is in");
    check_each(|package| {
        let name = folder(package);
        let roots = package.targets.iter().filter(|target| {
            let kinds = [target.is_lib(), target.is_bin()];
            kinds.contains(&true) && !allowed.contains(name)
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
    let allowed = sentence(&architecture(), "`cfg(target_os)` is in");
    // Put together here, so that this file does not find itself.
    let questions: Vec<String> = ["target_os", "target_family", "unix", "windows"]
        .iter()
        .flat_map(|key| [format!("cfg({key}"), format!("cfg!({key}")])
        .collect();
    check_each(|package| {
        let root = package
            .manifest_path
            .parent()
            .expect("a package has a folder");
        if allowed.contains(folder(package)) {
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

#[test]
fn a_table_that_is_no_list_is_refused() {
    let check = |rows: &str, evidence: &str| {
        let text = format!("text\n\n| crate | may use of ours |\n|---|---|\n{rows}\nmore text");
        let fault = lists(&text, "crate", "nothing").unwrap_err();
        assert!(fault.contains(evidence), "{fault}");
    };
    check("", "empty");
    check("| units |", "one cell");
    check("| scheduler | all above but hub |", "all above but hub");
    check("| scheduler | units and lease |", "units and lease");
    check("| lease | units |\n| lease | model |", "two rows");
    check("| lease | units, |", "units,");
    assert!(
        lists("no table", "crate", "nothing")
            .unwrap_err()
            .contains("no table")
    );
}

#[test]
fn a_table_is_read_as_it_is_written() {
    let text = "| crate | may use of ours | never knows |\n|---|---|---|\n\
                | units | nothing | anything |\n| lease, model | units, x-y | devices, clocks |\n";
    let read = lists(text, "crate", "nothing").unwrap();
    let set = |names: &[&str]| {
        names
            .iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(read.len(), 3);
    assert_eq!(read["units"], set(&[]));
    assert_eq!(
        (&read["lease"], &read["model"]),
        (&set(&["units", "x-y"]), &set(&["units", "x-y"]))
    );
    assert_eq!(
        sentence(
            "`a` is in `b` (c) and `d` and nowhere else; `e`.",
            "`a` is in"
        ),
        set(&["b", "d"])
    );
}
