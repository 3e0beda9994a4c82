use std::collections::BTreeMap;

use crate::request::Sampling;

/// Lowers the logits of tokens among the last of `history`, `[vocab]`, and notes what they were.
pub(super) fn apply(
    settings: &Sampling,
    history: &[u32],
    (logits, changed): (&mut [f32], &mut Vec<(u32, f32)>),
) {
    let Sampling {
        repetition_penalty,
        frequency_penalty,
        presence_penalty,
        ..
    } = *settings;
    if repetition_penalty == 1.0 && frequency_penalty == 0.0 && presence_penalty == 0.0 {
        return;
    }
    let recent = &history[history.len().saturating_sub(settings.last_n)..];
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    for &id in recent {
        *seen.entry(id).or_default() += 1;
    }
    for (id, times) in seen {
        let Some(logit) = logits.get_mut(id as usize) else {
            continue;
        };
        changed.push((id, *logit));
        let scaled = match *logit > 0.0 {
            true => *logit / repetition_penalty,
            false => *logit * repetition_penalty,
        };
        let lowered = scaled - times as f32 * frequency_penalty - presence_penalty;
        *logit = lowered.clamp(f32::MIN, f32::MAX);
    }
}
