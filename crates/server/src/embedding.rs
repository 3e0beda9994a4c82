//! Vectors of texts.

use std::time::Duration;

use corpgrid_scheduler::Whose;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

use crate::caller::Terms;
use crate::error::ApiError;
use crate::limits::{EMBEDDING_AT_ONCE, TOKENIZED_BYTES_MAX};
use crate::models::Lent;
use crate::shared::Shared;
use crate::texts::TextOrIds;

/// The vectors, of length one each, in the order of the texts.
pub(crate) struct Embedded {
    pub(crate) vectors: Vec<Vec<f32>>,
    /// Of all texts.
    pub(crate) tokens: usize,
}

/// Vectors are as long as their model has them.
pub(crate) fn refuse_dimensions(asked: Option<usize>) -> Result<(), ApiError> {
    match asked {
        None => Ok(()),
        Some(_) => Err(ApiError::unsupported("dimensions", "shortening vectors")),
    }
}

/// The vectors of texts, by a model that is made for it, within the time that a request has.
pub(crate) async fn embed_texts(
    shared: &Shared,
    model: &Lent,
    texts: Vec<TextOrIds>,
    terms: &Terms,
) -> Result<Embedded, ApiError> {
    if shared.drain.has_begun() {
        return Err(ApiError::draining());
    }
    let (deadline, whose) = (terms.deadline, terms.owner.whose);
    tokio::select! {
        () = shared.drain.over() => Err(ApiError::draining()),
        embedded = timeout(deadline, embed_now(shared, model, texts, whose)) => {
            embedded.unwrap_or_else(|_| {
                let message = format!("no vectors within {:.0} s", deadline.as_secs_f64());
                let late = ApiError::unavailable(message, "deadline");
                Err(late.after(Duration::from_secs(5)))
            })
        }
    }
}

async fn embed_now(
    shared: &Shared,
    model: &Lent,
    texts: Vec<TextOrIds>,
    whose: Whose,
) -> Result<Embedded, ApiError> {
    let Some(pooling) = model.pipeline.model().pooling() else {
        let problem = format!("{} is a model for text and makes no vectors", model.name);
        return Err(ApiError::bad("model", problem).coded("unsupported"));
    };
    let long = |text: &TextOrIds| matches!(text, TextOrIds::Text(text) if text.len() > TOKENIZED_BYTES_MAX);
    if texts.iter().any(long) {
        let problem = format!("a text of more than {TOKENIZED_BYTES_MAX} bytes");
        return Err(ApiError::bad("input", problem));
    }
    let again = model.again();
    let work = move || {
        let ids = texts.into_iter().map(|text| match text {
            TextOrIds::Ids(ids) => Ok(ids),
            TextOrIds::Text(text) => Ok(again.pipeline.tokenize(&text, true)?),
        });
        ids.collect::<Result<Vec<_>, ApiError>>()
    };
    let all = shared.workers.run(work).await?;
    let tokens = all.iter().map(Vec::len).sum();
    let vectors = stream::iter(all).map(|ids| model.pipeline.embed(ids, pooling, whose));
    let mut vectors: Vec<Vec<f32>> = vectors.buffered(EMBEDDING_AT_ONCE).try_collect().await?;
    vectors.iter_mut().for_each(|vector| normalise(vector));
    Ok(Embedded { vectors, tokens })
}

/// Makes a vector's length one; one of zeros stays so.
fn normalise(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    if square > 0.0 {
        let length = square.sqrt();
        for value in vector {
            *value = (f64::from(*value) / length) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one() {
        let mut vector = [3.0, 4.0];
        normalise(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut zero = [0.0; 2];
        normalise(&mut zero);
        assert_eq!(zero, [0.0; 2]);
    }
}
