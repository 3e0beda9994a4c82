use gogrid_model::OpenOptions;
use gogrid_pipeline::{OutputBuf, Want};
use gogrid_units::WeightType;

use super::cases::Case;
use super::rig::Rig;
use super::{DeviceContext, Subject};
use crate::random::{Family, RandomModel, Spec};

/// A value that its numbers cannot hold is told, with its row and its place, and is no other row's
/// trouble.
pub fn check_faults(subject: &Subject<'_>) {
    // The attention's values alone, past what a half holds; then the residual stream.
    for (tensor, place) in [
        ("blk.1.attn_v.weight", "attention of layer 1"),
        ("blk.1.ffn_down.weight", "feed-forward of layer 1"),
    ] {
        let case = spoiled(tensor);
        let mut backend = (subject.backend)(DeviceContext::default());
        for cuts in [&[][..], &[3]] {
            let mut rig = Rig::cut(&mut *backend, &case, cuts);
            let out = step(&mut rig, &case);
            let first = out.faults.iter().find(|fault| fault.row == 0);
            let first = first.unwrap_or_else(|| panic!("{tensor}: nothing was told"));
            // A stage that takes the residual stream cannot run again to look for the piece.
            let somewhere = ["the stage of", "attention of layer 2"];
            let somewhere = somewhere.iter().any(|place| first.what.contains(place));
            let named = first.what.contains(place) || !cuts.is_empty() && somewhere;
            assert!(named, "{tensor}, cut before {cuts:?}: {}", first.what);
        }
    }
    let sound = Case::open((Family::Llama, [WeightType::F32; 2]));
    let mut backend = (subject.backend)(DeviceContext::default());
    let out = step(&mut Rig::whole(&mut *backend, &sound), &sound);
    assert_eq!(out.faults, [], "a sound model");
}

fn spoiled(tensor: &str) -> Case {
    let weights = WeightType::F32;
    let spec = Spec {
        family: Family::Llama,
        weights,
        seed: 20,
    };
    let tiny = RandomModel::new(spec).scaled(tensor, 1e6);
    // Beyond the range of f32 itself.
    let tiny = match tensor.contains("attn_v") {
        true => tiny,
        false => tiny.scaled(tensor, 1e30).scaled(tensor, 1e10),
    };
    let options = OpenOptions::default();
    Case::open_model(format!("llama, {tensor}"), ([weights; 2], &tiny), &options)
}

fn step(rig: &mut Rig<'_>, case: &Case) -> OutputBuf {
    let mut sequence = rig.sequence(case.ids[..5].to_vec());
    let wants = |rows: usize| vec![Want::LogProb(1); rows];
    let out = rig.feed_wanting(&mut [(&mut sequence, 5)], &wants);
    rig.end(sequence);
    out
}
