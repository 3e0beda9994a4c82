//! How a failed command ends: the fault, a remedy, and an exit code by class.

use std::error::Error;
use std::process::ExitCode;
use std::{fmt, io};

use corpgrid_scheduler::{GenerateError, OpenError, Refusal};
use gogrid_control::{Cause, ClientError, Refused};
use gogrid_host::ServiceError;
use gogrid_hub::{Cache, HubError, UnknownModel};
use gogrid_model::ModelError;
use gogrid_server::ServeError;

use crate::exit::{
    BadInput, DEVICE, INPUT, INTERNAL, INTERRUPTED, Interrupted, LIMIT, NETWORK, NOT_RUNNING,
    NoCommand, NotRunning, USAGE, WrongUsage,
};
use crate::out::{self, OutputError};

/// Prints the error to standard error and gives the code to exit with. A reader of our output that
/// has gone is no failure: it had all it wanted.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if matches!(error.downcast_ref(), Some(OutputError::Gone)) {
        return ExitCode::SUCCESS;
    }
    let code = exit_code(error);
    let is_told = error.is::<NoCommand>() || code == INTERRUPTED;
    if !is_told {
        out::error(format!("error: {}", message(error)));
        if let Some(remedy) = advice(error) {
            out::error(format!("  help: {remedy}"));
        }
    }
    ExitCode::from(code)
}

/// Says what a command line without a command asks for, the help or the version, or what is wrong
/// with it.
pub(crate) fn no_command(instead: &clap::Error) -> anyhow::Result<()> {
    let text = instead.render().to_string();
    if instead.use_stderr() {
        out::error(text.trim_end());
        return Err(NoCommand.into());
    }
    Ok(out::text(&text)?)
}

/// The causes from the outermost in. Some errors quote their cause, which is not said twice.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let cause = error.chain().find_map(|cause| {
        None.or_else(|| cause.downcast_ref().map(of_open))
            .or_else(|| cause.downcast_ref().map(of_refusal))
            .or_else(|| cause.downcast_ref().map(of_generate))
            .or_else(|| cause.downcast_ref().map(of_hub))
            .or_else(|| cause.downcast_ref().map(of_client))
            .or_else(|| cause.downcast_ref().map(of_serve))
            .or_else(|| cause.downcast_ref().map(of_service))
            .or_else(|| cause.downcast_ref().and_then(of_io))
            .or_else(|| cause.is::<NotRunning>().then_some(NOT_RUNNING))
            .or_else(|| cause.is::<NoCommand>().then_some(USAGE))
            .or_else(|| cause.is::<WrongUsage>().then_some(USAGE))
            .or_else(|| cause.is::<UnknownModel>().then_some(INPUT))
            .or_else(|| cause.is::<ModelError>().then_some(INPUT))
            .or_else(|| cause.is::<BadInput>().then_some(INPUT))
            .or_else(|| cause.is::<Interrupted>().then_some(INTERRUPTED))
    });
    cause.unwrap_or(INTERNAL)
}

fn of_open(error: &OpenError) -> u8 {
    match error {
        OpenError::BadDevice(_) | OpenError::Device { .. } => DEVICE,
        OpenError::Config(_) | OpenError::NoCompute(_) | OpenError::BadOption { .. } => USAGE,
        OpenError::Model { .. } | OpenError::Unsupported { .. } => INPUT,
        OpenError::DoesNotFit(_) | OpenError::NoThread { .. } => LIMIT,
        _ => INTERNAL,
    }
}

fn of_refusal(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::PromptTooLong { .. } => INPUT,
        Refusal::TooManyQueued { .. }
        | Refusal::MemoryCap { .. }
        | Refusal::NoRoomForText { .. }
        | Refusal::OverCap { .. }
        | Refusal::Finishing => LIMIT,
        Refusal::BadRequest { .. } => USAGE,
        _ => INTERNAL,
    }
}

fn of_generate(error: &GenerateError) -> u8 {
    match error {
        GenerateError::Stage { .. } | GenerateError::NoPlaceLeft { .. } => DEVICE,
        GenerateError::OutOfMemory { .. } => LIMIT,
        GenerateError::Refused(refusal) => of_refusal(refusal),
        _ => INTERNAL,
    }
}

fn of_hub(error: &HubError) -> u8 {
    match error {
        HubError::Cancelled { .. } => INTERRUPTED,
        _ => NETWORK,
    }
}

fn of_service(error: &ServiceError) -> u8 {
    match error {
        ServiceError::NotSupported(_)
        | ServiceError::Missing { .. }
        | ServiceError::NoFolder(_) => USAGE,
        ServiceError::NotOurs { .. } => INPUT,
        ServiceError::File { .. } | ServiceError::Refused { .. } => INTERNAL,
    }
}

/// Memory that the system refused, or a thread, which it says would have to be waited for.
fn of_io(error: &io::Error) -> Option<u8> {
    let refused = [io::ErrorKind::OutOfMemory, io::ErrorKind::WouldBlock];
    refused.contains(&error.kind()).then_some(LIMIT)
}

fn of_serve(error: &ServeError) -> u8 {
    match error {
        ServeError::Listen { .. } | ServeError::Open(_) => USAGE,
        ServeError::Thread(_) => LIMIT,
        _ => INTERNAL,
    }
}

fn of_client(error: &ClientError) -> u8 {
    match error {
        ClientError::Refused(refused) => match refused.cause {
            Cause::Settings | Cause::Stages | Cause::Request => USAGE,
            Cause::Pipeline | Cause::Busy => LIMIT,
        },
        ClientError::Unreachable { .. } | ClientError::NoAnswer { .. } => NOT_RUNNING,
    }
}

/// An error with a remedy that depends on how the program was called.
#[derive(Debug)]
pub(crate) struct Advised {
    pub(crate) error: anyhow::Error,
    pub(crate) advice: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Advised {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.error.as_ref())
    }
}

/// The remedy, where the message does not give one itself.
fn advice(error: &anyhow::Error) -> Option<String> {
    let advised = error.chain().find_map(|cause| {
        let advised = cause.downcast_ref::<Advised>()?;
        Some(advised.advice.clone())
    });
    let of_model = || {
        let mut models = error
            .chain()
            .filter_map(|cause| match cause.downcast_ref() {
                Some(OpenError::Model(model)) => Some(model),
                _ => cause.downcast_ref(),
            });
        of_model_file(models.next()?)
    };
    advised
        .or_else(of_model)
        .or_else(|| remedy(error).map(str::to_owned))
}

/// What to do about a model's file. One of the catalogue's can be had again.
fn of_model_file(error: &ModelError) -> Option<String> {
    let (ModelError::Malformed { file, field, .. } | ModelError::Missing { file, field, .. }) =
        error
    else {
        return None;
    };
    let cached = Cache::of_user().ok().and_then(|cache| cache.name_of(file));
    if let Some(name) = cached {
        return Some(format!(
            "`gogrid pull {name}` checks the file, and fetches it again if it is damaged; if it is as it should be, take \
             another model"
        ));
    }
    let is_gguf = matches!(error, ModelError::Malformed { .. })
        && file.extension().is_none_or(|kind| kind != "json");
    is_gguf.then(|| match field.as_str() {
        "no GGUF file" | "magic" => "--model takes a GGUF file, a folder with config.json, safetensors and tokenizer.json, or a name of \
             `gogrid list`".to_owned(),
        _ => "the file is damaged, or was not fetched whole: fetch it again from where it came".to_owned(),
    })
}

/// The remedy that is the same however the program was called.
fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        let open = cause.downcast_ref().and_then(|error| match error {
            OpenError::DoesNotFit(_) => {
                Some("take a smaller model, add a --device, lower --context, or raise max_vram_usage_percent")
            }
            OpenError::NoThread { .. } => {
                Some("the system has no room for more threads, in memory or in number: `ulimit -a`")
            }
            OpenError::BadDevice(_) => Some("`gogrid devices` lists what there is; each core may be named once"),
            _ => None,
        });
        let refusal = match cause.downcast_ref() {
            Some(GenerateError::Refused(refusal)) => Some(refusal),
            _ => cause.downcast_ref(),
        };
        let refusal = refusal.and_then(|refusal| match refusal {
            Refusal::PromptTooLong { .. } => Some("shorten the prompt, or raise --context"),
            Refusal::Finishing => Some("`gogrid limits resume` lets it accept again"),
            Refusal::OverCap { .. } => Some("try again when the requests that run have ended"),
            Refusal::MemoryCap { .. } => {
                Some("lower --max-tokens, shorten the prompt, or raise max_vram_usage_percent")
            }
            _ => None,
        });
        let refused = match cause.downcast_ref() {
            Some(ClientError::Refused(refused)) => Some(refused),
            _ => cause.downcast_ref::<Refused>(),
        };
        let refused = refused.and_then(|refused| match refused.cause {
            Cause::Stages => Some(
                "`gogrid limits get` shows devices and pieces; stages follow one another from piece 0 to the last",
            ),
            _ => None,
        });
        let not_running = cause.downcast_ref().map(|error| match error {
            NotRunning::None => {
                "start one, such as `gogrid chat`, under the same user; each one that runs a model listens"
            }
            NotRunning::Not(_) => "`gogrid ps` lists those that run",
        });
        let output = cause.downcast_ref().and_then(|error| match error {
            OutputError::Failed(_) => Some("make room there, or write elsewhere"),
            OutputError::Gone => None,
        });
        let serve = cause.downcast_ref().and_then(|error| match error {
            ServeError::Listen { .. } => Some("name another address or port with --listen"),
            _ => None,
        });
        let told = open.or(refusal).or(refused).or(not_running);
        told.or(output).or(serve)
    })
}

#[cfg(test)]
mod tests {
    use gogrid_host::HostError;

    use super::*;

    #[test]
    fn each_class_has_its_code() {
        let check = |error: anyhow::Error, code: u8| {
            assert_eq!(exit_code(&error), code, "{error:#}");
            assert_eq!(exit_code(&error.context("while testing")), code);
        };
        check(anyhow::anyhow!("unexpected"), 1);
        check(
            Refusal::BadRequest {
                field: "x",
                problem: "y".into(),
            }
            .into(),
            2,
        );
        check(BadInput("x".into()).into(), 3);
        check(
            Refusal::PromptTooLong {
                tokens: 9,
                context: 8,
            }
            .into(),
            3,
        );
        check(OpenError::DoesNotFit("x".into()).into(), 4);
        check(HubError::NoCacheFolder.into(), 5);
        check(
            OpenError::Device {
                device: "cpu".into(),
                problem: "x".into(),
            }
            .into(),
            6,
        );
        check(OpenError::BadDevice("x".into()).into(), 6);
        check(
            GenerateError::Refused(Refusal::PromptTooLong {
                tokens: 9,
                context: 8,
            })
            .into(),
            3,
        );
        check(Interrupted.into(), 130);
    }

    #[test]
    fn a_cause_that_is_quoted_is_not_said_twice() {
        let disk = || io::Error::other("disk on fire");
        let quoted = HubError::Cache {
            doing: "lock",
            path: "x".into(),
            source: disk(),
        };
        assert_eq!(message(&quoted.into()).matches("disk on fire").count(), 1);
        let hidden = anyhow::Error::from(disk()).context("cannot lock x");
        assert_eq!(message(&hidden), "cannot lock x: disk on fire");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_another_closed_pipe_is_one() {
        let code = |error: anyhow::Error| format!("{:?}", report(&error));
        let (success, internal) = (ExitCode::SUCCESS, ExitCode::from(INTERNAL));
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        let gone = OutputError::from(closed()).into();
        assert_eq!(code(gone), format!("{success:?}"));
        assert_eq!(code(closed().into()), format!("{internal:?}"));
        let full = OutputError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(code(full.into()), format!("{internal:?}"));
    }

    #[test]
    fn memory_that_is_refused_is_a_limit_wherever_it_was_asked_for() {
        for kind in [io::ErrorKind::OutOfMemory, io::ErrorKind::WouldBlock] {
            let refused = || io::Error::from(kind);
            let error = anyhow::Error::from(refused()).context("cannot start a thread");
            assert_eq!(exit_code(&error), LIMIT);
            let within = HostError::Call {
                call: "thread",
                source: refused(),
            };
            assert_eq!(exit_code(&within.into()), LIMIT);
        }
    }
}
