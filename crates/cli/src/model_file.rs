//! The files that `--model` and `--text` name.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use gogrid_host::open_regular;
use gogrid_hub::{Cache, Name, Program, Pulled, catalogue, elsewhere, find};

use crate::bar::Bars;
use crate::exit::BadInput;
use crate::interrupt::Interrupt;
use crate::out;

/// A model that is on this machine.
pub(crate) struct Local {
    pub(crate) path: PathBuf,
    /// The program whose it is, if it is another's.
    pub(crate) program: Option<Program>,
}

/// The path of a model given by path or by a name, fetched if it is not here. A name of the catalogue goes before
/// a file of the same name; `./name` is always the file.
pub(crate) fn resolve(model: &str, interrupt: &Interrupt) -> anyhow::Result<PathBuf> {
    if let Some(local) = local(model, interrupt)? {
        if let Some(program) = local.program {
            out::note(format!(
                "{model}: {}'s, {}",
                program.name(),
                local.path.display()
            ));
        }
        return Ok(local.path);
    }
    let (cache, name) = (Cache::of_user()?, named(model)?);
    if let Some(path) = cache.find(&name) {
        let place = path.display();
        out::note(format!(
            "{place} is damaged, or another file: it is fetched again"
        ));
    }
    let pulled = fetch(&cache, &name, &Bars::new(), interrupt)?;
    let first = pulled.files.into_iter().next();
    first
        .map(|file| file.path)
        .ok_or_else(|| anyhow::anyhow!("{model} has no file"))
}

/// The file or folder that stands here under this name, unless the name is one of the catalogue.
pub(crate) fn path_of(model: &str) -> Option<&Path> {
    let is_entry = matches!(Name::parse(model), Ok(Name::Entry(_))) || find(model).is_ok();
    let path = Path::new(model);
    (!is_entry && path.exists()).then_some(path)
}

/// The model of this path or name, where it is on this machine: in the cache, or in another program's.
pub(crate) fn local(model: &str, interrupt: &Interrupt) -> anyhow::Result<Option<Local>> {
    let own = |path| Local {
        path,
        program: None,
    };
    if let Some(path) = path_of(model) {
        return Ok(Some(own(path.to_owned())));
    }
    if let Ok(name) = &Name::parse(model) {
        let (cache, watch) = (Cache::of_user()?, interrupt.watch());
        if let Some(path) = cache.find_verified(name, &mut Bars::new().bar(&watch))? {
            return Ok(Some(own(path)));
        }
    }
    let others = elsewhere();
    let other = gogrid_hub::named(&others, model);
    Ok(other.map(|(program, held)| Local {
        path: held.path.clone(),
        program: Some(*program),
    }))
}

/// The model of this name, where no file or folder is called so.
pub(crate) fn named(model: &str) -> Result<Name, BadInput> {
    Name::parse(model).map_err(|unknown| {
        let problem = format!("no file or folder {model:?}, and {unknown}");
        BadInput(problem)
    })
}

/// Fetches a model, showing how far it is.
pub(crate) fn fetch(
    cache: &Cache,
    name: &Name,
    bars: &Bars,
    interrupt: &Interrupt,
) -> anyhow::Result<Pulled> {
    if let Name::Entry(entry) = name {
        bars.say(&format!(
            "{}: {}, licence: {}",
            entry.name, entry.bytes, entry.licence
        ));
        if let Some(notice) = entry.notice {
            bars.say(notice);
        }
    }
    let watch = interrupt.watch();
    let pulled = cache.pull(name, &mut bars.bar(&watch))?;
    if let Some(licence) = &pulled.licence {
        bars.say(&format!("{name}: licence: {licence}"));
    }
    Ok(pulled)
}

/// The catalogue, for the help text.
pub(crate) fn catalogue_help() -> String {
    let lines = catalogue().iter().map(|entry| {
        format!(
            "  {:<19} {:>9}  {}\n",
            entry.name,
            entry.bytes.to_string(),
            entry.good_for
        )
    });
    format!("Catalogue:\n{}", lines.collect::<String>())
}

/// Bytes of a text at most: the longest context of any supported model is far below.
pub(crate) const TEXT_BYTES_MAX: u64 = 16 << 20;

/// The name by which standard input stands for a file.
pub(crate) const STANDARD_INPUT: &str = "-";

/// All of standard input, as text. A person who sits there is told how it ends.
pub(crate) fn read_standard_input() -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        out::note("reading standard input; end it with Ctrl-D");
    }
    read_bounded(io::stdin().lock(), "standard input")
}

/// The text in the file at `path`, exactly as it is there, or that of standard input.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    if path == Path::new(STANDARD_INPUT) {
        return read_standard_input();
    }
    let name = path.display().to_string();
    let file = open_regular(path);
    let file = file.map_err(|error| {
        BadInput(format!(
            "cannot read {name}: {error}; give the path of a text file"
        ))
    })?;
    read_bounded(file, &name)
}

/// All that `source` gives, as text; an error that calls it `name` when it cannot be read, is too
/// long, or is not UTF-8.
pub(crate) fn read_bounded(source: impl Read, name: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = source.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| BadInput(format!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        let problem = format!("{name} is over {TEXT_BYTES_MAX} bytes, the most that is taken");
        return Err(BadInput(problem).into());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        BadInput(format!(
            "{name} is not UTF-8 at byte {offset}; only UTF-8 text is taken, so convert it first"
        ))
    })?;
    Ok(text)
}
