//! Whether a step fits a stage: its rows, its input, its positions and its block tables.

use crate::stage::StageError;
use crate::step::{AXES_MAX, BLOCK_TOKENS, Input, Positions, Rows, SequenceRows, Step};

/// What a stage takes. Text is made only where something does not fit.
#[derive(Clone, Copy, Debug)]
pub struct Takes {
    /// The most rows of a step.
    pub rows_max: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Token ids are below this.
    pub vocab: usize,
    /// Whether rows come in as ids or embeddings; else as the residual stream.
    pub has_embedding: bool,
    /// KV groups of the model.
    pub groups: usize,
}

impl Takes {
    /// Checks a step once, when it comes in.
    ///
    /// # Errors
    /// [`StageError::Shape`] names the first extent that does not fit, [`StageError::Unsupported`] rows whose
    /// position differs from axis to axis.
    pub fn check(&self, step: &Step, input: Input<'_>) -> Result<(), StageError> {
        let (rows, most) = (step.rows(), self.rows_max);
        if rows == 0 || rows > most {
            return Err(misfit("rows", format!("1 to {most}"), rows));
        }
        self.check_input(rows, input)?;
        for rows in &step.sequences {
            check_positions(rows)?;
            let end = rows.start + rows.wants.len();
            if rows.length < end {
                return Err(misfit("length", format!("at least {end}"), rows.length));
            }
            self.check_tables(rows)?;
        }
        Ok(())
    }

    fn check_input(&self, rows: usize, input: Input<'_>) -> Result<(), StageError> {
        match (input, self.has_embedding) {
            (Input::Rows(given), true) if given.len() == rows => self.check_rows(given),
            (Input::Rows(given), true) => Err(misfit("input", rows, given.len())),
            (Input::Hidden(x), false) if x.len() == rows * self.width => Ok(()),
            (Input::Hidden(x), false) => {
                let takes = format!("{} values", rows * self.width);
                Err(misfit("input", takes, x.len()))
            }
            (Input::Rows(_), false) => Err(misfit("input", "the residual stream", "rows of ids")),
            (Input::Hidden(_), true) => Err(misfit("input", "rows of ids", "the residual stream")),
        }
    }

    /// Ids of rows without embeddings of their own, and the others' embeddings.
    fn check_rows(&self, rows: &Rows) -> Result<(), StageError> {
        let mut done = 0;
        for run in &rows.embedded {
            let range = &run.rows;
            if range.start < done || range.is_empty() || range.end > rows.len() {
                let takes = format!("runs of rows in order, from {done} to {}", rows.len());
                return Err(misfit("embedded rows", takes, format!("{range:?}")));
            }
            if run.values.len() != range.len() * self.width {
                let takes = format!("{} values", range.len() * self.width);
                return Err(misfit("embedded rows", takes, run.values.len()));
            }
            self.check_ids(&rows.ids[done..range.start])?;
            done = range.end;
        }
        self.check_ids(&rows.ids[done..])
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), StageError> {
        // A u32 fits a usize on every platform this runs on.
        match ids.iter().find(|&&id| id as usize >= self.vocab) {
            Some(id) => {
                let takes = format!("ids below {}", self.vocab);
                Err(misfit("token id", takes, id))
            }
            None => Ok(()),
        }
    }

    fn check_tables(&self, rows: &SequenceRows) -> Result<(), StageError> {
        let end = (rows.start + rows.wants.len()).div_ceil(BLOCK_TOKENS);
        let written = rows.start / BLOCK_TOKENS..end;
        if rows.tables.len() != self.groups {
            return Err(misfit("block tables", self.groups, rows.tables.len()));
        }
        for table in &rows.tables[..] {
            let blocks = table.get(written.clone());
            if !blocks.is_some_and(|blocks| blocks.iter().all(Option::is_some)) {
                let takes = format!("a block for each of {written:?}");
                let has = format!("{} blocks", table.iter().flatten().count());
                return Err(misfit("block table", takes, has));
            }
        }
        Ok(())
    }
}

/// Positions on several axes are taken where a row's are equal: no model here turns parts of a head
/// by different axes.
fn check_positions(rows: &SequenceRows) -> Result<(), StageError> {
    let Positions::Given { axes, values } = &rows.positions else {
        return Ok(());
    };
    let count = rows.wants.len();
    if !(1..=AXES_MAX).contains(axes) || values.len() != count * axes {
        let takes = format!("{count} rows on 1 to {AXES_MAX} axes");
        let has = format!("{} values on {axes}", values.len());
        return Err(misfit("positions", takes, has));
    }
    let differs = |row: &[u32]| row.iter().any(|position| *position != row[0]);
    match values.chunks_exact(*axes).find(|row| differs(row)) {
        Some(row) => Err(StageError::Unsupported(format!(
            "a row at {row:?}: the model has one axis of positions"
        ))),
        None => Ok(()),
    }
}

fn misfit(what: &'static str, takes: impl ToString, has: impl ToString) -> StageError {
    StageError::Shape {
        what,
        takes: takes.to_string(),
        has: has.to_string(),
    }
}
