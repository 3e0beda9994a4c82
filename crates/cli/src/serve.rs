use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use corpgrid_scheduler::Options;
use futures_executor::block_on;
use gogrid_server::{Keys, ServeOptions, serve};

use crate::args::{LogArg, ServeArgs};
use crate::exit::{BadInput, Interrupted};
use crate::interrupt::Interrupt;
use crate::live::LiveMachine;
use crate::open::MachineSpec;
use crate::shelf::Models;
use crate::{model_file, out};

/// Holds one key, where no file does.
pub(crate) const KEY_VARIABLE: &str = "GOGRID_API_KEY";

/// The model that is served where none is named.
const DEFAULT_MODEL: &str = "smollm2-135m";

pub(crate) fn run(args: &ServeArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    if args.log == LogArg::Json {
        out::log_as_json();
    }
    let Prepared {
        keys,
        spec,
        models,
        names,
    } = prepare(args, interrupt)?;
    let house = LiveMachine::open(spec)?;
    let options = ServeOptions {
        keys,
        without_key: args.without_key.into(),
        keep_alive: args.keep_alive.0,
        deadline: Duration::from_secs_f32(args.deadline),
        drain: Duration::from_secs_f32(args.drain),
        origins: args.origins.clone(),
        ..ServeOptions::new(args.listen, names[0].clone())
    };
    interrupt.be_patient(options.drain);
    let watch = interrupt.watch();
    let serving = serve(options, Arc::clone(house.machine()), Arc::new(models))?;
    let address = serving.address();
    out::note(format!("listening on http://{address}"));
    for name in &names {
        if watch.asked() {
            return Err(Interrupted.into());
        }
        serving
            .open(name)
            .with_context(|| format!("cannot open {name}"))?;
    }
    let mode = house.mode.name();
    out::note(format!(
        "serving {} in mode {mode}; OpenAI clients take http://{address}/v1, and a browser http://{address}/",
        names.join(", ")
    ));
    block_on(watch.wait());
    out::note(
        "ending: no more requests are taken, and those that run go on for a while; once more ends at once",
    );
    serving.end();
    // A server that was told to end and did is no failure.
    Ok(())
}

/// What the options name, read and checked; nothing is open.
pub(crate) struct Prepared {
    pub(crate) keys: Option<Keys>,
    spec: MachineSpec,
    models: Models,
    /// What the models of the command line are called.
    names: Vec<String>,
}

/// Reads what the options name. Models that are not here are fetched.
pub(crate) fn prepare(args: &ServeArgs, interrupt: &Interrupt) -> anyhow::Result<Prepared> {
    let keys = keys(args.api_key_file.as_deref())?;
    let spec = MachineSpec::new(&args.machine)?;
    let template = args.chat_template_file.as_deref();
    let options = Options {
        chat_template: template.map(model_file::read_text).transpose()?,
        ..spec.options.clone()
    };
    let folder = args.folder.as_deref();
    let (models, names) = Models::new(&asked(args), folder, options, interrupt)?;
    Ok(Prepared {
        keys,
        spec,
        models,
        names,
    })
}

/// The models that are opened at once, as they were named.
pub(crate) fn asked(args: &ServeArgs) -> Vec<String> {
    match args.models.is_empty() {
        true => vec![DEFAULT_MODEL.to_owned()],
        false => args.models.clone(),
    }
}

/// The keys of the file, or the one of the environment.
fn keys(file: Option<&Path>) -> anyhow::Result<Option<Keys>> {
    let (text, place) = match (file, env::var(KEY_VARIABLE)) {
        (Some(path), _) => {
            let place = format!("the keys in {}", path.display());
            (model_file::read_text(path)?, place)
        }
        (None, Ok(key)) => (key, format!("the key in {KEY_VARIABLE}")),
        (None, Err(env::VarError::NotPresent)) => return Ok(None),
        (None, Err(problem)) => {
            return Err(BadInput(format!("the key in {KEY_VARIABLE}: {problem}")).into());
        }
    };
    let keys = Keys::parse(&text);
    Ok(Some(
        keys.map_err(|error| BadInput(format!("{place}: {error}")))?,
    ))
}
