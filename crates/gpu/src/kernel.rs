//! Every kernel there is, by what it is made for.

use gogrid_units::WeightType;

use crate::passes::{self, Attend};
use crate::products::{MatMat, MatVec};

/// A kernel; equal ones are compiled once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    MatVec(MatVec),
    MatMat(MatMat),
    Embed(WeightType),
    RootMeanSquare,
    AddNormed,
    NormRows,
    /// Whether the activation is SiLU, else GELU.
    Gate(bool),
    TurnAndKeep,
    Attend(Attend),
    Merge,
    Watch,
    Gather,
    Softcap,
    LogProbs,
    Checksum,
}

impl Kernel {
    /// For messages.
    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    /// Its WGSL.
    pub(crate) fn text(self) -> String {
        match self {
            Self::MatVec(kernel) => kernel.text(),
            Self::MatMat(kernel) => kernel.text(),
            Self::Embed(ty) => passes::embed(ty),
            Self::RootMeanSquare => passes::root_mean_square(),
            Self::AddNormed => passes::add_normed(),
            Self::NormRows => passes::norm_rows(),
            Self::Gate(is_silu) => passes::gate(is_silu),
            Self::TurnAndKeep => passes::turn_and_keep(),
            Self::Attend(kernel) => kernel.text(),
            Self::Merge => passes::merge(),
            Self::Watch => passes::watch(),
            Self::Gather => passes::gather(),
            Self::Softcap => passes::softcap(),
            Self::LogProbs => passes::log_probs(),
            Self::Checksum => passes::checksum(),
        }
    }

    /// For each of its bindings, whether it writes there.
    pub(crate) fn written(self) -> &'static [bool] {
        match self {
            Self::MatVec(_) => &[false, false, false, false, true],
            Self::MatMat(_) => &[false, false, false, false, true, false],
            Self::Embed(_) => &[false, false, false, true],
            Self::RootMeanSquare | Self::Merge | Self::Watch | Self::Checksum => &[false, true],
            Self::AddNormed | Self::Gather | Self::LogProbs => &[false, false, true],
            Self::Gate(_) | Self::Softcap => &[true],
            Self::NormRows => &[true, false],
            Self::TurnAndKeep => &[true, false, false, true, true, true, true, true],
            Self::Attend(_) => &[false, false, true, false, false, false, false],
        }
    }
}
