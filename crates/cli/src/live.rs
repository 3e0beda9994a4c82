//! A pipeline that commands of other processes and a watched file change while it runs.

use std::ops::Deref;
use std::sync::Arc;

use anyhow::Context;
use corpgrid_scheduler::{HeterogeneousPipeline, Mode, Settings};
use futures_executor::block_on;
use gogrid_control::{Command, Control, Controlled, News, Server, SettingsFile, Watch};
use serde_json::Value;

/// The name under which running processes are found.
pub(crate) const PROGRAM: &str = "gogrid";

/// An open pipeline under control from outside. Control ends before the pipeline does.
pub(crate) struct Live {
    _server: Option<Server>,
    _watch: Option<Watch>,
    /// The mode it was opened in.
    pub(crate) mode: Mode,
    pipeline: Arc<HeterogeneousPipeline>,
}

impl Live {
    pub(crate) fn new(
        pipeline: HeterogeneousPipeline,
        mode: Mode,
        file: Option<SettingsFile>,
    ) -> anyhow::Result<Self> {
        let pipeline = Arc::new(pipeline);
        let controlled = Handle {
            pipeline: Arc::clone(&pipeline),
        };
        let control = Arc::new(Control::new(Arc::new(controlled)));
        let watch = file
            .map(|file| {
                let path = file.path().display().to_string();
                let report = move |news: &News| report(&path, news);
                Watch::start(file, Arc::clone(&control), report)
            })
            .transpose()
            .context("cannot watch the file of --limits")?;
        let server = Server::start(PROGRAM, control).map_err(|error| {
            // This process can do its work all the same.
            eprintln!("warning: `gogrid limits` cannot reach this process: {error}");
        });
        Ok(Self {
            _server: server.ok(),
            _watch: watch,
            mode,
            pipeline,
        })
    }

    /// The pipeline, to be held by several owners.
    pub(crate) fn pipeline(&self) -> &Arc<HeterogeneousPipeline> {
        &self.pipeline
    }
}

impl Deref for Live {
    type Target = HeterogeneousPipeline;

    fn deref(&self) -> &HeterogeneousPipeline {
        &self.pipeline
    }
}

fn report(path: &str, news: &News) {
    match news {
        News::Taken => eprintln!("{path}: in force"),
        News::Kept(problem) => eprintln!("warning: {path}: {problem}; the old limits still hold"),
    }
}

/// The pipeline as commands see it.
struct Handle {
    pipeline: Arc<HeterogeneousPipeline>,
}

impl Controlled for Handle {
    fn settings(&self) -> Settings {
        self.pipeline.settings()
    }

    fn apply(&self, settings: Settings) -> Result<(), String> {
        let applied = block_on(self.pipeline.set_settings(settings));
        applied.map_err(|error| error.to_string())
    }

    fn command(&self, command: Command) -> Result<(), String> {
        block_on(async {
            match command {
                Command::Pause => self.pipeline.pause().await,
                Command::Resume => self.pipeline.resume().await,
                Command::Snooze(time) => self.pipeline.snooze(time).await,
                Command::Finish => self.pipeline.finish().await,
            }
        });
        Ok(())
    }

    fn snapshot(&self) -> Value {
        let status = block_on(self.pipeline.status());
        serde_json::to_value(status).expect("a status is plain data with text for keys")
    }
}
