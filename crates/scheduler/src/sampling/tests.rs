use proptest::prelude::*;

use super::*;

fn settings() -> Sampling {
    Sampling {
        temperature: 1.0,
        ..Sampling::default()
    }
}

/// The token after `history`, if the logits say anything.
fn next(sampler: &mut Sampler, logits: &[f32], (history, index): (&[u32], u64)) -> Option<u32> {
    sampler.hold(logits)?;
    sampler.choose(history, index, None).map(|choice| choice.id)
}

fn choose(settings: Sampling, logits: &[f32], index: u64) -> u32 {
    let chosen = next(&mut Sampler::new(settings), logits, (&[], index));
    chosen.expect("a logit is finite")
}

/// How often each of the tokens comes in 20,000 draws.
fn frequencies(settings: &Sampling, logits: &[f32]) -> Vec<f64> {
    let mut counts = vec![0.0; logits.len()];
    let mut sampler = Sampler::new(settings.clone());
    for index in 0..20_000 {
        let chosen = next(&mut sampler, logits, (&[], index));
        counts[chosen.expect("a logit is finite") as usize] += 1.0 / 20_000.0;
    }
    counts
}

#[test]
fn greedy_takes_the_lowest_of_equals_and_ignores_nan() {
    let greedy = Sampling::default();
    assert_eq!(choose(greedy.clone(), &[f32::NAN, 1.0, 3.0, 3.0], 0), 2);
    assert_eq!(choose(greedy, &[f32::NEG_INFINITY, f32::MIN, 1.0], 0), 2);
}

#[test]
fn logits_that_say_nothing_give_no_token() {
    for settings in [Sampling::default(), settings()] {
        let mut sampler = Sampler::new(settings);
        for greatest in [f32::NAN, f32::NEG_INFINITY, f32::INFINITY] {
            let logits = [f32::NAN, greatest, f32::NEG_INFINITY];
            assert_eq!(sampler.hold(&logits), None, "{greatest}");
        }
        assert_eq!(next(&mut sampler, &[f32::NAN, -1e30], (&[], 0)), Some(1));
    }
}

#[test]
fn draws_follow_the_softmax_at_the_temperature() {
    let logits = [0.0, 1.0, 2.0, f32::NAN];
    for temperature in [0.5_f32, 1.0, 2.0] {
        let found = frequencies(
            &Sampling {
                temperature,
                ..settings()
            },
            &logits,
        );
        let weights: Vec<f64> = logits[..3]
            .iter()
            .map(|&l| f64::from(l / temperature).exp())
            .collect();
        let total: f64 = weights.iter().sum();
        for (id, weight) in weights.iter().enumerate() {
            // Four standard deviations of 20,000 draws are at most 0.0142.
            assert!(
                (found[id] - weight / total).abs() < 0.0142,
                "{temperature} {id} {found:?}"
            );
        }
        assert_eq!(found[3], 0.0);
    }
}

#[test]
fn top_p_keeps_the_fewest_that_reach_it() {
    // Probabilities 0.5, 0.3, 0.2 in another order.
    let logits = [0.2_f32.ln(), 0.5_f32.ln(), 0.3_f32.ln()];
    let kept = |top_p| {
        let found = frequencies(
            &Sampling {
                top_p,
                ..settings()
            },
            &logits,
        );
        (0..3).filter(|&id| found[id] > 0.0).collect::<Vec<_>>()
    };
    assert_eq!(kept(0.0), [1]);
    assert_eq!(kept(0.49), [1]);
    assert_eq!(kept(0.6), [1, 2]);
    assert_eq!(kept(0.9), [0, 1, 2]);
}

#[test]
fn min_p_is_relative_to_the_likeliest() {
    let logits = [0.2_f32.ln(), 0.5_f32.ln(), 0.3_f32.ln()];
    let found = frequencies(
        &Sampling {
            min_p: 0.55,
            ..settings()
        },
        &logits,
    );
    assert_eq!(found[0], 0.0);
    assert!(found[2] > 0.3);
}

#[test]
fn penalties_lower_what_was_seen_within_last_n() {
    let seen = |settings: Sampling, history: &[u32]| {
        let mut sampler = Sampler::new(settings);
        let chosen = next(&mut sampler, &[2.0, 1.9, -3.0], (history, 0));
        chosen.expect("they are finite")
    };
    let repetition = Sampling {
        repetition_penalty: 1.5,
        last_n: 2,
        ..Sampling::default()
    };
    assert_eq!(seen(repetition.clone(), &[0]), 1);
    assert_eq!(seen(repetition, &[0, 2, 2]), 0, "token 0 is too long ago");
    let frequency = Sampling {
        frequency_penalty: 0.06,
        ..Sampling::default()
    };
    assert_eq!(seen(frequency.clone(), &[0]), 0);
    assert_eq!(seen(frequency, &[0, 0]), 1);
    let presence = Sampling {
        presence_penalty: 0.06,
        ..Sampling::default()
    };
    assert_eq!(seen(presence, &[0, 0]), 0);
}

#[test]
fn a_bias_moves_tokens_and_its_ends_ban_and_force_them() {
    let biased = |bias: &[(u32, f32)], temperature| Sampling {
        logit_bias: bias.iter().copied().collect(),
        temperature,
        ..Sampling::default()
    };
    let logits = [2.0, 1.5, -30.0];
    assert_eq!(choose(biased(&[(1, 0.4)], 0.0), &logits, 0), 0);
    assert_eq!(choose(biased(&[(1, 0.6)], 0.0), &logits, 0), 1);
    let banned = frequencies(&biased(&[(0, -100.0)], 1.0), &logits);
    assert_eq!((banned[0], banned[1]), (0.0, banned[1].max(0.99)));
    let forced = frequencies(&biased(&[(2, 100.0)], 1.0), &logits);
    assert!(forced[2] > 0.99, "{forced:?}");
}

#[test]
fn a_bias_comes_after_penalties() {
    let settings = Sampling {
        repetition_penalty: 2.0,
        logit_bias: [(0, 1.5)].into(),
        ..Sampling::default()
    };
    // 2 / 2 + 1.5, and not (2 + 1.5) / 2.
    let chosen = next(&mut Sampler::new(settings), &[2.0, 2.4], (&[0], 0));
    assert_eq!(chosen, Some(0));
}

#[test]
fn a_choice_tells_the_logit_that_the_model_gave() {
    let settings = Sampling {
        repetition_penalty: 2.0,
        frequency_penalty: -1.0,
        logit_bias: [(0, 50.0)].into(),
        ..Sampling::default()
    };
    let mut sampler = Sampler::new(settings);
    sampler.hold(&[2.0, 2.4, 7.0]).expect("they are finite");
    let choice = sampler.choose(&[0, 0], 0, None);
    assert_eq!(choice, Some(Choice { id: 0, logit: 2.0 }));
}

#[test]
fn only_what_is_allowed_is_chosen_before_everything_else() {
    let logits = [9.0, 8.0, 1.0, f32::NAN, 0.0];
    let allowed = |ids: &[u32]| ids.iter().copied().collect::<TokenSet>();
    let settings = [
        Sampling::default(),
        Sampling {
            top_k: 1,
            top_p: 0.1,
            min_p: 0.9,
            ..settings()
        },
    ];
    for settings in settings {
        let mut sampler = Sampler::new(settings);
        let mut chosen = |set: &TokenSet| {
            sampler.hold(&logits).expect("they are finite");
            sampler.choose(&[], 0, Some(set)).map(|choice| choice.id)
        };
        assert_eq!(chosen(&allowed(&[4, 2])), Some(2));
        // One that the model holds for impossible, where there is no other.
        assert_eq!(chosen(&allowed(&[3])), Some(3));
        assert_eq!(chosen(&allowed(&[])), None);
        assert_eq!(chosen(&allowed(&[5, 64, 1000])), None);
    }
}

#[test]
fn log_probabilities_are_those_of_the_softmax_with_the_likeliest_in_order() {
    let logits = [1.0, 3.0, f32::NAN, 3.0, f32::NEG_INFINITY, -2.0];
    let told = Distribution::of(&logits, 3).token(5, -2.0);
    let total: f64 = [1.0_f64, 3.0, 3.0, -2.0].map(f64::exp).iter().sum();
    let expected = |logit: f64| (logit - total.ln()) as f32;
    assert_eq!((told.id, told.log_prob), (5, expected(-2.0)));
    let top = [(1, expected(3.0)), (3, expected(3.0)), (0, expected(1.0))];
    assert_eq!(told.top, top);
    let none = Distribution::of(&logits, 0).token(2, f32::NAN);
    assert_eq!((none.log_prob, none.top.len()), (f32::NEG_INFINITY, 0));
    // What is impossible is not among the likeliest, however many are asked for.
    assert_eq!(Distribution::of(&logits, 20).token(0, 1.0).top.len(), 4);
}

proptest! {
    #[test]
    fn probabilities_sum_to_one_and_the_top_is_sorted(
        logits in prop::collection::vec(-30.0_f32..30.0, 1..400),
        top in 0_usize..=20,
    ) {
        let told = Distribution::of(&logits, top).token(0, logits[0]);
        prop_assert_eq!(told.top.len(), top.min(logits.len()));
        let mut sorted: Vec<u32> = (0..logits.len() as u32).collect();
        sorted.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        let ids: Vec<u32> = told.top.iter().map(|(id, _)| *id).collect();
        prop_assert_eq!(&ids[..], &sorted[..ids.len()]);
        let all = Distribution::of(&logits, logits.len()).token(0, logits[0]);
        let sum: f64 = all.top.iter().map(|(_, log_prob)| f64::from(*log_prob).exp()).sum();
        prop_assert!((sum - 1.0).abs() < 1e-4, "{}", sum);
        let of_first = all.top.iter().find(|(id, _)| *id == 0).map(|(_, log_prob)| *log_prob);
        prop_assert_eq!(of_first, Some(told.log_prob));
    }

    /// Against the definition, done the slow way.
    #[test]
    fn the_cut_is_the_definition(
        logits in prop::collection::vec(-20.0_f32..20.0, 1..2000),
        top_k in prop_oneof![Just(0), 0_usize..400],
        top_p in prop_oneof![Just(1.0), 0.0_f32..0.999],
        min_p in prop_oneof![Just(0.0), 0.0_f32..=0.5],
        temperature in prop::sample::select(vec![0.1_f32, 1.0, 30.0]),
    ) {
        let settings = Sampling { top_k, top_p, min_p, temperature, ..settings() };
        let mut sampler = Sampler::new(settings);
        sampler.logits = logits.clone();
        sampler.cut(None);
        let mut kept: Vec<u32> = sampler.candidates.iter().map(|c| c.id).collect();
        kept.sort_unstable();

        let mut sorted: Vec<u32> = (0..logits.len() as u32).collect();
        sorted.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        if top_k > 0 {
            sorted.truncate(top_k);
        }
        let top = logits[sorted[0] as usize];
        let weight = |id: u32| {
            let below = f64::from(logits[id as usize]) - f64::from(top);
            (below / f64::from(temperature)).exp()
        };
        let total: f64 = sorted.iter().map(|&id| weight(id)).sum();
        let mut sum = 0.0;
        let mut expected = Vec::new();
        for id in sorted {
            if top_p < 1.0 && sum >= f64::from(top_p) * total && !expected.is_empty() {
                break;
            }
            sum += weight(id);
            expected.push(id);
        }
        expected.retain(|&id| weight(id) >= f64::from(min_p));
        expected.sort_unstable();
        // Sums in another order may differ in the last bit, and so the last token kept.
        prop_assert!(kept.len().abs_diff(expected.len()) <= 1);
        let (short, long) = if kept.len() < expected.len() { (kept, expected) } else { (expected, kept) };
        prop_assert!(short.iter().all(|id| long.contains(id)));
    }

    #[test]
    fn any_logits_give_a_token_of_the_vocabulary_or_none(
        bits in prop::collection::vec(any::<u32>(), 1..300),
        temperature in prop::sample::select(vec![0.0_f32, 1e-30, 0.7, 1e30]),
        top_p in 0.0_f32..=1.0,
        penalty in 0.1_f32..10.0,
        index in any::<u64>(),
    ) {
        let logits: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let settings = Sampling { temperature, top_p, repetition_penalty: penalty, ..settings() };
        let history: Vec<u32> = (0..400).collect();
        let token = next(&mut Sampler::new(settings), &logits, (&history, index));
        let infinite = logits.contains(&f32::INFINITY);
        let some = !infinite && logits.iter().any(|logit| logit.is_finite());
        prop_assert_eq!(token.is_some(), some);
        prop_assert!(token.is_none_or(|token| !logits[token as usize].is_nan()));
    }

    /// However the text is cut, what is let through is the same, and ends before the stop string
    /// that is complete first.
    #[test]
    fn stop_strings_do_not_depend_on_the_cuts(
        text in "[abé]{0,24}",
        stops in prop::collection::vec("[abé]{1,4}", 0..4),
        cuts in prop::collection::vec(any::<bool>(), 24),
    ) {
        let whole: Vec<char> = text.chars().collect();
        let mut watch = StopWatch::new(stops.clone());
        let (mut found, mut met, mut piece) = (String::new(), false, String::new());
        for (i, c) in whole.iter().enumerate() {
            piece.push(*c);
            if cuts[i] && !met {
                let (text, hit) = watch.push(&std::mem::take(&mut piece));
                found += &text;
                met = hit;
            }
        }
        if !met {
            let (text, hit) = watch.push(&piece);
            found += &text;
            met = hit;
        }
        if !met {
            found += &watch.finish();
        }
        let ends = (0..=text.len()).filter(|&end| text.is_char_boundary(end));
        let first = ends.filter_map(|end| {
            let before = &text[..end];
            let longest = stops.iter().filter(|s| before.ends_with(s.as_str())).map(String::len).max()?;
            Some(&text[..end - longest])
        }).next();
        prop_assert_eq!(met, first.is_some());
        prop_assert_eq!(found, first.unwrap_or(&text));
    }
}
