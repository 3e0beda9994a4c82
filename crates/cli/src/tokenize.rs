use gogrid_model::{Model, OpenOptions, SpecialTokens};
use serde::Serialize;

use crate::args::TokenizeArgs;
use crate::interrupt::Interrupt;
use crate::model_file::{read_text, resolve};
use crate::out;

#[derive(Serialize)]
struct Report {
    ids: Vec<u32>,
}

pub(crate) fn run(args: &TokenizeArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let text = read_text(&args.text)?;
    let path = resolve(&args.model.model, interrupt)?;
    let model = Model::open(&path, &OpenOptions::default())?;
    let ids = model.tokenizer().encode(&text, SpecialTokens::Parse)?;
    if args.json.json {
        return out::json(&Report { ids });
    }
    let words: Vec<_> = ids.iter().map(u32::to_string).collect();
    Ok(out::line(&words.join(" "))?)
}
