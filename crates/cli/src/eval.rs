use serde::Serialize;

use crate::args::TextArgs;
use crate::exit::BadInput;
use crate::interrupt::Interrupt;
use crate::model_file::read_text;
use crate::open::PipelineSpec;
use crate::{out, stream};

#[derive(Serialize)]
struct Report {
    ids: Vec<u32>,
    /// That of `ids[i + 1]`, at `i`.
    next_logprob: Vec<f32>,
    perplexity: f64,
}

pub(crate) fn run(args: &TextArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let text = read_text(&args.text)?;
    let pipeline = PipelineSpec::new(&args.run, interrupt)?.open()?;
    let ids = pipeline.tokenize(&text, true)?;
    if ids.len() < 2 {
        let (path, count) = (args.text.display(), ids.len());
        let problem =
            format!("{path}: {count} tokens, and perplexity needs at least 2; give a longer text");
        return Err(BadInput(problem).into());
    }
    let scored = pipeline.score(ids.clone(), args.whose.whose());
    let next_logprob = stream::wait(&interrupt.watch(), scored)??;
    let perplexity = perplexity(&next_logprob);
    if args.json.json {
        return out::json(&Report {
            ids,
            next_logprob,
            perplexity,
        });
    }
    let count = ids.len();
    Ok(out::line(&format!(
        "{count} tokens, perplexity {perplexity:.4}"
    ))?)
}

/// The exponential of the mean negative log-probability.
fn perplexity(next_logprob: &[f32]) -> f64 {
    let sum: f64 = next_logprob.iter().map(|&logprob| f64::from(logprob)).sum();
    (-sum / next_logprob.len() as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perplexity_is_the_number_of_equal_choices() {
        let quarter = 0.25f32.ln();
        assert!((perplexity(&[quarter; 7]) - 4.0).abs() < 1e-6);
    }
}
