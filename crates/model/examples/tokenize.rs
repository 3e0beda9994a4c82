//! Token ids of texts, for comparing with other tokenizers: `tokenize PATH`, where `PATH` is a GGUF
//! file with a vocabulary or a directory with `tokenizer.json`. Reads JSON strings, one a line, and
//! writes a JSON list for each. Two files with the same vocabulary give the same lists.
//!
//! With `--as-text` the names of control tokens are text.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use gogrid_model::{SpecialTokens, Tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut special = SpecialTokens::Parse;
    let mut path = None;
    for argument in std::env::args_os().skip(1) {
        match argument.to_str() {
            Some("--as-text") => special = SpecialTokens::AsText,
            _ => path = Some(PathBuf::from(argument)),
        }
    }
    let path = path.ok_or("usage: tokenize [--as-text] PATH")?;
    let tokenizer = Tokenizer::open(&path)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        let ids = tokenizer.encode(&text, special)?;
        writeln!(out, "{}", serde_json::to_string(&ids)?)?;
    }
    out.flush()?;
    Ok(())
}
