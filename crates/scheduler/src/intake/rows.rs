use gogrid_pipeline::{AXES_MAX, EmbeddedRows, Positions, Rows};

use super::bad;
use crate::error::Refusal;
use crate::limits::EMBEDDED_RUNS_MAX;
use crate::request::PromptRows;

/// What a model takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Takes {
    /// Ids below this.
    pub(super) vocab: usize,
    /// Values of an embedding.
    pub(super) width: usize,
    /// Positions below this, and as many rows at most.
    pub(super) context: usize,
}

impl Takes {
    /// Whether the rows of a prompt make sense; says for how many tokens after them there is room,
    /// at least one.
    pub(super) fn check(self, prompt: &PromptRows) -> Result<usize, Refusal> {
        let PromptRows { rows, positions } = prompt;
        let (tokens, context) = (rows.len(), self.context);
        if tokens == 0 {
            return Err(bad("prompt", "no tokens"));
        }
        if tokens >= context {
            return Err(Refusal::PromptTooLong { tokens, context });
        }
        self.check_embedded(rows)?;
        if let Some(id) = prompt
            .tokens()
            .iter()
            .find(|&&id| id as usize >= self.vocab)
        {
            return Err(self.no_token("prompt", *id));
        }
        let past = check_positions(positions, tokens)?;
        match context.checked_sub(past.max(tokens)) {
            None | Some(0) => {
                let last = context.saturating_sub(2);
                let problem = format!("{}; at most {last} in a context of {context}", past - 1);
                Err(bad("prompt.positions", problem))
            }
            Some(room) => Ok(room),
        }
    }

    pub(super) fn no_token(self, field: &'static str, id: u32) -> Refusal {
        bad(field, format!("token {id}; the model has {}", self.vocab))
    }

    fn check_embedded(self, rows: &Rows) -> Result<(), Refusal> {
        let refuse = |problem: String| Err(bad("prompt.rows.embedded", problem));
        let runs = rows.embedded.len();
        if runs > EMBEDDED_RUNS_MAX {
            return refuse(format!("{runs} runs of rows; at most {EMBEDDED_RUNS_MAX}"));
        }
        let (mut after, all) = (0, rows.len());
        for EmbeddedRows { rows, values } in &rows.embedded {
            let (start, end) = (rows.start, rows.end);
            if start < after || end <= start || end > all {
                let problem = format!("rows {start}..{end}; must be in {after}..{all}, not none");
                return refuse(problem);
            }
            after = end;
            let needed = (end - start) * self.width;
            if values.len() != needed {
                let (has, width) = (values.len(), self.width);
                let rows = format!("rows {start}..{end} of width {width}");
                return refuse(format!("{has} values; {rows} have {needed}"));
            }
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (row, value) = (start + at / self.width, values[at]);
                return refuse(format!("{value} in row {row}; must be finite"));
            }
        }
        Ok(())
    }
}

/// One past the largest position.
fn check_positions(positions: &Positions, rows: usize) -> Result<usize, Refusal> {
    let Positions::Given { axes, values } = positions else {
        return Ok(rows);
    };
    let refuse = |problem: String| Err(bad("prompt.positions", problem));
    if !(1..=AXES_MAX).contains(axes) {
        return refuse(format!("{axes} axes; 1 to {AXES_MAX} allowed"));
    }
    let (has, needed) = (values.len(), rows * axes);
    if has != needed {
        return refuse(format!(
            "{has} values; {rows} rows on {axes} axes have {needed}"
        ));
    }
    // No family that is supported has positions of more than one axis.
    let differ = values
        .chunks_exact(*axes)
        .position(|at| at.iter().any(|one| *one != at[0]));
    if let Some(row) = differ {
        return refuse(format!(
            "row {row} stands elsewhere on one axis than on another; this model has one"
        ));
    }
    let largest = values.iter().max().map_or(0, |&most| most as usize);
    Ok(largest.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const TAKES: Takes = Takes {
        vocab: 10,
        width: 2,
        context: 8,
    };

    fn rows(runs: &[(Range<usize>, &[f32])]) -> PromptRows {
        let mut prompt = PromptRows::of_ids(vec![1; 4]);
        prompt.rows.embedded = runs
            .iter()
            .map(|(rows, values)| EmbeddedRows {
                rows: rows.clone(),
                values: (*values).into(),
            })
            .collect();
        prompt
    }

    fn at(axes: usize, values: &[u32]) -> PromptRows {
        let positions = Positions::Given {
            axes,
            values: values.into(),
        };
        PromptRows {
            positions,
            ..PromptRows::of_ids(vec![1; 4])
        }
    }

    fn check_refused(prompt: PromptRows, expected: &str) {
        let refusal = TAKES.check(&prompt).expect_err(expected);
        assert_eq!(refusal.to_string(), expected);
    }

    #[test]
    fn rows_that_make_sense_leave_the_rest_of_the_context() {
        assert_eq!(TAKES.check(&PromptRows::of_ids(vec![9; 7])), Ok(1));
        let mut prompt = rows(&[(0..1, &[0.0; 2]), (1..3, &[-1.0; 4])]);
        assert_eq!(TAKES.check(&prompt), Ok(4));
        // The id of a row with an embedding is not looked at.
        prompt.rows.ids[2] = u32::MAX;
        assert_eq!(TAKES.check(&prompt), Ok(4));
        assert_eq!(
            TAKES.check(&at(3, &[0, 0, 0, 6, 6, 6, 1, 1, 1, 0, 0, 0])),
            Ok(1)
        );
        assert_eq!(
            TAKES.check(&at(1, &[0, 0, 1, 1])),
            Ok(4),
            "as many as rows, at least"
        );
    }

    #[test]
    fn ids_that_are_none_or_too_many_are_refused() {
        check_refused(PromptRows::default(), "prompt: no tokens");
        check_refused(
            PromptRows::of_ids(vec![1, 10]),
            "prompt: token 10; the model has 10",
        );
        let refusal = TAKES.check(&PromptRows::of_ids(vec![1; 8]));
        let (tokens, context) = (8, 8);
        assert_eq!(refusal, Err(Refusal::PromptTooLong { tokens, context }));
    }

    #[test]
    fn embeddings_that_do_not_fit_are_refused() {
        let order = "prompt.rows.embedded: rows 1..2; must be in 2..4, not none";
        check_refused(rows(&[(0..2, &[0.0; 4]), (1..2, &[0.0; 2])]), order);
        let none = "prompt.rows.embedded: rows 1..1; must be in 0..4, not none";
        check_refused(rows(&[(1..1, &[])]), none);
        let beyond = "prompt.rows.embedded: rows 3..5; must be in 0..4, not none";
        check_refused(rows(&[(3..5, &[0.0; 4])]), beyond);
        let width = "prompt.rows.embedded: 3 values; rows 0..1 of width 2 have 2";
        check_refused(rows(&[(0..1, &[0.0; 3])]), width);
        let finite = "prompt.rows.embedded: NaN in row 2; must be finite";
        check_refused(rows(&[(1..3, &[0.0, 1.0, 2.0, f32::NAN])]), finite);
        let many = PromptRows {
            rows: Rows {
                ids: vec![1; 4],
                embedded: vec![rows(&[(0..1, &[0.0; 2])]).rows.embedded.remove(0); 4097],
            },
            positions: Positions::Sequential,
        };
        check_refused(
            many,
            "prompt.rows.embedded: 4097 runs of rows; at most 4096",
        );
    }

    #[test]
    fn positions_that_do_not_fit_are_refused() {
        check_refused(
            at(2, &[0, 0, 6, 6, 1, 2, 0, 0]),
            "prompt.positions: row 2 stands elsewhere on one axis than on another; this model \
             has one",
        );
        check_refused(at(0, &[]), "prompt.positions: 0 axes; 1 to 3 allowed");
        check_refused(at(4, &[0; 16]), "prompt.positions: 4 axes; 1 to 3 allowed");
        let length = "prompt.positions: 7 values; 4 rows on 2 axes have 8";
        check_refused(at(2, &[0; 7]), length);
        let far = "prompt.positions: 7; at most 6 in a context of 8";
        check_refused(at(1, &[0, 1, 2, 7]), far);
        let farther = "prompt.positions: 4294967295; at most 6 in a context of 8";
        check_refused(at(1, &[0, 1, 2, u32::MAX]), farther);
    }
}
